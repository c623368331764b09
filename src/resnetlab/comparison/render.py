"""A comparison as the text that ``resnetlab compare`` prints."""

from __future__ import annotations

import textwrap

from resnetlab.comparison.compare import Comparison

SHOWN = 6
"""Layers listed where the numbers of parameters differ."""


def render(comparison: Comparison) -> str:
    """Plain text of at most 100 columns: parameters, differences, notes, verdict."""
    size, channels = comparison.image_size, comparison.in_channels
    lines = [
        f"{comparison.network} against {comparison.reference}, "
        f"images of {channels} x {size} x {size}",
        _parameters(comparison),
    ]
    for number, difference in enumerate(comparison.differences, 1):
        lines += ["", *_wrap(f"{number}. {difference.kind}: {difference.what}", "   ")]
        count = len(difference.places)
        places = f"   where: {difference.where}" + (f" ({count} places)" if count > 3 else "")
        if difference.reference and difference.reference != difference.places:
            first, others = difference.reference[0], len(difference.reference) - 1
            places += f" -- in the reference {first}" + (f" and {others} more" if others else "")
        lines += _wrap(places, "          ")
        lines += _wrap(f"   remedy: {difference.remedy}", "           ")
    for note in comparison.notes:
        lines += ["", *_wrap(f"note: {note}", "      ")]
    return "\n".join([*lines, "", _verdict(comparison)])


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
        shown.append(f"{len(rows) - SHOWN} more layers {rest:+,}")
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
    return f"Verdict: differs in {count} place{'s' * (count != 1)}.{outputs}"
