"""What the candidate's source says, where its lines are known."""

from __future__ import annotations

import ast
import contextlib
import linecache
from collections.abc import Iterable


def handed_on(line: tuple[str, int] | None) -> str:
    """A call that hands on its result: ``x = unit(x)`` for ``out = unit(x)``."""
    with contextlib.suppress(SyntaxError):
        match ast.parse(linecache.getline(*line).strip() if line else "").body:
            case [
                ast.Assign(value=ast.Call(args=[ast.Name(id=name), *_]) as call)
                | ast.Expr(value=ast.Call(args=[ast.Name(id=name), *_]) as call)
            ]:
                return f"{name} = {ast.unparse(call)}"
    return "x = block(x)"


def line_with(numbers: list[int], files: Iterable[str]) -> tuple[str, int] | None:
    """The line where the files write these numbers as a list or tuple; None if several do."""
    lines = [
        (file, node.lineno)
        for file in dict.fromkeys(files)
        for node in ast.walk(_tree(file))
        if isinstance(node, (ast.List, ast.Tuple)) and _values(node) == numbers
    ]
    return lines[0] if len(lines) == 1 else None


def _tree(file: str) -> ast.Module:
    with contextlib.suppress(SyntaxError):
        return ast.parse("".join(linecache.getlines(file)))
    return ast.Module([], [])


def _values(node: ast.List | ast.Tuple) -> list[object]:
    return [each.value if isinstance(each, ast.Constant) else None for each in node.elts]
