"""A notebook as a module: the code of its cells, magics left out."""

from __future__ import annotations

import ast
import json
import linecache
import sys
from pathlib import Path
from types import ModuleType

from resnetlab.errors import UserError

_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun")
"""Cell magics whose cell is Python all the same."""
_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def code_cells(path: Path) -> list[str]:
    """The code of each cell; a line with a magic or a shell command becomes an empty one."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path.name} is not a notebook (JSON with cells).") from error
    sources = [cell.get("source", "") for cell in cells if cell.get("cell_type") == "code"]
    return [_without_magics("".join(source)) for source in sources]


def _without_magics(source: str) -> str:
    lines = source.splitlines()
    if lines and lines[0].startswith("%%") and not lines[0].startswith(_PYTHON_CELLS):
        return ""
    kept = []
    for line in lines:
        start = line.lstrip()
        indent = line[: len(line) - len(start)]
        magic = start.startswith(("%", "!", "?")) or line.rstrip().endswith("?")
        kept.append(f"{indent}pass" if magic and indent else "" if magic else line)
    return "\n".join(kept) + "\n"


def run_notebook(path: Path, wanted: str) -> ModuleType:
    """Run the cells until ``wanted`` is defined; of those behind it, definitions and imports alone.

    A cell that fails is passed over, as it may only load data; if ``wanted`` is missing at the
    end, the first failure is raised.
    """
    module = ModuleType(f"_candidate_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    failure: Exception | None = None
    for number, source in enumerate(code_cells(path), 1):
        name = f"{path}, cell {number}"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        try:
            tree = ast.parse(source, name)
            if hasattr(module, wanted):
                tree.body = [node for node in tree.body if isinstance(node, _DEFINITIONS)]
            exec(compile(tree, name, "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            failure = failure or (error if isinstance(error, Exception) else None)
    if not hasattr(module, wanted) and failure is not None:
        raise failure
    return module
