"""How long a study's runs are: asked for, recorded, or as a budget allows."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetlab.errors import UserError
from resnetlab.study import settle as module
from resnetlab.study.settle import Extent, epochs_within, makespan, settle
from resnetlab.study.table import STUDIES, get_study, planned_runs


def settled(folder, name="degradation", **options):
    given = {"epochs": None, "budget": None, "seeds": None, "jobs": 1} | options
    return settle(STUDIES[name], folder, **given)


def test_the_folder_keeps_what_was_settled(tmp_path):
    assert settled(tmp_path) == Extent(epochs=8, seeds=2)
    assert settled(tmp_path / "other", epochs=3, seeds=1) == Extent(epochs=3, seeds=1)
    assert settled(tmp_path / "other") == Extent(epochs=3, seeds=1)
    assert settled(tmp_path / "other", seeds=4) == Extent(epochs=3, seeds=4)
    assert settled(tmp_path / "other", seeds=2) == Extent(epochs=3, seeds=4)
    with pytest.raises(UserError, match="holds a study of 3 epochs; leave `epochs` out"):
        settled(tmp_path / "other", epochs=8)
    with pytest.raises(UserError, match="holds the study degradation; name another folder"):
        settled(tmp_path, "stem")
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study\.json is damaged"):
        settled(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "`seeds` must be at least 1"),
        ({"jobs": 0}, "`jobs` must be at least 1"),
        ({"epochs": 0}, "`epochs` must be greater than 0"),
        ({"epochs": 3, "budget": 60.0}, "not both"),
    ],
)
def test_impossible_numbers(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        settled(tmp_path, **options)
    assert not list(tmp_path.iterdir())


@settings(max_examples=15)
@given(
    budget=st.floats(200, 5000),
    seeds=st.integers(1, 3),
    jobs=st.integers(1, 3),
    costs=st.lists(st.floats(0.5, 5), min_size=9, max_size=9),
)
def test_a_budget_is_used_and_kept(budget, seeds, jobs, costs):
    study = STUDIES["degradation"]
    of = {variant.name: cost for variant, cost in zip(study.variants, costs, strict=True)}

    def duration(epochs):
        runs = planned_runs(study, epochs, seeds)
        seconds = [module.OVERHEAD + run.recipe.epochs * of[run.variant.name] for run in runs]
        return makespan(seconds, jobs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_seconds_per_epoch", lambda run, jobs: of[run.variant.name])
        if duration(1) > budget:
            with pytest.raises(UserError, match="`budget` is too small: with 1 epoch"):
                epochs_within(budget, study, seeds=seeds, jobs=jobs)
            return
        epochs = epochs_within(budget, study, seeds=seeds, jobs=jobs)
    assert duration(epochs) <= budget < duration(epochs + 1)


def test_makespan():
    assert makespan([3, 1, 1, 4], 1) == 9
    assert makespan([3, 1, 1, 4], 2) == 6
    assert makespan([3, 1], 5) == 3


def test_speed_is_measured_by_real_steps(samples):
    study = get_study("seeds", "smoke")
    (run,) = planned_runs(study, 1, 1)
    small = {"depths": "1,1,1", "widths": "4,8,8"}
    changes = {"data_dir": str(samples), "execution": "plain", "model_overrides": small}
    run = replace(run, recipe=replace(run.recipe, **changes))
    seconds = module._seconds_per_epoch(run, 1)
    assert 0 < seconds < 60


def test_what_is_written_is_plain(tmp_path):
    settled(tmp_path, epochs=2.5)
    values = json.loads((tmp_path / "study.json").read_text())
    assert values == {"study": "degradation", "epochs": 2.5, "seeds": 2}
