"""Targets: files, notebooks, modules, arguments; what cannot be loaded is one sentence.

And which lines of them made a module, wrote into a parameter, or list some numbers.
"""

from __future__ import annotations

import json
import linecache
from pathlib import Path

import pytest
import torch
from torch import nn

from resnetlab.comparison import compare_models, load_target
from resnetlab.comparison.candidate import Making, condition_of, handed_on, line_with, origin_of
from resnetlab.errors import UserError


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("x = 1", "ResNet", "has no 'ResNet'"),
        ("class ResNet50: pass", "ResNet5", "did you mean 'ResNet50'"),
        ("def net(block, layers): pass", "net", "needs the arguments block and layers"),
        (
            "def net():\n    return 1 / 0",
            "net",
            "division by zero (net.py, line 2)",
        ),
        ("net = [1]", "net", "is a list"),
        ("def net():\n    return 3", "net", "returns a int"),
        ("import nowhere_to_be_found", "net", "cannot be imported"),
        ("import sys\nsys.exit(2)", "net", "cannot be imported"),
        ("def net(:", "net", "SyntaxError"),
    ],
)
def test_unloadable_target_is_one_sentence(tmp_path, code: str, name: str, message: str) -> None:
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(UserError) as caught:
        load_target(f"{tmp_path}/net.py:{name}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_target_that_names_nothing() -> None:
    with pytest.raises(UserError, match="there is no file nowhere"):
        load_target("nowhere.py:ResNet")
    with pytest.raises(UserError, match="names no network; write path"):
        load_target("nowhere")
    with pytest.raises(UserError, match=r"there is no file nowhere\.py"):
        load_target("nowhere.py")
    with pytest.raises(UserError, match="no module or file"):
        load_target("no_such_module:ResNet")


def test_target_without_a_name_is_told_the_names_in_the_file(tmp_path) -> None:
    code = """
raise SystemExit("it is not run")
class Block(nn.Module):
    def __init__(self, width): ...
    def forward(self, x): ...
class Net(nn.Module):
    def __init__(self, num_classes, *, width=8): ...
    def forward(self, x): ...
def train(model, data): ...
def resnet18(classes=10): ...
def _resnet(): ...
"""
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(UserError, match=r"write .*net.py:resnet18\. It defines resnet18, Net\."):
        load_target(f"{tmp_path}/net.py")
    notebook(tmp_path / "net.ipynb", "x = 1", "def build(): ...")
    with pytest.raises(UserError, match=r"write .*net.ipynb:build\.$"):
        load_target(f"{tmp_path}/net.ipynb")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 300 + ".py", "File name too long"),
        ("folder.py", "cannot read .*: it is a folder"),
        ("w.pt", "compare reads .py, .ipynb and .txt"),
        ("bytes.py", "cannot be imported"),
        ("bytes.ipynb", "is not a notebook"),
    ],
)
def test_what_is_no_code_is_one_sentence(tmp_path, name: str, message: str) -> None:
    (tmp_path / "folder.py").mkdir()
    for file in ("w.pt", "bytes.py", "bytes.ipynb"):
        (tmp_path / file).write_bytes(b"PK\x03\x04\x00\xff")
    with pytest.raises(UserError, match=message) as caught:
        load_target(f"{tmp_path}/{name}:Net")
    assert "\n" not in str(caught.value)


def test_home_of_nobody() -> None:
    with pytest.raises(UserError, match="no-such-user"):
        load_target("~no-such-user/net.py:Net")


def test_neighbouring_files_and_modules_can_be_imported(tmp_path, capsys) -> None:
    for folder, width in (("one", 4), ("two", 8)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "blocks.py").write_text(f"width = {width}")
        (tmp_path / folder / "net.py").write_text(
            "from torch import nn\nimport blocks\nprint('hello')\n"
            "class Net(nn.Conv2d):\n"
            "    def __init__(self, num_classes, in_chans=3):\n"
            "        super().__init__(in_chans, blocks.width, num_classes)\n"
        )
        model = load_target(f"{tmp_path}/{folder}/net.py:Net", num_classes=5, in_channels=2)
        assert isinstance(model, nn.Conv2d)
        assert (model.out_channels, model.kernel_size, model.in_channels) == (width, (5, 5), 2)
    assert capsys.readouterr().out == ""
    assert isinstance(load_target("torchvision.models:resnet18"), nn.Module)


CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, depth, width=8):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(3, width, 1) for _ in range(depth)
        )
"""


def test_arguments_are_literals(tmp_path) -> None:
    (tmp_path / "net.py").write_text(CODE)
    model = load_target(f"{tmp_path}/net.py:Net(depth=2, width=4)")
    assert [conv.out_channels for conv in model.layers] == [4, 4]  # type: ignore[union-attr]
    assert origin_of(model).name == "Net(depth=2, width=4)"
    assert len(load_target(f"{tmp_path}/net.py:Net(3)").layers) == 3  # type: ignore[arg-type]
    with pytest.raises(UserError, match="must be literals"):
        load_target(f"{tmp_path}/net.py:Net(depth=open('x'))")
    with pytest.raises(UserError, match=r"needs the argument depth; write Net\(depth=...\)"):
        load_target(f"{tmp_path}/net.py:Net")


def test_text_file_is_read(tmp_path) -> None:
    (tmp_path / "net.txt").write_text(CODE)
    assert len(load_target(f"{tmp_path}/net.txt:Net(1)").layers) == 1  # type: ignore[arg-type]


def test_other_endings_are_refused(tmp_path) -> None:
    (tmp_path / "net.csv").write_text("")
    with pytest.raises(UserError, match=r"reads .py, .ipynb and .txt"):
        load_target(f"{tmp_path}/net.csv:Net")


def notebook(path, *cells: str) -> None:
    rows = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# x"}, *rows]}))


def test_notebook_is_its_cells_without_magics(tmp_path) -> None:
    file = tmp_path / "my notebook.ipynb"
    notebook(
        file,
        "%matplotlib inline\n!pip install x\nimport torch",
        "%%bash\nls",
        "data = open('nowhere')",
        CODE + "\n%timeit 1",
        "raise SystemExit('a training')",
    )
    model = load_target(f"{file}:Net(2)")
    assert len(model.layers) == 2  # type: ignore[arg-type]
    (file_of_cell, line), *_ = origin_of(model).made["layers"].lines
    assert file_of_cell.endswith("my notebook.ipynb, cell 4")
    assert line == 8


def test_notebook_without_the_name_says_what_failed(tmp_path) -> None:
    file = tmp_path / "net.ipynb"
    notebook(file, "1 / 0")
    with pytest.raises(UserError, match=r"division by zero \(net.ipynb, cell 1, line 1\)"):
        load_target(f"{file}:Net")
    file.write_text("{}")
    with pytest.raises(UserError, match="is not a notebook"):
        load_target(f"{file}:Net")


@pytest.mark.parametrize("line", ["set_default_dtype(torch.float64)", "set_default_device('meta')"])
def test_what_a_file_sets_in_torch_stays_in_it(tmp_path, line: str) -> None:
    (tmp_path / "net.py").write_text(
        f"import torch\nfrom resnetlab.models.resnet import create_model\ntorch.{line}\n"
        "def net():\n    return create_model('resnet20')\n"
    )
    assert compare_models(load_target(f"{tmp_path}/net.py:net")).verdict == "identical"
    assert torch.get_default_dtype() is torch.float32
    assert torch.get_default_device().type == "cpu"


def made() -> tuple[nn.Sequential, Making]:
    with Making() as making:
        net = nn.Sequential(*(nn.BatchNorm2d(2) for _ in range(7)))
        net[1].weight.data.fill_(0)
        net[2].apply(lambda module: nn.init.zeros_(module.weight))
        with torch.no_grad():
            net[3].weight[:1] = 0  # by way of a view
        net[4].weight.data.zero_()
        net[4].weight = nn.Parameter(torch.zeros(2))
        net[5].weight.data.fill_(1)
        net[5].weight.data.zero_()
        nn.init.constant_(net[6].weight, 0)
    return net, making


def codes(lines) -> dict[str, str]:
    return {name: linecache.getline(*line).strip() for name, line in lines.items()}


def test_last_line_that_wrote_into_a_parameter() -> None:
    net, making = made()
    lines = making.of_parameters(net)
    assert codes(lines) == {
        "1.weight": "net[1].weight.data.fill_(0)",
        "2.weight": "net[2].apply(lambda module: nn.init.zeros_(module.weight))",
        "3.weight": "net[3].weight[:1] = 0  # by way of a view",
        "5.weight": "net[5].weight.data.zero_()",
        "6.weight": "nn.init.constant_(net[6].weight, 0)",
    }


def test_line_that_freezes_a_parameter() -> None:
    with Making() as making:
        net = nn.Sequential(*(nn.BatchNorm2d(2) for _ in range(3)))
        net[0].requires_grad_(False)
        for parameter in net[1].parameters():
            parameter.requires_grad = False
    lines = making.of_frozen(net)
    assert codes(lines) == {
        "0.weight": "net[0].requires_grad_(False)",
        "0.bias": "net[0].requires_grad_(False)",
        "1.weight": "parameter.requires_grad = False",
        "1.bias": "parameter.requires_grad = False",
    }


def test_line_that_makes_a_module() -> None:
    net, making = made()
    known = making.of_modules(net)
    assert {path for path in known if path} == set("0123456")
    assert "nn.BatchNorm2d(2) for" in linecache.getline(*known["0"].lines[0])


def test_torch_is_left_as_it_was() -> None:
    before = nn.Module.__init__
    made()
    assert nn.Module.__init__ is before


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("out = unit(x)", "x = unit(x)"),
        ("self.late(h, mask)", "h = self.late(h, mask)"),
        ("for unit in units: out = unit(x)", "x = block(x)"),
        ("return unit(x.relu())", "x = block(x)"),
    ],
)
def test_the_result_is_handed_on(tmp_path: Path, code: str, remedy: str) -> None:
    file = tmp_path / "net.py"
    file.write_text(f"\n    {code}\n")
    assert handed_on((str(file), 2)) == remedy


def test_numbers_are_found_where_one_line_lists_them(tmp_path: Path) -> None:
    file = str(tmp_path / "net.py")
    Path(file).write_text("one = [2, 4, 3]\ntwo = (3, 3, 3)\nthree = f(x, [3, 3, 3])\n")
    assert line_with([2, 4, 3], [file, file]) == (file, 1)
    assert line_with([3, 3, 3], [file]) is None
    assert line_with([2, 2, 2], [file, str(tmp_path / "none.py")]) is None


def test_the_condition_around_a_line_is_one_of_its_own_function(tmp_path: Path) -> None:
    file = str(tmp_path / "net.py")
    Path(file).write_text(
        "if 1:\n  def f(x):\n    if x.flag:\n      return 1\n    else:\n      y = 2\n    return y\n"
    )
    assert condition_of((file, 4)) == condition_of((file, 6)) == ((file, 3), "x.flag")
    assert condition_of((file, 7)) is condition_of(None) is None
