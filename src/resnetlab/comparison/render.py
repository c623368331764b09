"""A comparison as the text that ``resnetlab compare`` prints, and as a diagram (SVG)."""

from __future__ import annotations

import textwrap
from html import escape
from itertools import groupby

from resnetlab.comparison.compare import Comparison
from resnetlab.comparison.kinds import HARMS, Difference, plural
from resnetlab.comparison.operations import Node
from resnetlab.comparison.structure import Structure, Unit

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


ROW, WIDTH, GAP, TOP = 22, 400, 40, 64
COLOURS = {"wrong": "#c0392b", "fragile": "#b9770e", "variant": "#2471a3", "": "#555555"}
"""Of the marks, by the harm of the difference."""
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold;font-size:14px}"
    ".box{fill:#f6f6f6;stroke:#aaa}.lost{fill:none;stroke:#aaa;stroke-dasharray:4 3}"
)


def draw(comparison: Comparison) -> str:
    """An SVG: one row for the stem, for each block and for the head; marks name the differences.

    Blocks that are alike and bear no mark are drawn as one row. Raises nothing: of a candidate that
    does not run, the part before the crash is drawn.
    """
    candidate, reference, sides = comparison.structures
    marks = _marks(comparison)
    pairs = sides.units if sides else [(None, unit) for unit in reference.units]
    rows = [_Row(_words(candidate.stem if candidate else []), _words(reference.stem), "stem")]
    for mine, other in pairs:
        name = candidate.name(mine) if candidate and mine is not None else ""
        rows.append(_Row(_block(mine, candidate), _block(other, reference), name))
    rows.append(_Row(_words(candidate.head if candidate else []), _words(reference.head), "head"))
    for row in rows:
        row.marks = sorted({m for place, m in marks if _belongs(place, row, candidate)})
    placed = {mark for row in rows for mark in row.marks}
    loose = sorted({mark for _, mark in marks} - placed)
    if loose:
        rows.append(_Row("the whole network", "", "network", loose))
    drawn = [
        (key, len(list(group)))
        for key, group in groupby(rows, key=lambda r: (r.left, r.right, tuple(r.marks)))
    ]
    return _svg(comparison, drawn)


class _Row:
    def __init__(
        self, left: str, right: str, name: str, marks: list[tuple[str, str]] | None = None
    ) -> None:
        self.left, self.right, self.name, self.marks = left, right, name, marks or []


def _marks(comparison: Comparison) -> list[tuple[str, tuple[str, str]]]:
    """(place, (kind, harm)) of every place of every difference."""
    return [
        (place, (difference.kind, difference.harm))
        for difference in comparison.differences
        for place in (difference.places or ("",))
    ]


def _belongs(place: str, row: _Row, candidate: Structure | None) -> bool:
    path = place.partition(" (")[0].partition(" to ")[0]
    if row.name in ("stem", "head"):
        nodes = getattr(candidate, row.name) if candidate else []
        return bool(path) and any(n.place == path or n.label == place for n in nodes)
    return bool(row.name) and (path == row.name or path.startswith(f"{row.name}."))


def _words(nodes: list[Node]) -> str:
    return ", ".join(_operation(node) for node in nodes if node.kind not in ("pad", "slice"))


def _operation(node: Node) -> str:
    if node.kind != "conv":
        return node.words
    kernel, stride = node.settings["kernel"], node.settings["stride"]
    size = "x".join(map(str, kernel)) + (f"/{stride[0]}" if max(stride) > 1 else "")
    return f"{size} conv {node.settings['out']}"


def _block(unit: Unit | None, structure: Structure | None) -> str:
    if unit is None or structure is None:
        return ""
    convs = ", ".join(_operation(node) for node in unit.convs)
    shortcut = unit.shortcut_kind
    return f"{convs}; shortcut: {shortcut}" if shortcut != "none" else f"{convs}; no shortcut"


def _svg(
    comparison: Comparison,
    rows: list[tuple[tuple[str, str, tuple[tuple[str, str], ...]], int]],
) -> str:
    height = TOP + ROW * (len(rows) + 1)
    full = 2 * WIDTH + GAP + 300
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{full}" height="{height}" '
        f'viewBox="0 0 {full} {height}" role="img">',
        f"<title>{escape(comparison.candidate)} beside {escape(comparison.reference)}</title>",
        f"<style>{_STYLE}</style>",
        _text(10, 24, f"candidate: {comparison.candidate}", "title"),
        _text(WIDTH + GAP, 24, f"reference: {comparison.reference}", "title"),
        _text(10, 44, f"verdict: {comparison.verdict}"),
    ]
    for number, ((left, right, marks), count) in enumerate(rows):
        y = TOP + ROW * number
        for x, words in ((10, left), (WIDTH + GAP, right)):
            kind = "box" if words else "lost"
            parts.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{WIDTH}" height="{ROW - 4}"/>'
            )
            times = f"{count} x " if count > 1 else ""
            parts.append(_text(x + 6, y + 13, _short(times + words) if words else ""))
        if marks:
            worst = min(marks, key=lambda mark: list(COLOURS).index(mark[1]))[1]
            parts.append(
                f'<rect x="4" y="{y}" width="4" height="{ROW - 4}" fill="{COLOURS[worst]}"/>'
            )
            words = ", ".join(kind for kind, _ in marks)
            parts.append(_text(2 * WIDTH + GAP + 20, y + 13, words, colour=COLOURS[worst]))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _short(words: str, limit: int = 62) -> str:
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _text(x: int, y: int, words: str, kind: str = "", colour: str = "") -> str:
    style = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x}" y="{y}" class="{kind}"{style}>{escape(words)}</text>'
