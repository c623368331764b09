"""The help of a command or of a group of commands, for a terminal of any width."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from resnetlab.cli.commands import Command, Group
from resnetlab.cli.options import Option

_KEPT = "\N{NO-BREAK SPACE}"
"""stands for a space at which no line ends"""


def help_text(item: Command | Group) -> str:
    """Usage, purpose, then the options in their groups, or the group's members."""
    width = min(shutil.get_terminal_size().columns, 100)
    lines = _wrap(f"usage: {item.usage}", width, "  ")
    for paragraph in item.about.split("\n\n"):
        lines += ["", *_wrap(paragraph, width)]
    if isinstance(item, Group):
        members = {name: member.about.split("\n\n")[0] for name, member in item.members.items()}
        sections = {f"{item.noun}s": members}
    else:
        sections = _by_group(item.options)
    for title, rows in sections.items():
        lines += ["", f"{title}:", *_columns(rows, width)]
    if isinstance(item, Group):
        more = f"{item.name} {item.noun.upper()} --help says more about one. {item.closing}"
        lines += ["", *_wrap(more, width)]
    return "\n".join(lines)


def _by_group(options: Iterable[Option]) -> dict[str, dict[str, str]]:
    """Title -> what is typed -> what it does."""
    groups: dict[str, dict[str, str]] = {}
    for option in options:
        if option.role == "positional":
            groups.setdefault("arguments", {})[option.flag] = _described(option)
        else:
            typed = f"{option.flag} {option.value_name}".strip()
            groups.setdefault(option.group, {})[typed] = _described(option)
    return groups


def _described(option: Option) -> str:
    values = option.default if isinstance(option.default, tuple) else (option.default,)
    if option.takes == "nothing" or not all(
        isinstance(x, str | int | float | Path) for x in values
    ):
        return option.help
    words = " ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in values)
    return f"{option.help} {_KEPT.join(['(default:', *words.split()])})"


def _columns(rows: dict[str, str], width: int) -> Iterator[str]:
    """Names on the left, texts on the right."""
    widest = min(width // 3, 24)  # a longer name has a line of its own
    left = max([len(name) for name in rows if len(name) <= widest], default=8) + 4
    for name, text in rows.items():
        first, *rest = _wrap(text, width - left)
        if len(name) + 4 > left:
            yield f"  {name}"
            yield " " * left + first
        else:
            yield f"  {name}".ljust(left) + first
        yield from (" " * left + line for line in rest)


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of whole words; a number keeps its per cent sign."""
    lines = textwrap.wrap(
        re.sub(r"(?<=\d) %", f"{_KEPT}%", text),
        max(width, 20),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_KEPT, " ") for line in lines]
