"""Whether a network and a data set mean the same classes, and in which order each has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from resnetlab.data.dataset import Dataset
from resnetlab.errors import UserError
from resnetlab.inference.backends import Backend
from resnetlab.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Reordered:
    """A backend whose classes stand in another order."""

    backend: Backend
    classes: tuple[str, ...]
    order: tuple[int, ...]
    """for each of ``classes`` its number in ``backend``"""

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def preprocessing(self) -> Preprocessing:
        return self.backend.preprocessing

    def logits(self, images: Tensor) -> Tensor:
        """uint8 (n, channels, size, size) -> fp32 (n, classes) on the CPU."""
        return self.backend.logits(images)[:, list(self.order)]


def in_order_of(dataset: Dataset, backend: Backend) -> Backend:
    """The backend with its logits in the order of the data set's classes.

    Names count, whatever their case, spaces and underscores. Names that only number the classes
    ("class 3", "LABEL_3", "3") tell nothing: then the order is taken to be the same. Raises
    UserError if there are more or fewer classes, or others.
    """
    own, wanted = backend.classes, dataset.classes
    if len(own) != len(wanted):
        raise UserError(
            f"the network has {len(own)} outputs and {dataset.name} has {len(wanted)} classes."
        )
    keys, wanted_keys = [_key(name) for name in own], [_key(name) for name in wanted]
    if keys == wanted_keys:
        return backend
    if {*keys} == {*wanted_keys}:
        if len({*keys}) < len(keys):
            raise UserError(
                f"the network and {dataset.name} have their classes in different orders, and two "
                f"share the name {_first_twice(own)!r}; rename one."
            )
        order = tuple(map(keys.index, wanted_keys))
        return Reordered(backend=backend, classes=wanted, order=order)
    if _only_numbers(keys) or _only_numbers(wanted_keys):
        return backend
    network_only = [name for name in own if _key(name) not in wanted_keys][:1]
    data_only = [name for name in wanted if _key(name) not in keys][:1]
    alone = [f"the network alone has {name!r}" for name in network_only]
    alone += [f"{dataset.name} alone has {name!r}" for name in data_only]
    raise UserError(
        f"the network and {dataset.name} have different classes: {', '.join(alone)}; take a "
        "data set of the network's classes."
    )


def _key(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).casefold()


def _only_numbers(keys: Sequence[str]) -> bool:
    return all(re.fullmatch(r"(class|label)?\d+", key) for key in keys)


def _first_twice(names: Sequence[str]) -> str:
    keys = [_key(name) for name in names]
    return next(name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1)
