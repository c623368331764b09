"""What is read in the candidate's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnetlab.comparison.source import handed_on, line_with


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
