"""The words of a command line, and the arguments that they become."""

from pathlib import Path
from typing import Annotated, Any

import pytest

from resnetlab.cli.commands import Command, Group
from resnetlab.cli.options import Arg
from resnetlab.errors import UserError


def job(
    run: Annotated[Path, Arg("a run", "RUN")],
    images: Annotated[tuple[str, ...], Arg("images", "PATH ...")] = (),
    *,
    lr: Annotated[float, Arg("rate")] = 0.1,
    batch_size: Annotated[int, Arg("size")] = 1,
    mean: Annotated[tuple[float, ...], Arg("means")] = (),
    json: Annotated[bool, Arg("for machines")] = False,
) -> None:
    """Do a job.

    In two paragraphs.
    """


JOB = Command(name="program job", function=job)
GROUP = Group(
    name="program",
    about="",
    members={"job": JOB, "other-job": JOB},
    noun="task",
    present=lambda name: name.replace("old-job", "job"),
)

PARSED: list[tuple[str, dict[str, Any]]] = [
    ("a", {}),
    ("a --lr 2", {"lr": 2.0}),
    ("--lr=2 a", {"lr": 2.0}),
    ("a --lr -1e-3", {"lr": -1e-3}),
    ("a --lr -inf", {"lr": float("-inf")}),
    ("a --lr 1 --lr 3", {"lr": 3.0}),
    ("a --batch_size 4", {"batch_size": 4}),
    ("a --json --no-json", {"json": False}),
    ("a x --json y z", {"json": True, "images": ("x", "y", "z")}),
    ("a x --mean 1 2 -3 --json y", {"mean": (1.0, 2.0, -3.0), "json": True, "images": ("x", "y")}),
    ("a --mean=1 2", {"mean": (1.0, 2.0)}),
    ("a -- --lr -x", {"images": ("--lr", "-x")}),
]


@pytest.mark.parametrize(("words", "values"), PARSED)
def test_words_become_arguments(words, values):
    assert JOB.parse(words.split()) == {"run": Path("a")} | values


@pytest.mark.parametrize("words", ["", "--json", "a --lr", "a --lr --json", "a --lrr 1", "a -x"])
def test_what_cannot_be_is_refused(words):
    with pytest.raises(UserError):
        JOB.parse(words.split())


def test_usage_and_purpose():
    assert JOB.usage == "program job RUN [PATH ...] [options]"
    assert JOB.about == "Do a job.\n\nIn two paragraphs."


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("job a b", (JOB, ["a", "b"])),
        ("other_job", (JOB, [])),
        ("old-job a", (JOB, ["a"])),
        ("--lr 1 job a", (JOB, ["a", "--lr", "1"])),  # as in `train --out runs/a smoke`
        ("--help", (GROUP, ["--help"])),
        ("job --help", (JOB, ["--help"])),
    ],
)
def test_a_group_finds_its_commands(words, found):
    assert GROUP.find(words.split()) == found


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("", "name a task: .*job"), ("jbo", "no task 'jbo'; did you mean 'job'"), ("--lr", "before")],
)
def test_a_group_refuses_what_it_has_not(words, wanted):
    with pytest.raises(UserError, match=wanted):
        GROUP.find(words.split())
