"""A comparison as the text that ``resnetlab compare`` prints."""

from __future__ import annotations

import textwrap

from resnetlab.comparison.compare import Comparison
from resnetlab.comparison.kinds import HARMS, Difference, plural

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
