import json

import pytest
import torch

from resnetlab.benchmark import random_dataset
from resnetlab.compute.execution import Execution
from resnetlab.errors import UserError
from resnetlab.models.architecture import get_architecture
from resnetlab.recipes.table import get_recipe
from resnetlab.training import probe
from resnetlab.training.plan import make_plan

SMALL = get_architecture("resnet20", depths=(1,), widths=(16,))
FACTORS = {"bf16": 2.0, "channels_last": 1.5, "fused": 1.3, "winograd": 1.2, "compile": 1.1}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine whose rates are known; ``measured`` tells what was tried."""

    class Machine:
        def __init__(self):
            self.factors = dict(FACTORS)
            self.broken = None
            self.without_compiler = False

        def measure(self, plan, batch_size):
            execution = plan.execution
            self.batch_sizes.add(batch_size)
            if execution.mode == self.broken == "compile":
                raise RuntimeError("backend='inductor' raised\nand told all about it")
            if execution.mode == self.broken:
                raise UserError(f"execution {self.broken}: g++ failed (reason); take eager.")
            self.measured.append(str(execution))
            rate = 100.0
            for word in str(execution).split(","):
                rate *= self.factors.get(word, 1.0)
            return rate

        def choose(self, processes=1, **changes):
            self.measured, self.said, self.batch_sizes = [], [], set()
            overrides = {"depths": (1,), "widths": (16,)}
            recipe = get_recipe("smoke", **{"model_overrides": overrides} | changes)
            plan = make_plan(recipe, random_dataset(SMALL, 8, 64))
            return probe.choose_execution(plan, processes=processes, report=self.said.append)

        def compiled(self, name):
            if self.without_compiler:
                raise UserError(f"execution {name} needs a C++ compiler (Debian: apt install g++).")

        def compiler(self):
            return None if self.without_compiler else "g++"

    machine = Machine()
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path))
    monkeypatch.setattr(probe, "_measure", machine.measure)
    monkeypatch.setattr(probe, "fast_precision", lambda device: "bf16")
    monkeypatch.setattr(probe, "compiled", machine.compiled)
    monkeypatch.setattr(probe, "compiler", machine.compiler)
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

    def disturbed(plan, batch_size):
        calls.append(plan.execution.mode)
        rate = measure(plan, batch_size)
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
    monkeypatch.setattr("resnetlab.compute.memory.version", lambda package: "99")
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


def test_a_remembered_compiler_is_for_long_trainings_only(machine):
    machine.factors["compile"] = 1.5
    machine.choose(epochs=1e5)
    assert words(machine.choose()) == ("bf16", "channels_last", "fused")
    assert machine.measured == []


def test_the_second_time_nothing_is_measured_whichever_was_best(machine):
    machine.factors |= {"bf16": 0.9, "winograd": 4.0}
    first = machine.choose()
    assert words(first) == ("bf16", "channels_last", "winograd")
    assert machine.choose() == first
    assert machine.measured == []


def test_what_was_left_out_for_its_time_is_left_out_again(machine, monkeypatch):
    monkeypatch.setattr(probe, "BUDGET", 0)
    first = machine.choose()
    assert [name.split(",")[3] for name in machine.measured].count("eager") == 2  # and once more
    assert machine.choose() == first
    assert machine.measured == []


def test_several_processes_share_batch_and_time(machine):
    epochs = 1.5 * probe.COMPILE_PAYS * 300 / 64  # eager: 300 images/s of 64
    machine.choose(processes=1, epochs=epochs)
    assert any("compile" in name for name in machine.measured)
    machine.choose(processes=2, epochs=epochs)
    assert machine.batch_sizes == {32}
    assert not any("compile" in name for name in machine.measured)


@pytest.mark.parametrize("broken", ["fused", "winograd"])
def test_what_a_machine_cannot_do_is_said(machine, broken):
    machine.broken = broken
    chosen = machine.choose(epochs=1e5)
    assert chosen.mode != broken
    assert machine.said[-1].endswith(f"; execution {broken}: g++ failed (reason); take eager")


def test_a_failure_of_torch_compile_is_said_in_a_line(machine):
    machine.broken = "compile"
    assert machine.choose(epochs=1e5).mode == "fused"
    assert machine.said[-1].endswith("; execution compile failed (backend='inductor' raised)")


def test_a_compiler_that_has_gone_is_missed(machine):
    assert machine.choose().mode == "fused"
    machine.without_compiler = True
    assert machine.choose().mode == "eager"
    (line,) = machine.said  # nothing is measured again
    assert "execution fused needs a C++ compiler" in line


def test_a_machine_without_bf16_and_compiler(machine, monkeypatch):
    monkeypatch.setattr(probe, "fast_precision", lambda device: "fp32")
    machine.without_compiler = True
    assert words(machine.choose(epochs=1e5)) == ("fp32", "channels_last", "eager")
    assert not any(x in name for name in machine.measured for x in ("bf16", "winograd", "compile"))
    assert "no bf16 in hardware" in machine.said[-1]


@pytest.mark.parametrize("asked", ["plain", "fp32,channels_last,threads=1", "channels_last,fused"])
def test_what_is_asked_for_is_taken(machine, asked):
    assert machine.choose(execution=asked) == Execution.parse(asked)
    assert machine.measured == machine.said == []


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_memory_is_measured_again(machine, tmp_path, text):
    (tmp_path / "executions.json").write_text(text)
    machine.choose()
    assert machine.measured
    assert json.loads((tmp_path / "executions.json").read_text())


def test_fused_is_tried_in_its_own_layout(machine):
    machine.factors["channels_last"] = 0.9
    assert words(machine.choose()) == ("bf16", "channels_last", "fused")
