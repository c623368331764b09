from collections import Counter

import pytest

from resnetlab.recipes.measured import MEASURED, PAPER, PROGRAMS, RUNS, TIMINGS
from resnetlab.recipes.table import ABOUT, RECIPES

# as they were published while they were still typed: accuracy, deviation, runs, seeds, minutes
PUBLISHED = {
    "cifar10-quick": ("90.29", "0.15", 8, 3, "3 to 4"),
    "cifar10-resnet20": ("91.53", "0.17", 3, 3, "4 to 5"),
    "cifar10-resnet20-best": ("92.73", "0.11", 3, 3, "46 to 51"),
    "cifar10-94": ("93.19", "0.25", 3, 3, "4 to 5"),
    "cifar10-95": ("94.31", "0.10", 3, 3, "18"),
    "cifar10-resnet50-textbook": ("82.58", "0.26", 3, 3, "34"),
    "fashion-mnist-quick": ("94.55", "0.10", 3, 3, "6"),
    "fashion-mnist-textbook": ("91.61", "0.56", 3, 3, "16"),
}
AUGMENTED = {
    "cifar10-94": ("94.15", "0.08"),
    "cifar10-95": ("95.15", "0.13"),
    "fashion-mnist-quick": ("94.66", "0.02"),
}


@pytest.mark.parametrize("name", MEASURED)
def test_figures_follow_from_the_runs(name):
    measured = MEASURED[name]
    mean, deviation, runs, seeds, minutes = PUBLISHED[name]
    assert f"{measured.top1.mean:.2f} {measured.top1.deviation:.2f}" == f"{mean} {deviation}"
    assert (len(measured.runs), measured.seeds) == (runs, seeds)
    augmented = measured.augmented and tuple(
        f"{x:.2f}" for x in (measured.augmented.mean, measured.augmented.deviation)
    )
    assert augmented == AUGMENTED.get(name)
    assert (RECIPES[name].tta == "none") == (augmented is None)
    assert f"Test accuracy {mean} % (standard deviation {deviation}, {runs} runs)" in ABOUT[name]
    assert f" in {minutes} minutes on " in ABOUT[name]


def test_durations_are_of_the_latest_program():
    quick, best = MEASURED["cifar10-quick"].duration, MEASURED["cifar10-resnet20-best"].duration
    assert (quick.shortest, quick.longest, quick.threads) == (167, 214, 2)
    assert quick.includes == "data and test included"
    assert (best.shortest, best.longest, best.threads) == (2776, 3060, 1)
    assert best.includes == "training alone"
    assert PAPER == "The paper: 91.25 %"


def test_every_run_is_of_a_recipe_and_a_program_that_are_known():
    assert {run.recipe for run in RUNS} == MEASURED.keys() <= RECIPES.keys()
    assert {each.recipe for each in TIMINGS} <= MEASURED.keys()
    assert {each.program for each in (*RUNS, *TIMINGS)} <= set(PROGRAMS)
    assert all(80 < run.test < 100 and run.threads in (1, 2) for run in RUNS)
    for run in RUNS:
        assert (run.validation is None) == (RECIPES[run.recipe].val_size == 0)
        assert (run.augmented is None) == (RECIPES[run.recipe].tta == "none")
    assert max(Counter(RUNS).values()) == 1


def test_runs_with_other_options_do_not_count():
    (changed,) = (run for run in RUNS if run.changes)
    assert changed not in MEASURED[changed.recipe].runs
