"""Rank, world size, start. Started by torchrun there are several processes, otherwise one."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from resnetlab.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    """processes on this machine"""
    held: ExitStack = field(default_factory=ExitStack, compare=False, repr=False)
    """what ends with the world"""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is true on any process."""
        return (self.size > 1 and self.sum(torch.tensor(float(flag))).item() > 0) or flag

    def from_main(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns on rank 0, where alone it is called, on every rank.

        Its UserError is raised on every rank too: none is left waiting for the others.
        """
        box: list[Any] = [None, None]
        if self.is_main:
            try:
                box[0] = function(*args, **kwargs)
            except UserError as error:
                box[1] = error
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        return cast(T, box[0])

    def hold(self, context: AbstractContextManager[None]) -> None:
        """Enter the context on rank 0, until the world ends; its UserError is every rank's."""
        self.from_main(self.held.enter_context, context)

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the values of rank 0, in place."""
        for tensor in tensors:
            if self.size > 1:
                dist.broadcast(tensor, src=0)


@contextmanager
def start() -> Iterator[World]:
    """The world that torchrun's environment describes; one process where there is none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        world = World()
        with world.held:
            yield world
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    try:
        world = World(
            rank=int(os.environ["RANK"]),
            size=size,
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
        )
        with world.held:
            yield world
    finally:
        # DDP's cycles would keep the group, and its threads abort a process that ends with them.
        gc.collect()
        dist.destroy_process_group()
