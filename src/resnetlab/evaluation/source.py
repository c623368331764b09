"""The images that a network may be judged on: none that it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from resnetlab.console import print_to_stderr
from resnetlab.data.catalogue import Divided, is_own, open_dataset, read_collection
from resnetlab.data.collection import PARTS, Collection
from resnetlab.data.manifest import divided_by, shares_images
from resnetlab.errors import UserError
from resnetlab.files import user_path
from resnetlab.inference.exported import Exported
from resnetlab.weights.checkpoint import Checkpoint


def open_for(
    checkpoint: Checkpoint | Exported,
    name: str,
    *,
    data_dir: str | Path | None = None,
    split_file: str | Path | None = None,
) -> Divided:
    """A data set with the splits that a network was trained by.

    Those of a set of the catalogue follow from its recipe; those of the user's own images are in
    the split.csv of its run. Own images that it was not trained on, and that come without splits,
    are all for testing. Raises UserError where it is unknown which ones it was trained on.
    """
    recipe = checkpoint.recipe
    own = recipe.get("data_dir")
    if not data_dir and name == checkpoint.dataset and own and Path(own).is_dir():
        data_dir = own
    if not is_own(name):
        return open_dataset(
            name,
            data_dir=data_dir,
            val_size=recipe.get("val_size"),
            split_seed=recipe.get("split_seed", 0),
            split_file=split_file,
        )
    whole = read_collection(name, data_dir=data_dir, report=print_to_stderr)
    if split_file:
        return divided_by(whole, user_path(split_file))
    kept = checkpoint.split_file if isinstance(checkpoint, Checkpoint) else None
    same = is_same(name, checkpoint.dataset)
    if kept and (same or shares_images(whole, kept)):
        return divided_by(whole, kept)
    if whole.has_own_splits:
        return _with_own_splits(whole)
    if same:
        raise UserError(
            f"which images of {name} the network was trained on is unknown: there is no split.csv "
            "beside it; give the one of its run: `split_file`."
        )
    return replace(whole, splits=np.full(len(whole), PARTS.index("test"), np.int8))


def is_same(name: str, other: str | None) -> bool:
    """Whether two names are of one data set."""
    if other is None or name == other:
        return name == other
    return is_own(name) and user_path(name).absolute() == user_path(other).absolute()


def _with_own_splits(whole: Collection) -> Collection:
    """What is for no split in particular was trained on, or might have been."""
    return whole.divided(val_size=0, test_size=0)
