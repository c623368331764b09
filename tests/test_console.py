"""Tables on terminals of several widths, and whole into a pipe."""

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from resnetlab import console
from resnetlab.benchmark.records import FileRate, NetworkRate, table

RATE = {"batch_size": 128, "low": 1100.0, "high": 1200.0, "images_per_second": 1150.0}
RATE |= {"ms_per_step": 111.0, "image_size": 32, "model": "wide_resnet101_2"}
RATE |= {"execution": "bf16,channels_last,winograd,threads=2"}
TRAINING = NetworkRate(
    **RATE,
    job="training",
    parameters=126_886_696,
    multiply_adds=22_800_000_000,
    gflops=345.6,
    matrix_product_gflops=800.0,
    convolution_gflops=500.0,
    peak_memory_mb=12_345.0,
)
FILES = FileRate(
    **RATE,
    files="JPEG of 500 x 375",
    decoder_images_per_second=900.0,
    network_images_per_second=1100.0,
)


class Terminal(io.StringIO):
    """A stdout that people look at."""

    def isatty(self):
        return True

    def lines(self):
        return re.sub(r"\x1b\[[\d;]*m", "", self.getvalue()).splitlines()


@pytest.fixture
def terminal(monkeypatch):
    """A function that makes stdout a terminal of so many columns."""

    def begin(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("sys.stdout", Terminal())
        return console.sys.stdout

    return begin


def rows_of(kind):
    headings, cells = table([kind])
    whole = console.table(*headings)
    for row in cells:
        whole.add_row(*row)
    return whole, [heading.rstrip("*") for heading in headings], cells[0]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 160])
@pytest.mark.parametrize("kind", [TRAINING, FILES])
def test_a_table_fits_the_terminal(terminal, kind, columns):
    out = terminal(columns)
    whole, headings, cells = rows_of(kind)
    console.print_table(whole)
    assert all(len(line) <= columns for line in out.lines())
    assert "…" not in out.getvalue()
    text, _, below = " ".join(" ".join(out.lines()).split()).partition("Hidden for lack of space: ")
    left_out = below.partition(".")[0].split(", ") if below else []
    kept = headings[: len(headings) - len(left_out)]
    assert headings == kept + left_out  # the last go first
    for word in " ".join([*kept, *cells[: len(kept)]]).split():
        assert all(part in text for part in re.split(r"(?<=,)(?=\D)", word)), word
    assert {"network", "images/s"} <= set(kept)
    assert bool(left_out) == (columns < 160)


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("command", ["models wide*", "show resnet50"])
def test_every_name_is_whole_on_a_narrow_terminal(resnetlab, terminal, columns, command):
    words = command.split()
    rows = json.loads(resnetlab(*words, "--json").out)
    out = terminal(columns)
    resnetlab(*words)
    first = {line.split()[0] for line in out.lines() if line.strip()}
    assert {row["name"] for row in rows} <= first
    assert "…" not in out.getvalue()


@pytest.mark.parametrize("columns", [20, 60])
def test_a_pipe_gets_all(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    whole, headings, cells = rows_of(TRAINING)
    console.print_table(whole)
    header, _, row, *_ = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert re.split(r" {2,}", header.strip()) == headings
    assert re.split(r" {2,}", row.strip()) == cells


def test_an_empty_table_is_empty(terminal):
    for whole in (console.table(), console.table("name", "size*")):
        out = terminal(60)
        console.print_table(whole)
        assert set(" ".join(out.lines()).split()) <= {"name", "size", "─" * 13}


def test_markup_and_sections_are_kept(terminal):
    out = terminal(30)
    whole = console.table("name", "size*")
    whole.add_row("[bold]", "1,000", end_section=True)
    whole.add_row("total", "1,000")
    console.print_table(whole)
    body = [line for line in out.lines() if line.strip()]
    assert [line.split() for line in body if "0" in line] == [
        ["[bold]", "1,000"],
        ["total", "1,000"],
    ]
    assert len(out.lines()) == 7  # a blank line above, between and below


@given(
    columns=st.integers(8, 120),
    cells=st.lists(
        st.lists(st.text("ab, 1", max_size=30), min_size=3, max_size=3), min_size=1, max_size=4
    ),
)
def test_no_table_is_wider_than_its_room_nor_loses_a_letter(columns, cells):
    whole = console.table("first", "second*", "third")
    for row in cells:
        whole.add_row(*row)
    fitted, left_out = console.fit(whole, columns)
    out = io.StringIO()
    Console(file=out, width=columns, markup=False).print(fitted)
    assert all(len(line) <= columns for line in out.getvalue().splitlines())
    kept = cells if not left_out else [row[: -len(left_out)] for row in cells]
    letters = "".join(sorted("".join("".join(row) for row in kept).replace(" ", "")))
    body = out.getvalue().rpartition("─")[2]
    assert "".join(sorted("".join(body.split()))) == letters


def test_progress_is_for_terminals_alone(capsys):
    assert list(console.progress(iter("abc"), 3, "counting")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_progress_says_what_it_is_and_goes(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", err := Terminal())
    for _ in console.progress(range(3), 3, "evaluating on [cifar10], test"):
        pass
    shown = re.sub(r"\x1b\[[\d;]*m", "", err.getvalue())
    assert "evaluating on [cifar10], test" in shown
    assert "3/3" in shown
    assert shown.endswith("\x1b[2K")  # its line is cleared


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202egnp.exe", "\\u202egnp.exe"),  # right to left
        ("caf\udce9", "caf\\udce9"),
        ("at 3\u202fPM, 猫, naïve", "at 3\u202fPM, 猫, naïve"),  # how a Mac names screenshots
    ],
)
def test_nothing_that_is_printed_commands_the_terminal(text, shown, capsys, terminal):
    assert console.visible(text) == shown
    console.print_to_stderr(text)
    console.print_line(text)
    assert capsys.readouterr() == (f"{shown}\n", f"{shown}\n")
    table = console.table("class", "n*")
    table.add_row(text, "1")
    console.print_table(table)
    assert shown in capsys.readouterr().out
    screen = terminal(80)
    console.print_table(table)
    assert any(shown in line for line in screen.lines())


def test_json_is_what_strict_readers_take(capsys):
    console.print_json({"loss": float("nan"), "rows": [1.5, (float("inf"), "\x1b")], "n": 3})
    out = capsys.readouterr().out
    assert json.loads(out) == {"loss": None, "rows": [1.5, [None, "\x1b"]], "n": 3}
    assert "\x1b" not in out


def test_a_wait_is_said_on_a_terminal_alone(monkeypatch, capsys):
    with console.waiting("reading x"):
        print("result")
    assert capsys.readouterr() == ("result\n", "")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Terminal())
    with console.waiting("reading \x1b[31mx"):
        print("result")
    assert "reading \\x1b[31mx" in console.sys.stderr.getvalue()
    assert capsys.readouterr().out == "result\n"


def test_of_two_waits_the_inner_one_is_shown(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Terminal())
    running = []
    with console.waiting("outer"):
        for _ in console.progress(range(2), 2, "inner"):
            running.append([bar.live.is_started for bar in console._shown])
        running.append([bar.live.is_started for bar in console._shown])
    assert running == [[False, True], [False, True], [True]]
    assert console._shown == []
