"""Runs that go on otherwise than they were begun: on other machines, longer, at other rates."""

import json
import re
import signal

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnetlab.errors import UserError
from resnetlab.recipes.table import get_recipe
from resnetlab.runs import Run
from resnetlab.training import resuming
from resnetlab.training.job import resume, train
from resnetlab.training.probe import choose_execution

HERE = "cpu,fp32,contiguous,eager,threads=1"


@pytest.fixture
def from_elsewhere(tiny):
    """A function: an interrupted run as it comes from a machine that computed otherwise."""

    def make(execution, **saved):
        run = Run(tiny.interrupted("run"))
        values = run.last | {"recipe": run.recipe.to_dict() | {"execution": execution}} | saved
        run.states.write(values)
        run.write_recipe(get_recipe(run.recipe, execution=execution))
        return run

    return make


@pytest.fixture
def measured(monkeypatch):
    """What is measured anew would be plain here; the list tells for which executions it was."""
    asked = []

    def choose(plan, **options):
        asked.append(plan.recipe.execution)
        if plan.recipe.execution == "auto":
            return resuming.Execution.parse(HERE)
        return choose_execution(plan, **options)

    monkeypatch.setattr(resuming, "choose_execution", choose)
    return asked


def no_compiler(*_):
    raise UserError("execution fused needs a C++ compiler (Debian: apt install g++).")


@pytest.mark.parametrize(
    ("execution", "saved", "lack"),
    [
        ("cpu,bf16,channels_last,fused,threads=2", {}, "needs a C++ compiler"),
        ("cpu,fp32,contiguous,compile,threads=2", {}, "there is no C++ compiler"),
        ("cuda,bf16,channels_last,compile", {}, "torch finds no GPU"),
        ("cuda,fp16,contiguous,eager", {}, "torch finds no GPU"),
        ("cpu,bf16,channels_last,eager", {"processor": "Other"}, "this processor has no bf16"),
    ],
)
def test_what_this_machine_lacks_is_chosen_anew(
    from_elsewhere, measured, monkeypatch, tiny, capsys, execution, saved, lack
):
    monkeypatch.setattr(resuming, "compiled", no_compiler)
    monkeypatch.setattr(resuming, "compiler", lambda: None)
    monkeypatch.setattr(resuming, "has_fast_bf16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = from_elsewhere(execution, **saved)
    with tiny.signal_after(signal.SIGINT, 2), pytest.raises(KeyboardInterrupt):
        resume(run.path)
    said = [line for line in capsys.readouterr().err.splitlines() if "cannot be had" in line]
    assert len(said) == 1
    assert said[0].startswith(f"execution {execution} cannot be had here (")
    assert lack in said[0]
    assert f"going on with {HERE}" in said[0]
    assert run.recipe.execution == HERE
    measured.clear()
    resume(run.path)  # from here on it is as any other run
    assert measured == [HERE]
    assert "cannot be had" not in capsys.readouterr().err


def test_bf16_that_was_wanted_on_this_very_machine_stays(from_elsewhere, measured, monkeypatch):
    monkeypatch.setattr(resuming, "has_fast_bf16", lambda: False)
    run = from_elsewhere("cpu,bf16,channels_last,eager,threads=1")
    resume(run.path)
    assert measured == ["cpu,bf16,channels_last,eager,threads=1"]


def test_another_execution_may_be_asked_for(from_elsewhere, measured, resnetlab, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = from_elsewhere("cuda,bf16,channels_last,compile")
    answer = resnetlab("resume", run.path, "--execution", "channels_last,threads=1")
    assert answer.code == 0, answer.err
    assert run.recipe.execution == "cpu,fp32,channels_last,eager,threads=1"
    assert "cannot be had" not in answer.err
    answer = resnetlab("resume", run.path, "--execution", "bf61")
    assert (answer.code, "is finished" in answer.err) == (2, True)


def test_auto_measures_anew(from_elsewhere, measured):
    run = from_elsewhere("cpu,fp32,channels_last,eager,threads=1")
    resume(run.path, execution="auto")
    assert measured == ["auto"]
    assert run.recipe.execution == HERE


def test_the_number_of_threads_is_kept(tiny, tmp_path, use_threads):
    whole = tiny.train("whole")
    run = tiny.interrupted("broken")
    assert Run(run).recipe.execution == HERE
    use_threads(2)
    resume(run)
    assert torch.get_num_threads() == 1
    assert tiny.contents(run) == tiny.contents(whole.run)


def test_more_threads_than_cores_are_said(from_elsewhere, monkeypatch, capsys, use_threads):
    monkeypatch.setattr(resuming, "available_cores", lambda: 1)
    run = from_elsewhere("cpu,fp32,contiguous,eager,threads=2")
    resume(run.path)
    assert "computing with 2 threads, as before, on 1 cores: slow" in capsys.readouterr().err
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "changes", [{"epochs": 4}, {"epochs": 4, "lr": 0.02}, {"lr": 0.01}, {"accumulate": 2}]
)
def test_a_changed_run_that_is_interrupted_goes_on_to_the_bit(tiny, tmp_path, changes):
    first = tiny.interrupted if "epochs" not in changes else tiny.train
    for name in ("whole", "broken"):
        first(name)
    resume(tmp_path / "whole", **changes)
    with tiny.signal_after(signal.SIGINT, 2), pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "broken", **changes)
    resume(tmp_path / "broken")
    assert tiny.contents(tmp_path / "broken") == tiny.contents(tmp_path / "whole")
    recipe = Run(tmp_path / "whole").recipe
    assert {name: getattr(recipe, name) for name in changes} == changes
    assert Run(tmp_path / "whole").best.recipe["lr"] == recipe.lr


def test_a_finished_run_is_trained_further(tiny, tmp_path, resnetlab):
    run = tiny.train(warmup_epochs=None, warmup_share=0.25, early_share=0.5, early_size=16).run
    answer = resnetlab("resume", run)
    assert answer.code == 2
    assert "To train it further, give more --epochs." in answer.err
    answer = resnetlab("resume", run, "--epochs", 2)
    assert f"{run} has trained 2 epochs already; give more --epochs than 2." in answer.err
    assert (run / "test.json").exists()
    answer = resnetlab("resume", run, "--epochs", 4)
    assert answer.code == 0, answer.err
    assert "changed from here on: epochs 2 -> 4" in answer.err
    # one-cycle after half an epoch of warm-up: 2 of 3.5 epochs are left
    assert (
        "the schedule (one-cycle) is that of 4 epochs from here on: lr goes on at 0.02857, not 0, "
        "and ends at 0"
    ) in answer.err
    assert "resuming after step 6 of 12, in epoch 3 of 4" in answer.err
    history = Run(run).metrics
    assert [line["step"] for line in history] == [3, 6, 9, 12]
    assert history[2]["lr"] == pytest.approx(0.05 * (2 - 2 / 3) / 3.5)
    recipe = Run(run).recipe
    assert (recipe.warmup_share, recipe.early_share) == (0.125, 0.25)  # as long as they were
    assert json.loads((run / "test.json").read_text())["n"] == 100


def test_epochs_that_are_over_are_refused(tiny, tmp_path):
    with tiny.signal_after(signal.SIGINT, 5), pytest.raises(KeyboardInterrupt):
        tiny.train(epochs=4)
    for epochs in (1.1, 5 / 3):
        with pytest.raises(UserError, match=r"has trained 1\.66667 epochs .*give more `epochs`"):
            resume(tmp_path / "run", epochs=epochs)
    resume(tmp_path / "run", epochs=2)
    assert [line["step"] for line in Run(tmp_path / "run").metrics] == [3, 6]


def test_an_epoch_that_is_trained_further_has_one_line(tiny, tmp_path):
    run = tiny.train(epochs=4 / 3, warmup_epochs=0).run
    (_, partial) = Run(run).metrics
    assert partial["step"] == 4
    resume(run, epochs=3)
    assert [line["step"] for line in Run(run).metrics] == [3, 6, 9]
    # all three steps of the second epoch count
    right = Run(run).metrics[1]["train_top1"] * 192 / 100
    assert right == pytest.approx(round(right))
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [3, 6, 9]


def test_the_same_command_goes_on_with_its_own_run(tiny, tmp_path, capsys, monkeypatch):
    whole = tiny.train("whole")
    tiny.interrupted("run", resume_if_exists=True)
    again = tiny.train("run", resume_if_exists=True)
    assert "run holds this run already: going on with it\n" in capsys.readouterr().err
    assert tiny.contents(again.run) == tiny.contents(whole.run)
    once_more = tiny.train("run", resume_if_exists=True, lr=0.5)
    assert (once_more.test, once_more.history) == (None, again.history)
    assert "run is finished; its result is in" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"run holds another run \(batch_size 64 -> 32\)"):
        tiny.train("run", resume_if_exists=True, batch_size=32)


def test_a_path_of_weights_is_kept_absolute(tiny, tmp_path, monkeypatch):
    first = tiny.train("first")
    monkeypatch.chdir(tmp_path)
    run = tiny.interrupted("second", pretrained="first")
    assert Run(run).recipe.pretrained == str(first.run)
    monkeypatch.chdir("/")
    (run / "last.pt").unlink()
    assert resume(run).history[-1]["step"] == 6


def edit(run, **changes):
    path = run / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_recipe_changed_by_hand_is_refused_unless_accepted(tiny, tmp_path, resnetlab):
    run = tiny.interrupted("a b")
    edit(run, lr=0.02, seed=3)
    answer = resnetlab("resume", run)
    sentence = (
        f"resnetlab: {run}/last.pt does not fit the recipe.json beside it, which was changed by "
        "hand (seed 0 -> 3, lr 0.05 -> 0.02); put it back, or go on with the new values: "
        f"resnetlab resume '{run}' --accept-changes\n"
    )
    assert (answer.code, answer.err) == (2, sentence)
    answer = resnetlab("resume", run, "--accept-changes")
    assert answer.code == 0, answer.err
    assert "changed from here on: seed 0 -> 3, lr 0.05 -> 0.02" in answer.err
    assert (Run(run).recipe.lr, Run(run).recipe.seed) == (0.02, 3)
    assert Run(run).metrics[-1]["lr"] < 0.02


@pytest.mark.parametrize(
    "changes", [{"batch_size": 32}, {"optimizer": "muon"}, {"model": "resnet32"}, {"val_size": 50}]
)
def test_what_cannot_be_changed_is_refused_even_if_accepted(tiny, changes):
    run = tiny.interrupted()
    (name,) = changes
    with pytest.raises(UserError, match=f"`{name}` cannot be changed in a run that has begun"):
        resume(run, **changes)
    edit(run, **changes)
    with pytest.raises(
        UserError, match=rf"last\.pt does not fit.*{name} .*cannot change; put it b"
    ):
        resume(run, accept_changes=True)


def test_a_change_that_no_bit_depends_on_is_only_said(tiny, capsys):
    run = tiny.interrupted()
    edit(run, tta="flip")
    assert resume(run).test_tta.tta == "flip"
    assert "changed from here on: tta none -> flip" in capsys.readouterr().err


def test_before_the_first_epoch_everything_can_be_changed(tiny, tmp_path, capsys):
    whole = tiny.train("whole", batch_size=32)
    run = tiny.interrupted()
    (run / "last.pt").unlink()
    edit(run, batch_size=32)
    with pytest.raises(UserError, match="damaged or was changed by hand"):
        resume(run)
    resume(run, accept_changes=True)
    assert tiny.contents(run) == tiny.contents(whole.run)
    said = capsys.readouterr().err
    assert "nothing was saved yet: starting from the first step" in said


def test_more_processes_than_before_are_refused_unless_accepted(from_elsewhere):
    run = from_elsewhere(HERE, processes=4)
    with pytest.raises(UserError, match=r"was trained by 4 and is resumed by 1 process.*-node 4 "):
        resume(run.path)
    resume(run.path, accept_changes=True)


def test_a_damaged_last_state_costs_an_epoch_and_no_more(tiny, tmp_path, capsys):
    whole = tiny.train("whole")
    with tiny.signal_after(signal.SIGINT, 5), pytest.raises(KeyboardInterrupt):
        tiny.train("broken")
    last = tmp_path / "broken" / "last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    resume(tmp_path / "broken")
    assert re.search(
        r"last\.pt is damaged .* going on from the st.*, previous.pt", capsys.readouterr().err
    )
    assert tiny.contents(tmp_path / "broken") == tiny.contents(whole.run)


def test_a_state_of_version_0_1_0_goes_on_to_the_bit(tiny, tmp_path):
    """It knows neither recipe nor digest, and recipe.json no threads."""
    whole = tiny.train("whole")
    run = tiny.interrupted("old")
    values = torch.load(run / "last.pt", weights_only=True)
    for name in ("digest", "format", "recipe", "processes", "processor"):
        del values[name]
    torch.save(values, run / "last.pt")
    recipe = json.loads((run / "recipe.json").read_text()) | {"execution": "plain"}
    del recipe["digest"], recipe["format"]
    (run / "recipe.json").write_text(json.dumps(recipe))
    resume(run)
    assert tiny.contents(run) == tiny.contents(whole.run)


def test_what_is_no_run_or_recipe_is_a_sentence(samples):
    with pytest.raises(UserError, match="`run` must be text or a path, not 123"):
        resume(123)
    with pytest.raises(UserError, match="`recipe` must be text or of type Recipe, not 5"):
        train(5)
    with pytest.raises(UserError, match=r"`out` must be .*a path.*, not 5"):
        train("smoke", out=5, data_dir=samples)
    with pytest.raises(UserError, match="has no field 'lrr'; did you mean 'lr'"):
        resume("run", lrr=1)
