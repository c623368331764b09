"""Predictions as they are printed: one by one, in three formats."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from resnetlab.cli.predictions import print_predictions
from resnetlab.inference.predictor import Prediction

RESULTS = [
    Prediction("folder/[red]cat, 1.png", (("cat", 98.25), ("dog", 1.5), ("T-shirt/top", 0.25))),
    Prediction("b.png", error="cannot read b.png: not an image"),
    Prediction("x" * 90 + ".png", (("dog", 60.0), ("cat", 39.0), ("T-shirt/top", 1.0))),
]


@pytest.fixture
def printed(capsys):
    """A function that prints predictions: what went to stdout and to stderr."""

    def show(predictions, format="table", topk=3):
        known = [prediction for prediction in RESULTS if prediction.path]
        names = [prediction.path for prediction in known]
        classes = [name for name, _ in RESULTS[0].top]
        capsys.readouterr()
        failed = print_predictions(predictions, format, names=names, classes=classes, topk=topk)
        out, err = capsys.readouterr()
        assert failed == len(err.splitlines())
        return out, err

    return show


def test_json_holds_everything_in_percent(printed):
    out, _ = printed(RESULTS, "json")
    values = json.loads(out)
    assert [value["image"] for value in values] == [r.path for r in RESULTS]
    assert values[0]["predictions"][1] == {"class": "dog", "probability": 1.5}
    assert values[0]["error"] is None
    assert values[1] == {
        "image": "b.png",
        "predictions": [],
        "none_of_these": False,
        "error": "cannot read b.png: not an image",
    }
    assert out == json.dumps(values, indent=2) + "\n"
    assert printed([], "json") == ("[]\n", "")


def test_csv_has_a_row_for_each_image_and_rank(printed):
    rows = list(csv.DictReader(io.StringIO(printed(RESULTS, "csv")[0])))
    assert list(rows[0]) == ["image", "rank", "class", "probability", "none_of_these"]
    assert len(rows) == 6
    assert rows[1] == {
        "image": "folder/[red]cat, 1.png",
        "rank": "2",
        "class": "dog",
        "probability": "1.5",
        "none_of_these": "0",
    }


def test_what_is_too_unlikely_is_none_of_these(printed):
    unsure = [replace(RESULTS[0], none_of_these=True), *RESULTS[1:]]
    (value, *_) = json.loads(printed(unsure, "json")[0])
    assert value["none_of_these"] is True
    assert value["predictions"][0]["class"] == "cat"
    assert next(csv.DictReader(io.StringIO(printed(unsure, "csv")[0])))["none_of_these"] == "1"
    row = next(line for line in printed(unsure)[0].splitlines() if "1.png" in line)
    assert re.search(r"none of these +[\d.]+ % +cat [\d.]+, dog 1\.5", row), row


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_unreadable_images_are_named_on_stderr(format, printed):
    out, err = printed(RESULTS, format)
    assert err == "cannot read b.png: not an image\n"
    assert "cat" in out


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_each_is_printed_before_the_next_is_asked_for(format, capsys):
    def predictions():
        yield RESULTS[0]
        assert "[red]cat" in capsys.readouterr().out
        yield RESULTS[1]
        assert "b.png" in capsys.readouterr().err
        yield RESULTS[2]

    names = [prediction.path for prediction in RESULTS]
    print_predictions(predictions(), format, names=names, classes=["cat", "dog"], topk=3)


@pytest.mark.parametrize("done", [0, 1])
@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_ctrl_c_keeps_whole_what_was_printed(format, done, capsys):
    def predictions():
        yield from RESULTS[:done]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        print_predictions(predictions(), format, names=["a" * 99], classes=["cat", "dog"], topk=3)
    out = capsys.readouterr().out
    assert ("98.2" in out) == bool(done)
    if format == "json":
        assert len(json.loads(out)) == done


def test_a_piped_table_keeps_a_row_to_a_line_and_takes_no_name_for_markup(printed):
    lines = [line.split() for line in printed(RESULTS)[0].splitlines() if line.strip()]
    assert lines[0] == ["image", "prediction", "confidence", "then", "(%)"]
    assert " ".join(lines[2]) == "folder/[red]cat, 1.png cat 98.2 % dog 1.5, T-shirt/top 0.2"
    assert lines[3][:4] == ["x" * 90 + ".png", "dog", "60.0", "%"]
    assert len(lines) == 4


def test_a_table_of_the_first_class_alone_has_no_further_column(printed):
    assert "then" not in printed([Prediction("a.png", (("cat", 98.25),))], topk=1)[0]
    assert printed([RESULTS[1]])[0] == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("topk", [1, 5])
def test_a_terminal_sees_all_in_columns_that_stay(columns, topk, monkeypatch):
    paths = ["photos/of my cat.png", "a/" * 30 + "long.png", "猫" * 30 + ".png"]
    classes = ["American Staffordshire terrier", "white wolf", "cat", "tench", "猫"]
    percent = (50.0, 20.0, 15.0, 10.0, 5.0)
    predictions = [
        Prediction(path, tuple(zip(classes, percent, strict=True))[:topk]) for path in paths
    ]
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout", out := Terminal())
    print_predictions(predictions, "table", names=paths, classes=classes, topk=topk)
    lines = out.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= columns
    # every row has its number in the same column of text, and no letter is lost
    ends = {cell_len(line[: match.end()]) for line in lines if (match := re.search("50.0 %", line))}
    assert len(ends) == 1
    letters = sorted("".join(out.getvalue().split()))
    for text in [*paths, *classes[:topk] * 3]:
        for letter in text.replace(" ", ""):
            letters.remove(letter)
    if columns == 80 and topk == 5:
        whole = re.sub(r"\s+", " ", out.getvalue())
        assert all(
            f"{name} {p}" in whole for name, p in zip(classes[1:4], percent[1:4], strict=True)
        )


def test_file_names_that_are_not_utf8_can_be_printed(monkeypatch):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    broken = [Prediction(name, (("cat", 99.0),)), Prediction(name, error=f"cannot read {name}")]
    for format in ("table", "json", "csv"):
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
        monkeypatch.setattr("sys.stdout", streams[0])
        monkeypatch.setattr("sys.stderr", streams[1])
        print_predictions(broken, format, names=[name], classes=["cat", "dog"], topk=1)
        for stream in streams:
            stream.flush()
            assert "caf" in stream.buffer.getvalue().decode()


def test_no_file_name_commands_the_terminal(printed):
    red = "\x1b[31mred.png"
    out, err = printed([Prediction(red, (("cat", 9.0),)), Prediction("b", error=f"no {red}")])
    assert "\\x1b[31mred.png" in out
    assert "\\x1b[31mred.png" in err
    assert "\x1b" not in out + err
