"""What is read in the candidate's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnetlab.comparison.source import condition_of, handed_on, line_with


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("out = unit(x)", "x = unit(x)"),
        ("self.late(h, mask)", "h = self.late(h, mask)"),
        ("for unit in units: out = unit(x)", "x = block(x)"),
        ("return unit(x.relu())", "x = block(x)"),
    ],
)
def test_the_result_is_handed_on(tmp_path: Path, code: str, remedy: str) -> None:
    file = tmp_path / "net.py"
    file.write_text(f"\n    {code}\n")
    assert handed_on((str(file), 2)) == remedy


def test_numbers_are_found_where_one_line_lists_them(tmp_path: Path) -> None:
    file = str(tmp_path / "net.py")
    Path(file).write_text("one = [2, 4, 3]\ntwo = (3, 3, 3)\nthree = f(x, [3, 3, 3])\n")
    assert line_with([2, 4, 3], [file, file]) == (file, 1)
    assert line_with([3, 3, 3], [file]) is None
    assert line_with([2, 2, 2], [file, str(tmp_path / "none.py")]) is None


def test_the_condition_around_a_line_is_one_of_its_own_function(tmp_path: Path) -> None:
    file = str(tmp_path / "net.py")
    Path(file).write_text(
        "if 1:\n  def f(x):\n    if x.flag:\n      return 1\n    else:\n      y = 2\n    return y\n"
    )
    assert condition_of((file, 4)) == condition_of((file, 6)) == ((file, 3), "x.flag")
    assert condition_of((file, 7)) is condition_of(None) is None
