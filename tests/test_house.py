"""The rules of the house that a machine can check: who imports whom, and what is public."""

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import resnetlab

SOURCE = Path(resnetlab.__file__).parent
STUB = SOURCE / "__init__.pyi"
PROJECT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"
FOLDERS = ("compute", "data", "evaluation", "inference", "models", "plots", "recipes", "training")
FOLDERS += ("weights",)
WITHOUT_TORCH = (
    *("errors", "records", "files", "models.architecture", "recipes.record", "recipes.table"),
    "version",
)


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts), path


def imports(path):
    """Absolute names of what a file imports, at its top or in its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def lint_imports(source):
    """What import-linter says of a package, by the contract in pyproject.toml."""
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--config", PROJECT / "pyproject.toml"],
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(source), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


PLANTED = {
    "models/planted.py": ("import resnetlab.data.images", "resnetlab.models -> resnetlab.data"),
    "records.py": ("from resnetlab.runs import x", "resnetlab.records -> resnetlab.runs"),
    "attic/__init__.py": ("", "resnetlab.attic"),  # a folder without its line
}


@pytest.mark.parametrize("place", [None, *PLANTED])
def test_imports_run_downward(tmp_path, place):
    copy = shutil.copytree(SOURCE, tmp_path / "resnetlab", ignore=shutil.ignore_patterns("*.sa*"))
    if place:
        path, (line, wanted) = copy / place, PLANTED[place]
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    said = done.stdout.replace("is not allowed to import", "->") + done.stderr
    assert (done.returncode == 0) == (place is None), said
    assert not place or wanted in said, said
    analyzed = re.search(r"Analyzed (\d+) files, (\d+) dependencies", said)
    assert place or (int(analyzed[1]) > 90 and int(analyzed[2]) > 300)


def test_no_import_is_relative():
    assert sum(len(list(imports(path))) for _, path in modules()) > 300  # which looks at each


def test_folders_have_no_code_of_their_own():
    for name in FOLDERS:
        body = ast.parse((SOURCE / name / "__init__.py").read_text()).body
        assert all(isinstance(node, ast.Expr) for node in body)


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_records_need_hardly_more_than_the_standard_library(module):
    roots = {name.split(".")[0] for name in imports(SOURCE / f"{module.replace('.', '/')}.py")}
    assert roots <= {*sys.stdlib_module_names, "resnetlab", "filelock"}


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
        assert done.stdout.startswith("Usage: resnetlab")


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
        assert re.search(rf'^{name}\b[^\n]*=[^\n]*(\n[^\n]+)*?\n"""', text.read_text(), re.M)


def test_there_is_nothing_else():
    with pytest.raises(AttributeError, match="torch"):
        _ = resnetlab.torch  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("policy", "spins"), [(None, "1000"), ("ACTIVE", None)])
def test_threads_wait_briefly_unless_the_user_says_otherwise(policy, spins):
    code = "import os, resnetlab; print(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT",)}
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(spins)
