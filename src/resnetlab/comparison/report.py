"""What is said of a candidate: the table of kinds, the findings, the answer and its text."""

from __future__ import annotations

import linecache
import re
import textwrap
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from itertools import groupby
from typing import Any, Literal

from jinja2 import Environment, StrictUndefined

from resnetlab.comparison.candidate import Location, Made, line_with, line_words
from resnetlab.comparison.operations import Node

PAGE = "docs/compare.md"
Harm = Literal["wrong", "fragile", "variant"]
Verdict = Literal["identical", "equivalent", "different"]
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
    paper_pre: str = ""
    """the same for the order of 2016, if another paper says it"""
    says: dict[str, str] = field(default_factory=dict)
    """sentences for a finding, by name; words in braces are filled in"""
    remedies: dict[str, str] = field(default_factory=dict)
    """better remedies than the kind's, for the sentence of the same name"""


def _read() -> dict[str, Kind]:
    text = files("resnetlab.comparison").joinpath("kinds.toml").read_text(encoding="utf-8")
    return {name: Kind(**row) for name, row in tomllib.loads(text).items()}


KINDS: dict[str, Kind] = _read()
"""Name -> kind. The names are promised: graders depend on them."""


def phrase(kind: str, what: str, words: dict[str, Any]) -> tuple[str, str]:
    """Sentence and remedy: ``what`` itself, or the kind's sentence of that name filled in."""
    row = KINDS[kind]
    if what not in row.says:
        return what, row.remedy
    words = {key: by(value) for key, value in words.items()}
    return row.says[what].format(**words), row.remedies.get(what, row.remedy).format(**words)


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
    paper: str = ""
    """where the papers say how it is, '' if they do not"""

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
    def page(self) -> str:
        return f"{PAGE}#{self.kind}"


@dataclass
class _Group:
    remedy: str
    paper: str
    places: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    lines: dict[Location, None] = field(default_factory=dict)
    modules: dict[str, Location | None] = field(default_factory=dict)
    """path -> line that calls it, of modules whose makers' lines are shown"""
    amount: int = 0


@dataclass
class Findings:
    """Collects differences; the same words at another place only add the place.

    In the words, ``{amount}`` becomes the sum of the amounts and ``{amount:word}`` the word, in the
    plural where it needs one.
    """

    found: dict[tuple[str, str], _Group] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    style: str = "post"
    """of the reference, see ``Structure``"""
    made: dict[str, Made] = field(default_factory=dict)
    """module path -> how the module was made"""
    written: dict[str, Location] = field(default_factory=dict)
    """parameter -> the last line that wrote into it, constructors of torch aside"""
    frozen: dict[str, Location] = field(default_factory=dict)
    """parameter -> the line that took its ``requires_grad``"""

    def add(
        self,
        kind: str,
        what: str,
        where: str = "",
        reference: str = "",
        *,
        remedy: str = "",
        paper: str | None = None,
        node: Node | None = None,
        line: Location | None = None,
        module: str = "",
        amount: int = 0,
        **words: Any,
    ) -> None:
        """``what``: a sentence, or the name of one of the kind's, filled in with ``words``.

        ``node``: whose line of code is shown, unless it is a ``module``'s; ``remedy``, ``paper``:
        better ones than the table's.
        """
        what, usual = phrase(kind, what, words)
        usual_paper = (self.style == "pre" and KINDS[kind].paper_pre) or KINDS[kind].paper
        cited = usual_paper if paper is None else paper
        new = _Group(remedy or usual, cited)
        group = self.found.setdefault((kind, what), new)
        group.amount += amount
        if where and where not in group.places:
            group.places.append(where)
        if reference and reference not in group.references:
            group.references.append(reference)
        if line is None and node is not None and node.direct and not module:
            line = node.location
        if line is not None:
            group.lines[line] = None
        elif node is not None or module:
            group.modules[module or node.place] = node.location if node else None  # type: ignore[union-attr]

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.found}

    def count(self, kind: str) -> int:
        """The sum of the amounts of a kind."""
        return sum(group.amount for (name, _), group in self.found.items() if name == kind)

    def drop(self, kind: str, line: Location | None = None) -> bool:
        """Forget the findings of a kind (at a line), which another explains; whether any were."""
        kept = {
            key: group
            for key, group in self.found.items()
            if key[0] != kind or (line is not None and line not in group.lines)
        }
        dropped, self.found = len(kept) < len(self.found), kept
        return dropped

    def explain(self, kind: str, text: str) -> None:
        """Add to the remedies of a kind's findings what else follows from them."""
        for (name, _), group in self.found.items():
            if name == kind and text not in group.remedy:
                group.remedy += f" {text}"

    def line_of(self, path: str) -> Location | None:
        """The line that made a module, or that of a parameter."""
        made = self.made.get(path) or self.made.get(path.rpartition(".")[0])
        return made.lines[0] if made and made.lines else None

    def line_with(self, numbers: list[int]) -> Location | None:
        """The line of the candidate's files that lists these numbers."""
        return line_with(numbers, (file for made in self.made.values() for file, _ in made.lines))

    def _makers(self, modules: dict[str, Location | None]) -> Iterator[Location]:
        """Of each module the innermost line that made none of its class without the difference.

        So a stride that one call of a helper forgets is shown at that call, not in the helper.
        """
        twins = defaultdict[tuple[str, tuple[Location, ...]], set[str]](set)
        for path, made in self.made.items():
            for depth in range(1, len(made.lines) + 1):
                twins[made.name, made.lines[:depth]].add(path)
        for path, location in modules.items():
            made = self.made.get(path) or Made("", ())
            own = (
                made.lines[depth - 1]
                for depth in range(1, len(made.lines) + 1)
                if twins[made.name, made.lines[:depth]] <= modules.keys()
            )
            if line := next(own, self.line_of(path) or location):
                yield line

    def differences(self) -> tuple[Difference, ...]:
        """In the order of harm; within a level what cannot be trained, then as in the network."""
        order = [*HARMS]

        def rank(row: tuple[tuple[str, str], _Group]) -> tuple[bool, int, bool]:
            (kind, _), _ = row
            return kind != "not-a-resnet", order.index(KINDS[kind].harm), kind != "gradient"

        rows = sorted(self.found.items(), key=rank)
        return tuple(
            Difference(
                kind,
                _fill(what, group.amount),
                group.remedy,
                tuple(group.places),
                tuple(group.references),
                tuple(
                    Line(*line, linecache.getline(*line).strip())
                    for line in dict.fromkeys([*group.lines, *self._makers(group.modules)])
                ),
                group.paper,
            )
            for (kind, what), group in rows
        )


def by(value: Any) -> Any:
    """A kernel, stride or padding as a person would write it: 3, 3x1; anything else as it is."""
    if not isinstance(value, tuple):
        return value
    return str(value[0]) if len(set(value)) == 1 else "x".join(map(str, value))


def a(words: str) -> str:
    """With its article."""
    return f"{'an' if words[0] in 'aeiouAEIO' else 'a'} {words}"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"


def _fill(what: str, amount: int) -> str:
    what = what.replace("{amount}", f"{amount:,}")
    return re.sub(r"{amount:(\w+)}", lambda m: m[1] + "s" * (amount != 1), what)


@dataclass(frozen=True)
class Row:
    """A part of both networks in words, '' where one has none: the stem, a block, the head."""

    name: str
    """stem, head, or the block's place in the candidate"""
    candidate: str
    reference: str
    places: frozenset[str] = frozenset()
    """of the candidate's operations in it"""

    def holds(self, place: str) -> bool:
        path = place.partition(" (")[0].partition(" to ")[0]
        inside = any(own == path or own.startswith(f"{path}.") for own in self.places)
        return place in self.places or (bool(path) and (path == self.name or inside))


TELLING = 5
"""Differences shown of a network that is none of the papers'."""


@dataclass(frozen=True)
class Comparison:
    """What ``compare_models`` found."""

    verdict: Verdict
    """identical: also the state dict's keys, order and shapes; equivalent: the same function,
    gradients and running statistics; different: there are differences"""
    candidate: str
    """name of the class or factory"""
    reference: str
    """the reference's name and, in brackets, the fields that differ from the table's"""
    differences: tuple[Difference, ...]
    """in the order of harm"""
    distance: float
    """from the reference: 0 if every layer has its partner, 1 if none has"""
    parameters: int
    """the candidate's"""
    reference_parameters: int
    parameter_differences: tuple[Location, ...]
    """(place, candidate's minus reference's) of every layer where the counts differ"""
    max_output_difference: float | None
    """over eval and train mode, relative to the reference's largest output; None: not compared"""
    image_size: int
    in_channels: int
    notes: tuple[str, ...]
    """what is worth knowing and no difference"""
    rows: tuple[Row, ...] = field(repr=False, compare=False)
    """both networks side by side, for the diagram"""

    @property
    def is_resnet(self) -> bool:
        """Whether the candidate is near enough to one of the papers' networks."""
        return all(difference.kind != "not-a-resnet" for difference in self.differences)

    @property
    def telling(self) -> tuple[Difference, ...]:
        """All differences; of a network that is none of the papers' the first few."""
        if self.is_resnet:
            return self.differences
        rest = sorted(self.differences[1:], key=lambda d: -len(d.places))[:TELLING]
        return (self.differences[0], *(d for d in self.differences if d in rest))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the names of kinds and fields are promised."""
        values = {k: v for k, v in vars(self).items() if k not in ("rows", "differences")}
        values["differences"] = [
            asdict(d) | {"where": d.where, "harm": d.harm, "page": d.page} for d in self.differences
        ]
        values["identical_or_equivalent"] = self.verdict != "different"
        values["is_resnet"] = self.is_resnet
        values["documentation"] = PAGE
        return values


SHOWN = 6
"""Layers listed where the numbers of parameters differ."""
LINES = 2
"""Lines of code shown for a difference."""


def render(comparison: Comparison, *, everything: bool = False) -> str:
    """Plain text of at most 100 columns: parameters, differences, notes, verdict.

    ``everything``: all differences, also of a network that is none of the papers'.
    """
    size, channels = comparison.image_size, comparison.in_channels
    lines = [
        f"{comparison.candidate} against {comparison.reference}, "
        f"images of {channels} x {size} x {size}",
        _parameters(comparison),
    ]
    shown = comparison.differences if everything else comparison.telling
    harm = ""
    for number, difference in enumerate(shown, 1):
        if difference.harm != harm:
            harm = difference.harm
            lines += ["", f"What {HARMS[harm]}:"]
        lines += ["", *_difference(number, difference)]
    hidden = len(comparison.differences) - len(shown)
    if hidden:
        lines += ["", f"{plural(hidden, 'more difference')}: --all shows them."]
    for note in comparison.notes:
        lines += ["", *_wrap(f"note: {note}", "      ")]
    return "\n".join([*lines, "", _verdict(comparison)])


def _difference(number: int, difference: Difference) -> list[str]:
    lines = _wrap(f"{number}. {difference.kind}: {difference.what}", "   ")
    count = len(difference.places)
    places = f"   where: {difference.where}" + (f" ({count} places)" if count > 3 else "")
    if difference.reference and difference.reference != difference.places:
        first, others = difference.reference[0], len(difference.reference) - 1
        places += f" -- in the reference {first}" + (f" and {others} more" if others else "")
    lines += _wrap(places, "          ")
    for line in difference.lines[:LINES]:
        lines.append(f"   code: {line}: {line.code}"[:100])
    if difference.paper:
        lines += _wrap(f"   paper: {difference.paper}", "          ")
    return lines + _wrap(f"   remedy: {difference.remedy}", "           ")


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 100, subsequent_indent=indent, break_on_hyphens=False)


def _parameters(comparison: Comparison) -> str:
    mine, other = comparison.parameters, comparison.reference_parameters
    if mine == other:
        return f"parameters: {mine:,}, as many as the reference"
    word = "more" if mine > other else "fewer"
    text = f"parameters: {mine:,}, the reference has {other:,}: {abs(mine - other):,} {word}"
    rows = sorted(comparison.parameter_differences, key=lambda row: -abs(row[1]))
    shown = [f"{place} {delta:+,}" for place, delta in rows[:SHOWN]]
    if len(rows) > SHOWN:
        rest = sum(delta for _, delta in rows[SHOWN:])
        shown.append(f"{plural(len(rows) - SHOWN, 'more layer')} {rest:+,}")
    return "\n".join([text, *_wrap("   " + ", ".join(shown), "   ")] if shown else [text])


def _verdict(comparison: Comparison) -> str:
    outputs = ""
    if comparison.max_output_difference is not None:
        outputs = (
            f" With the same weights the outputs differ by {comparison.max_output_difference:.1e} "
            "of their scale (eval and train mode)."
        )
    if comparison.verdict == "identical":
        return f"Verdict: identical, state-dict keys included.{outputs}"
    if comparison.verdict == "equivalent":
        return f"Verdict: equivalent up to names.{outputs}"
    count = len(comparison.differences)
    return f"Verdict: differs in {plural(count, 'place')}.{outputs}"


COLOURS = {"wrong": "#c0392b", "fragile": "#b9770e", "variant": "#2471a3"}
"""Of the marks in the diagram, by the harm of the difference."""
SHORT = 74
"""Letters of a row in the diagram."""
_DIAGRAM = """
{%- macro text(x, y, words, kind="", colour="") -%}
<text x="{{ x }}" y="{{ y }}" class="{{ kind }}"
{%- if colour %} style="fill:{{ colour }}"{% endif %}>{{ words }}</text>
{%- endmacro -%}
{%- set height = 86 + 22 * rows | length -%}
<svg xmlns="http://www.w3.org/2000/svg" width="1300" height="{{ height }}" {# -#}
viewBox="0 0 1300 {{ height }}" role="img">
<title>{{ candidate }} beside {{ reference }}</title>
<style>text{font:12px sans-serif;fill:#222}.title{font-weight:bold;font-size:14px}
{#- #}.box{fill:#f6f6f6;stroke:#aaa}.lost{fill:none;stroke:#aaa;stroke-dasharray:4 3}</style>
{{ text(10, 24, "candidate: " ~ candidate, "title") }}
{{ text(520, 24, "reference: " ~ reference, "title") }}
{{ text(10, 44, "verdict: " ~ verdict) }}
{% for colour, words in legend %}
{% set y = 14 + 16 * loop.index0 %}
<rect x="1020" y="{{ y }}" width="10" height="10" fill="{{ colour }}"/>
{{ text(1036, y + 9, words, "", colour) }}
{% endfor %}
{% for left, right, kinds, colour in rows %}
{% set y = 64 + 22 * loop.index0 %}
{% for x, words in [(10, left), (520, right)] %}
<rect class="{{ "box" if words else "lost" }}" x="{{ x }}" y="{{ y }}" width="480" height="18"/>
{{ text(x + 6, y + 13, words) }}
{% endfor %}
{% if kinds %}
<rect x="4" y="{{ y }}" width="4" height="18" fill="{{ colour }}"/>
{{ text(1020, y + 13, kinds, "", colour) }}
{% endif %}
{% endfor %}
</svg>
"""


def draw(comparison: Comparison) -> str:
    """An SVG: one row for the stem, for each block and for the head; marks name the differences.

    Blocks that are alike and bear no mark are drawn as one row. Raises nothing: of a candidate that
    does not run, the part before the crash is drawn.
    """
    marks = {(p, d.kind, d.harm) for d in comparison.differences for p in d.places or ("",)}
    rows = [
        (row.candidate, row.reference, {mark[1:] for mark in marks if row.holds(mark[0])})
        for row in comparison.rows
    ]
    if loose := {mark[1:] for mark in marks}.difference(*(marked for *_, marked in rows)):
        rows.append(("the whole network", "", loose))
    drawn = []
    for (*sides, marked), group in groupby(rows):
        times = f"{count} blocks: " if (count := len(list(group))) > 1 else ""
        sides = [times + words if words else "" for words in sides]
        sides = [words if len(words) <= SHORT else words[: SHORT - 1] + "…" for words in sides]
        worst = next(
            (colour for harm, colour in COLOURS.items() if harm in dict(marked).values()), ""
        )
        drawn.append((*sides, ", ".join(sorted(dict(marked))), worst))
    harms = {difference.harm for difference in comparison.differences}
    legend = [(COLOURS[harm], words) for harm, words in HARMS.items() if harm in harms]
    page = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    names = {key: getattr(comparison, key) for key in ("candidate", "reference", "verdict")}
    return page.from_string(_DIAGRAM).render(rows=drawn, legend=legend, **names) + "\n"


def document() -> str:
    """The page of the documentation: every kind with explanation, example, remedy and paper."""
    lines = [
        "# What `resnetlab compare` reports",
        "",
        "Each difference has a kind. The names are stable: a grader may rely on them, and on the",
        "exit code (0: identical or equivalent, 1: different, 2: not to be compared). Made of",
        "`src/resnetlab/comparison/kinds.toml`; `python -m resnetlab.comparison.report` prints it.",
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
