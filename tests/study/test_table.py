"""The plans of the studies, and the commands that they are."""

from dataclasses import replace

import pytest

from resnetlab.errors import UserError
from resnetlab.models.architecture import get_architecture
from resnetlab.recipes.table import get_recipe
from resnetlab.runs import Run
from resnetlab.study.runner import check_runs, command, unfinished
from resnetlab.study.table import STUDIES, get_study, planned_runs
from resnetlab.training import job


def names(runs):
    return [run.name for run in runs]


def test_degradation_is_the_papers_plain_and_residual_networks():
    runs = planned_runs(STUDIES["degradation"], 8, 2)
    models = [f"{kind}{depth}" for kind in ("plain", "resnet") for depth in (20, 32, 44, 56)]
    assert names(runs) == [f"{model}-seed{seed}" for seed in (0, 1) for model in models]
    for run in runs:
        model, seed = run.name.split("-seed")
        changes = {"model": model, "seed": int(seed), "epochs": 8}
        changes |= {"schedule": "one-cycle", "warmup_share": 0.25, "val_size": 5000}
        assert run.recipe == get_recipe("cifar10-paper", **changes)
    assert names(planned_runs(STUDIES["degradation"], 32, 1))[-1] == "resnet110-seed0"


@pytest.mark.parametrize("name", STUDIES)
def test_every_command_trains_the_planned_recipe(resnetlab, monkeypatch, tmp_path, name):
    given = {}

    def train(recipe, *, out, **changes):
        given.update(recipe=get_recipe(recipe, **changes), out=out)
        return job.Training(run=out, history=[], test=None)

    monkeypatch.setattr(job, "train", train)
    runs = planned_runs(STUDIES[name], 40, 2)
    assert len({*names(runs)}) == len(runs) == 2 * len(STUDIES[name].variants)
    for run in runs:
        recipe = run.recipe
        get_architecture(recipe.model, **recipe.model_overrides)
        answer = resnetlab(*command(run, tmp_path)[1:])
        assert answer.code == 0, answer.err
        assert given == {"recipe": recipe, "out": tmp_path / run.name}


def test_the_learning_curve_takes_as_many_steps_of_few_images_as_of_many():
    runs = planned_runs(STUDIES["learning-curve"], 13, 1)
    images = [run.recipe.epochs * run.recipe.train_size for run in runs]
    assert images == pytest.approx([13 * 45_000] * len(runs), rel=1e-3)
    shares = {run.recipe.warmup_length / run.recipe.epochs for run in runs}
    assert len({round(share, 6) for share in shares}) == 1


def test_blocks_are_compared_at_one_depth():
    runs = planned_runs(STUDIES["blocks"], 1, 1)
    nets = [get_architecture(run.recipe.model, **run.recipe.model_overrides) for run in runs]
    assert {net.num_layers for net in nets} == {56}
    assert [net.block for net in nets] == ["basic", "bottleneck"]


def test_a_folder_with_fitting_runs_is_taken_and_others_are_refused(tmp_path):
    runs = planned_runs(STUDIES["degradation"], 8, 1)
    done, begun, *_ = runs
    for planned in (done, begun):
        run = Run.create("x", tmp_path / planned.name)
        fixed = "cpu,bf16,channels_last,winograd,threads=1"
        run.write_recipe(replace(planned.recipe, execution=fixed, data_dir="/data"))
    Run(tmp_path / done.name).write_result({"top1": 50.0})
    check_runs(runs, tmp_path)
    assert names(unfinished(runs, tmp_path)) == names(runs[1:])
    assert command(begun, tmp_path) == ["resnetlab", "resume", str(tmp_path / begun.name)]
    longer = planned_runs(STUDIES["degradation"], 9, 1)
    with pytest.raises(UserError, match=r"`out` .*plain20-seed0 holds another run \(epochs 8 -> 9"):
        check_runs(longer, tmp_path)


def test_unknown_studies_and_recipes():
    with pytest.raises(UserError, match="no study 'degredation'; did you mean 'degradation'"):
        get_study("degredation")
    with pytest.raises(UserError, match="seeds needs the `recipe`"):
        get_study("seeds")
    with pytest.raises(UserError, match="no recipe 'cifar'"):
        get_study("seeds", "cifar")
    with pytest.raises(UserError, match="leave `recipe` out"):
        get_study("stem", "smoke")
    study = get_study("seeds", "smoke")
    assert names(planned_runs(study, None, 2)) == ["smoke-seed0", "smoke-seed1"]
