"""The rules of the house that a machine can check: who imports whom, and what is public."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import resnetlab

SOURCE = Path(resnetlab.__file__).parent
STUB = SOURCE / "__init__.pyi"

# Each line may import only from lines above it; a package stands for all that is in it.
LAYERS = """
records files
models.architecture
training.recipe
models.resnet
models.adaptation models.mindspore
models.recognition
models.checkpoints models.foreign
models.pretrained
models.summary
models.verification
data.loaders data.formats data.images
data.download data.augment
data.sources
data.datasets
training.execution training.distributed training.interrupt training.progress training.muon
training.optimizer training.compiled
training.fused training.winograd
training.preparation
runs
training.state
training.step
training.probe
inference
evaluation
plots prediction
image_plots
training.loop
comparison benchmark
cli
__main__
"""
LAYER = {name: i for i, line in enumerate(LAYERS.split("\n")) for name in line.split()}
WITHOUT_TORCH = ("records", "files", "models.architecture", "training.recipe")


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts), path


def place(module):
    """The name by which a module or something in it stands in LAYERS."""
    parts = module.split(".")
    names = (".".join(parts[: n + 1]) for n in range(len(parts)))
    return next((name for name in names if name in LAYER), None)


def imports(path):
    """Absolute names of what a file imports, at its top or in its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_run_downward():
    wrong, known = [], 0
    for module, path in modules():
        if path.name == "__init__.py" and not place(module):
            continue  # of a folder; it holds nothing, as the next test sees to
        here = place(module)
        assert here, f"{module} is new: give it its place in LAYERS"
        for name in imports(path):
            if not name.startswith("resnetlab."):
                continue
            there = place(name.removeprefix("resnetlab."))
            assert there, f"{module} imports {name}, which has no place in LAYERS"
            known += 1
            if there != here and LAYER[there] >= LAYER[here]:
                wrong.append(f"{module} imports {there}")
    assert not wrong
    assert known > 80


def test_folders_have_no_code_of_their_own():
    for name in ("data", "models", "training"):
        body = ast.parse((SOURCE / name / "__init__.py").read_text()).body
        assert all(isinstance(node, ast.Expr) for node in body)


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_records_need_the_standard_library_alone(module):
    roots = {name.split(".")[0] for name in imports(SOURCE / f"{module.replace('.', '/')}.py")}
    assert roots <= {*sys.stdlib_module_names, "resnetlab"}


def test_the_command_line_alone_knows_tyro():
    users = [module for module, path in modules() if "tyro" in set(imports(path))]
    assert users == ["cli"]


def test_help_does_not_wait_for_torch():
    code = """
import sys
from resnetlab import cli
sys.argv = ["resnetlab", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as stop:
    assert not stop.code
heavy = {"torch", "numpy", "matplotlib", "PIL", "torchvision", "torchmetrics"} & sys.modules.keys()
assert not heavy, heavy
"""
    for words in (["--help"], ["train", "smoke", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("usage: resnetlab")


def stub():
    """The public names, each with the module that it is imported from, out of __init__.pyi."""
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_public_names_are_listed_sorted_and_all_there_is():
    names = sorted(stub())
    assert resnetlab.__all__ == dir(resnetlab) == names
    (listed,) = re.findall(r"__all__ = (\[.*?\])", STUB.read_text(encoding="utf-8"), re.S)
    assert sorted(ast.literal_eval(listed)) == names
    assert set(names) >= {
        "train",
        "resume",
        "evaluate",
        "predict",
        "create_model",
        "load_checkpoint",
    }


@pytest.mark.parametrize("name", sorted(stub()))
def test_public_names_are_documented(name):
    value = getattr(resnetlab, name)
    assert value is getattr(importlib.import_module(f"resnetlab.{stub()[name]}"), name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert not (inspect.getdoc(value) or f"{name}(").startswith(f"{name}("), "no docstring"
    else:  # of a constant it stands as a string below it
        text = Path(inspect.getfile(importlib.import_module(f"resnetlab.{stub()[name]}")))
        assert re.search(rf'^{name}[^\n]*=(?s:.*?)^[\]}}]?[^\n]*\n"""', text.read_text(), re.M)


def test_there_is_nothing_else():
    with pytest.raises(AttributeError, match="torch"):
        _ = resnetlab.torch  # pyright: ignore[reportAttributeAccessIssue]
