import json

import pytest
import torch

from resnetlab.benchmark import random_dataset
from resnetlab.models.architecture import get_architecture
from resnetlab.training import probe
from resnetlab.training.execution import Execution
from resnetlab.training.recipe import RECIPES, get_recipe

SMALL = get_architecture("resnet20", depths=(1,), widths=(16,))
FACTORS = {"bf16": 2.0, "channels_last": 1.5, "fused": 1.3, "winograd": 1.2, "compile": 1.1}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine whose rates are known; ``measured`` tells what was tried."""

    class Machine:
        def __init__(self):
            self.factors = dict(FACTORS)
            self.broken = None

        def measure(self, execution, *_):
            if execution.mode == self.broken:
                raise ValueError(f"execution {self.broken}: g++ failed (reason); take eager.")
            self.measured.append(str(execution))
            rate = 100.0
            for word in str(execution).split(","):
                rate *= self.factors.get(word, 1.0)
            return rate

        def choose(self, **changes):
            self.measured, self.said = [], []
            recipe = get_recipe(RECIPES["smoke"], **changes)
            data = random_dataset(SMALL, 8, 64)
            return probe.choose_execution(recipe, SMALL, data, report=self.said.append)

    machine = Machine()
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path))
    monkeypatch.setattr(probe, "_measure", machine.measure)
    monkeypatch.setattr(probe, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(probe, "compiler", lambda: "g++")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return machine


def words(execution):
    return execution.precision, execution.layout, execution.mode


def test_the_fastest_is_chosen_and_said_in_a_line(machine):
    chosen = machine.choose()
    assert words(chosen) == ("bf16", "channels_last", "fused")
    assert chosen.threads == torch.get_num_threads()
    assert "measuring" in machine.said[0]
    assert machine.said[1] == f"execution {chosen}: 390 images/s measured; {PLAIN_WORDS}: 100"


def test_the_best_are_measured_twice_in_case_something_else_ran_beside_one(machine):
    measure, calls = machine.measure, []

    def disturbed(execution, *arguments):
        calls.append(execution.mode)
        rate = measure(execution, *arguments)
        return rate / 2 if calls == [*["eager"] * 4, "fused"] else rate

    probe._measure = disturbed  # the fixture puts the original back
    assert words(machine.choose()) == ("bf16", "channels_last", "fused")
    assert calls.count("fused") == 2


PLAIN_WORDS = f"cpu,fp32,contiguous,eager,threads={torch.get_num_threads()}"


def test_the_answer_is_remembered(machine, tmp_path):
    first = machine.choose()
    assert machine.measured
    assert machine.choose() == first
    assert machine.measured == []
    (rates,) = json.loads((tmp_path / "executions.json").read_text()).values()
    assert rates[str(first)] == max(rates.values())
    machine.choose(batch_size=32)
    assert machine.measured, "another batch is another question"


def test_another_version_is_measured_again(machine, monkeypatch):
    machine.choose()
    monkeypatch.setattr(probe, "version", lambda package: "99")
    machine.choose()
    assert machine.measured


def test_compiling_is_tried_where_the_training_is_long(machine):
    machine.factors["compile"] = 1.5
    assert words(machine.choose()) == ("bf16", "channels_last", "fused")
    assert not any("compile" in name for name in machine.measured)
    assert words(machine.choose(epochs=1e5)) == ("bf16", "channels_last", "compile")


def test_eager_stays_if_fusing_does_not_pay(machine):
    machine.factors |= {"fused": 0.9, "winograd": 0.9}
    assert words(machine.choose()) == ("bf16", "channels_last", "eager")


def test_winograd_where_it_pays(machine):
    machine.factors["winograd"] = 1.6
    assert words(machine.choose()) == ("bf16", "channels_last", "winograd")


@pytest.mark.parametrize("broken", ["fused", "winograd", "compile"])
def test_what_a_machine_cannot_do_is_said(machine, broken):
    machine.broken = broken
    chosen = machine.choose(epochs=1e5)
    assert chosen.mode != broken
    assert machine.said[-1].endswith(f"; execution {broken}: g++ failed (reason); take eager.")


def test_a_machine_without_bf16_and_compiler(machine, monkeypatch):
    monkeypatch.setattr(probe, "has_fast_bf16", lambda: False)
    monkeypatch.setattr(probe, "compiler", lambda: None)
    machine.broken = "fused"
    assert words(machine.choose(epochs=1e5)) == ("fp32", "channels_last", "eager")
    assert not any(x in name for name in machine.measured for x in ("bf16", "winograd", "compile"))
    assert "no bf16 in hardware" in machine.said[-1]


@pytest.mark.parametrize("asked", ["plain", "fp32,channels_last,threads=1", "channels_last,fused"])
def test_what_is_asked_for_is_taken(machine, asked):
    assert machine.choose(execution=asked) == Execution.parse(asked)
    assert machine.measured == machine.said == []


def test_a_damaged_memory_is_measured_again(machine, tmp_path):
    (tmp_path / "executions.json").write_text("{")
    machine.choose()
    assert machine.measured
    assert json.loads((tmp_path / "executions.json").read_text())


def test_fused_is_tried_in_its_own_layout(machine):
    machine.factors["channels_last"] = 0.9
    assert words(machine.choose()) == ("bf16", "channels_last", "fused")
