"""Whether a network and a data set mean the same classes, and in which order each has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from resnetlab.data.dataset import Dataset
from resnetlab.errors import UserError
from resnetlab.inference.backends import Backend, Delegating


@dataclass(frozen=True, kw_only=True)
class Reordered(Delegating):
    """A backend whose classes stand in another order."""

    order: tuple[int, ...]
    """for each of ``classes`` its number in ``backend``"""

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.backend.classes[i] for i in self.order)

    def logits(self, images: Tensor) -> Tensor:
        """uint8 (n, channels, size, size) -> fp32 (n, classes) on the CPU."""
        return self.backend.logits(images)[:, list(self.order)]

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """See ``Backend.class_maps``."""
        return self.backend.class_maps(images, torch.tensor(self.order)[labels])


def in_order_of(dataset: Dataset, backend: Backend) -> Backend:
    """The backend with its logits in the order of the data set's classes.

    Names count, whatever their case, spaces and underscores. Names that only number the classes
    ("class 3", "LABEL_3", "3") tell nothing: then the order is taken to be the same. Raises
    UserError if there are more or fewer classes, or others.
    """
    if len(backend.classes) != len(dataset.classes):
        raise UserError(
            f"the network has {len(backend.classes)} outputs and {dataset.name} has "
            f"{len(dataset.classes)} classes."
        )
    outputs, labels = [[_key(name) for name in x.classes] for x in (backend, dataset)]
    if outputs == labels:
        return backend
    if {*outputs} == {*labels}:
        if len({*outputs}) < len(outputs):
            twice = next(name for name in backend.classes if outputs.count(_key(name)) > 1)
            raise UserError(
                f"the network and {dataset.name} have their classes in different orders, and two "
                f"share the name {twice!r}; rename one."
            )
        order = tuple(map(outputs.index, labels))
        return Reordered(backend=backend, order=order)
    if _only_numbers(outputs) or _only_numbers(labels):
        return backend
    network_only = [name for name in backend.classes if _key(name) not in labels][:1]
    data_only = [name for name in dataset.classes if _key(name) not in outputs][:1]
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
