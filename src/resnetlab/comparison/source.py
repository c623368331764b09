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


def why_left_out(line: tuple[str, int] | None) -> tuple[tuple[str, int] | None, str, str]:
    """Why a call reaches one block and not the next: (line, sentence of ``left-out``, code)."""
    file, number = line or ("", 0)
    loop: ast.For | ast.While | None = None
    for node in ast.walk(_tree(file)):
        if isinstance(node, (ast.For, ast.While)) and _spans(node.body, number):
            loop = node
    code = linecache.getline(file, number).strip()
    if loop is None:
        return line, "call", code
    inside = [node for statement in loop.body for node in ast.walk(statement)]
    for kind, what in ((ast.Return, "return"), (ast.Break, "break")):
        if end := next((node for node in inside if isinstance(node, kind)), None):
            return (file, end.lineno), what, code
    head = linecache.getline(file, loop.lineno).strip().rstrip(":")
    zipped = isinstance(loop, ast.For) and ast.unparse(loop.iter).startswith("zip(")
    return (file, loop.lineno), "zip" if zipped else "loop", head


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
