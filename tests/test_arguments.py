"""Wrong types in Python are one sentence that names the parameter."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import pytest
import torch

import resnetlab
from resnetlab.arguments import check_types, seconds_of
from resnetlab.errors import UserError

T = TypeVar("T")


@check_types
def function(
    whole: Annotated[int, "of something"] = 1,
    number: float | None = None,
    word: Literal["all", "none"] | None = None,
    switch: bool = False,
    path: str | Path = "",
    many: Sequence[float] | None = None,
    several: str | Iterable[str] = "",
    fields: Mapping[str, int] | None = None,
    model: str | torch.nn.Module = "",
    anything: T | str = "",
    *rest: int,
    **changes: int,
):
    return "called"


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ({"whole": "3"}, "`whole` must be a whole number, not '3'."),
        ({"whole": 2.5}, "`whole` must be a whole number, not 2.5."),
        ({"whole": True}, "`whole` must be a whole number, not True."),
        ({"whole": None}, "`whole` must be a whole number, not 'NoneType'."),
        ({"number": "3"}, "`number` must be a number, not '3'."),
        ({"word": "some"}, "`word` must be one of all, none, not 'some'."),
        ({"word": 3}, "`word` must be one of all, none, not 3."),
        ({"switch": "no"}, "`switch` must be True or False, not 'no'."),
        ({"path": 3}, "`path` must be text or a path, not 3."),
        ({"many": 0.5}, "`many` must be a list, not 0.5."),
        ({"many": "0.5"}, "`many` must be a list, not '0.5'."),
        ({"several": 3}, "`several` must be text or a list, not 3."),
        ({"fields": "stem cifar"}, "`fields` must be a dictionary, not 'stem cifar'."),
        ({"model": [3]}, "`model` must be text or of type Module, not 'list'."),
    ],
)
def test_the_parameter_is_named(argument, sentence):
    with pytest.raises(UserError) as error:
        function(**argument)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    "argument",
    [
        {"whole": np.int64(3), "number": np.float32(1)},
        {"number": 3, "word": "all", "switch": True},
        {"number": None, "word": None, "many": None, "fields": None},
        {"path": Path("x"), "many": (0.5,), "several": iter("ab"), "fields": {}},
        {"many": np.ones(3), "model": torch.nn.Linear(1, 1), "anything": object()},
        {"many": torch.ones(3), "other": "what gathers is checked elsewhere"},
    ],
)
def test_kin_of_the_types_are_taken(argument):
    assert function(**argument) == "called"


def test_python_says_what_is_no_parameter():
    @check_types
    def one(a: int) -> None: ...

    with pytest.raises(TypeError, match=r"one\(\) got an unexpected keyword argument 'b'"):
        one(1, b=2)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("call", "parameter"),
    [
        (lambda: resnetlab.predict("resnet20-cifar10", [], topk="3"), "topk"),
        (lambda: resnetlab.predict("resnet20-cifar10", [], batch_size=2.0), "batch_size"),
        (lambda: resnetlab.predict("resnet20-cifar10", 3), "images"),
        (lambda: resnetlab.predict(3, []), "run"),
        (lambda: resnetlab.predict("resnet20-cifar10", [], mean=["a"], std=[1]), "mean"),
        (lambda: resnetlab.Predictor("resnet20-cifar10", min_confidence="3"), "min_confidence"),
        (lambda: resnetlab.visualize("resnet20-cifar10", n="3"), "n"),
        (lambda: resnetlab.visualize("resnet20-cifar10", seed="a"), "seed"),
        (lambda: resnetlab.evaluate("resnet20-cifar10", dataset=3), "dataset"),
        (lambda: resnetlab.explain("resnet20-cifar10", "x.png", top="3"), "top"),
        (lambda: resnetlab.load_dataset(3, "test"), "name"),
        (lambda: resnetlab.create_model(3), "name"),
    ],
)
def test_functions_of_the_package(call: Any, parameter):
    with pytest.raises(UserError, match=f"`{parameter}`"):
        call()


def test_signatures_are_kept():
    assert "topk" in inspect.signature(resnetlab.predict).parameters
    assert resnetlab.predict.__doc__


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90s", 90), ("10m", 600), ("90min", 5400), ("1.5h", 5400), ("1.5 h", 5400)),
        *(("1h30m", 5400), ("2h", 7200), ("1m 30s", 90)),
    ],
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "0s", "10d", "5m!", "1.2.3h", "h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UserError, match="`budget` must be a time such as 90s"):
        seconds_of(text)
