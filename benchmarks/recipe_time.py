"""A recipe's time against the paper's training: `python -m benchmarks.recipe_time cifar10-quick`.

The paper takes 64,000 steps of 128 images (He et al. 2015, section 4.2). How long the plain loop
would need for them follows from its images/s, measured just before and just after the recipe runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.training import PAPER_IMAGES, plain_against_ours
from benchmarks.turns import Running, warm_up
from resnetlab import train
from resnetlab.recipes.table import get_recipe

SECONDS = 20
"""Of each of the two turns of the plain loop."""


def main() -> None:
    name = "python -m benchmarks.recipe_time"
    arguments = argparse.ArgumentParser(prog=name, description=__doc__)
    arguments.add_argument("recipe", help="one that trains resnet20 on cifar10")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    try:
        recipe = get_recipe(options.recipe, seed=options.seed)
    except ValueError as error:
        arguments.error(str(error))
    if (recipe.model, recipe.dataset) != ("resnet20", "cifar10"):
        arguments.error(f"the plain loop trains resnet20 on cifar10, {recipe.name} does not.")
    plain = Running(plain_against_ours("resnet20")[0])
    try:
        steps = warm_up(plain, SECONDS)
        rates = [plain.take_turn(steps)]
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            training = train(recipe, out=Path(folder) / "run")
            seconds = time.perf_counter() - began
        rates.append(plain.take_turn(steps))
    except KeyboardInterrupt:
        sys.exit("stopped; what was measured so far means nothing.")
    finally:
        plain.stop()
    paper = PAPER_IMAGES / (sum(rates) / len(rates))
    assert training.test
    print(
        f"{recipe.name}, seed {recipe.seed}: {training.test.top1:.2f} % on the test set after "
        f"{seconds:,.0f} s, data and test included.\nplain loop: {rates[0]:.1f} images/s before, "
        f"{rates[1]:.1f} after: {paper:,.0f} s for {PAPER_IMAGES:,} images, "
        f"{paper / seconds:.1f} times as long."
    )


if __name__ == "__main__":
    main()
