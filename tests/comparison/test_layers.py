"""Rows side by side."""

from __future__ import annotations

import pytest

from resnetlab.comparison.layers import a, align


@pytest.mark.parametrize(
    ("one", "two", "pairs"),
    [
        ("abc", "abc", "aa bb cc"),
        ("abbc", "abc", "aa bb b- cc"),
        ("ac", "abc", "aa -b cc"),
        ("", "ab", "-a -b"),
    ],
)
def test_alignment_keeps_the_first_with_the_first(one: str, two: str, pairs: str) -> None:
    rows = align(one, two, lambda x, y: 0.0 if x == y else 9.0, lambda x: 1.0)
    assert " ".join(f"{x or '-'}{y or '-'}" for x, y in rows) == pairs


def test_article() -> None:
    assert a("average pooling") == "an average pooling"
    assert a("max pool") == "a max pool"
