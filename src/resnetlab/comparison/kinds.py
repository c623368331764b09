"""Every kind of difference, once: what it is, how much it harms, what to do, where to read on."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal

from resnetlab.comparison.operations import Node, line_words, source_line

PAGE = "docs/compare.md"
Harm = Literal["wrong", "fragile", "variant"]
HARMS: dict[str, str] = {
    "wrong": "makes it another network than it means to be",
    "fragile": "makes it slower, larger or fragile",
    "variant": "is a variant",
}
"""What each level means, worst first."""


@dataclass(frozen=True)
class Kind:
    """One row of the table."""

    harm: Harm
    what: str
    """in one line"""
    remedy: str
    """what to do, as code where it is one line"""
    example: str
    """code that has it"""
    paper: str = ""
    """where the papers say how it is"""


def _read() -> dict[str, Kind]:
    text = files("resnetlab.comparison").joinpath("kinds.toml").read_text(encoding="utf-8")
    return {name: Kind(**row) for name, row in tomllib.loads(text).items()}


KINDS: dict[str, Kind] = _read()
"""Name -> kind. The names are promised: graders depend on them."""


@dataclass(frozen=True)
class Line:
    """A line of the candidate's own code."""

    file: str
    line: int
    code: str

    def __str__(self) -> str:
        return line_words((self.file, self.line))


@dataclass(frozen=True)
class Difference:
    """One way in which the candidate differs from the reference."""

    kind: str
    """a name of ``KINDS``"""
    what: str
    """the difference in plain words"""
    remedy: str
    """what the reference does there, or what to change"""
    places: tuple[str, ...] = ()
    """where in the candidate, all of them"""
    reference: tuple[str, ...] = ()
    """the same places in the reference"""
    lines: tuple[Line, ...] = ()
    """the lines of the candidate's code behind the places"""

    @property
    def where(self) -> str:
        """The places in one line: three of them and the number of the others."""
        shown = ", ".join(self.places[:3]) or "the network"
        others = len(self.places) - 3
        return f"{shown} and {others} more" if others > 0 else shown

    @property
    def harm(self) -> Harm:
        return KINDS[self.kind].harm

    @property
    def paper(self) -> str:
        """Where the papers say how it is, '' if they do not."""
        return KINDS[self.kind].paper

    @property
    def page(self) -> str:
        return f"{PAGE}#{self.kind}"


@dataclass
class _Group:
    remedy: str
    places: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    lines: dict[tuple[str, int], None] = field(default_factory=dict)
    amount: int = 0


@dataclass
class Findings:
    """Collects differences; the same words at another place only add the place.

    In the words, ``{amount}`` becomes the sum of the amounts and ``{amount:word}`` the word, in the
    plural where it needs one.
    """

    found: dict[tuple[str, str], _Group] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    defined: dict[str, tuple[str, int]] = field(default_factory=dict)
    """module path -> the line that made the module"""

    def add(
        self,
        kind: str,
        what: str,
        where: str = "",
        reference: str = "",
        *,
        remedy: str = "",
        node: Node | None = None,
        line: tuple[str, int] | None = None,
        amount: int = 0,
    ) -> None:
        """``node``: whose line of code is shown; ``remedy``: a better one than the table's."""
        group = self.found.setdefault((kind, what), _Group(remedy or KINDS[kind].remedy))
        group.amount += amount
        if where and where not in group.places:
            group.places.append(where)
        if reference and reference not in group.references:
            group.references.append(reference)
        if line is None and node is not None:
            line = node.location if node.direct else self.defined.get(node.place, node.location)
        if line is not None:
            group.lines[line] = None

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.found}

    def drop(self, kind: str) -> None:
        """Forget the findings of a kind, which another one explains."""
        self.found = {key: group for key, group in self.found.items() if key[0] != kind}

    def differences(self) -> tuple[Difference, ...]:
        """In the order of harm; within a level in the order of the network."""
        order = [*HARMS]
        rows = sorted(
            self.found.items(),
            key=lambda row: (row[0][0] != "not-a-resnet", order.index(KINDS[row[0][0]].harm)),
        )
        return tuple(
            Difference(
                kind,
                _fill(what, group.amount),
                group.remedy,
                tuple(group.places),
                tuple(group.references),
                tuple(Line(*line, source_line(line)) for line in group.lines),
            )
            for (kind, what), group in rows
        )


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"


def _fill(what: str, amount: int) -> str:
    what = what.replace("{amount}", f"{amount:,}")
    return re.sub(r"{amount:(\w+)}", lambda m: m[1] + "s" * (amount != 1), what)


def document() -> str:
    """The page of the documentation: every kind with explanation, example, remedy and paper."""
    lines = [
        "# What `resnetlab compare` reports",
        "",
        "Each difference has a kind. The names are stable: a grader may rely on them, and on the",
        "exit code (0: identical or equivalent, 1: different, 2: not to be compared). Made of",
        "`src/resnetlab/comparison/kinds.toml`; `python -m resnetlab.comparison.kinds` prints it.",
    ]
    for harm, words in HARMS.items():
        lines += ["", f"## What {words}", ""]
        for name, kind in KINDS.items():
            if kind.harm == harm:
                lines += [f"### {name}", "", kind.what, "", f"- Example: `{kind.example}`"]
                lines += [f"- Remedy: {kind.remedy}"]
                lines += [f"- Paper: {kind.paper}"] if kind.paper else []
                lines += [""]
        lines.pop()
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
