"""What the candidate's source says, where its lines are known."""

from __future__ import annotations

import ast
import contextlib
import linecache
from collections.abc import Iterable
from typing import Any


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


def condition_of(line: tuple[str, int] | None) -> tuple[tuple[str, int], str] | None:
    """The innermost ``if`` around a line of the same function: (its line, what it asks)."""
    file, number = line or ("", 0)
    found = None
    for node in ast.walk(_tree(file)):  # from the outside to the inside
        if isinstance(node, ast.FunctionDef) and _spans([node], number):
            found = None
        if isinstance(node, ast.If) and (_spans(node.body, number) or _spans(node.orelse, number)):
            found = (file, node.lineno), ast.unparse(node.test)
    return found


def line_naming(name: str, files: Iterable[str]) -> tuple[str, int] | None:
    """The first line of the files that names a function, as such or as an attribute."""
    return next(
        (
            (file, node.lineno)
            for file in dict.fromkeys(files)
            for node in ast.walk(_tree(file))
            if name in (getattr(node, "attr", ""), getattr(node, "id", ""))
        ),
        None,
    )


def _spans(nodes: list[Any], number: int) -> bool:
    return any(node.lineno <= number <= (node.end_lineno or 0) for node in nodes)


def _tree(file: str) -> ast.Module:
    with contextlib.suppress(SyntaxError):
        return ast.parse("".join(linecache.getlines(file)))
    return ast.Module([], [])


def _values(node: ast.List | ast.Tuple) -> list[object]:
    return [each.value if isinstance(each, ast.Constant) else None for each in node.elts]
