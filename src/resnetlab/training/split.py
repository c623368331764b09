"""The split of a training's images: kept in its run, and found again there."""

from __future__ import annotations

from dataclasses import replace

from resnetlab.console import Report
from resnetlab.data.catalogue import Divided, is_own, open_dataset, read_collection
from resnetlab.data.collection import Collection
from resnetlab.data.manifest import differences, write_manifest
from resnetlab.errors import UserError
from resnetlab.files import write_text
from resnetlab.recipes.record import Recipe
from resnetlab.runs import Run


def open_data(recipe: Recipe, report: Report = lambda line: None) -> Divided:
    """The recipe's data set with its splits; ``report`` is told what is left out of it."""
    return open_dataset(
        recipe.dataset,
        data_dir=recipe.data_dir,
        val_size=recipe.val_size,
        test_size=recipe.test_size,
        split_seed=recipe.split_seed,
        split_file=recipe.split_file,
        near_duplicates=recipe.near_duplicates,
        on_bad_image=recipe.on_bad_image,
        report=report,
    )


def with_kept_split(recipe: Recipe, run: Run) -> Recipe:
    """The recipe with the split that its run has kept, if it has: nothing is drawn anew."""
    if not run.split_file.is_file():
        return recipe
    return replace(recipe, split_file=str(run.split_file), on_bad_image="error")


def keep_split(recipe: Recipe, run: Run) -> None:
    """Write which images are for what, and which were skipped, into a run that has no such list."""
    if run.split_file.is_file():
        return
    divided = open_data(recipe)
    if not isinstance(divided, Collection):
        return
    write_manifest(divided, run.split_file)
    if divided.skipped:
        lines = (f"{path}\t{reason}\n" for path, reason in divided.skipped)
        write_text(run.skipped_file, "path\treason\n" + "".join(lines))


def check_images(recipe: Recipe, run: Run) -> None:
    """UserError, with the difference, if the images are not those that a run was begun with."""
    if not is_own(recipe.dataset) or not run.split_file.is_file():
        return
    whole = read_collection(recipe.dataset, data_dir=recipe.data_dir, report=lambda line: None)
    if told := differences(whole, run.split_file, run.skipped_paths):
        raise UserError(
            f"{recipe.dataset} has changed since {run.path} was begun: {told}; put it back, or go "
            f"on with the images that {run.split_file.name} lists: "
            f"{run.resume_command('--accept-changes')}"
        )
