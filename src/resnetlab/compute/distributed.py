"""Processes that train together: this one's place among them, and what they tell each other."""

from __future__ import annotations

import gc
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from resnetlab.compute.liveness import Liveness, watched
from resnetlab.compute.machine import available_cores
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
    """contexts to leave when the world ends"""
    liveness: Liveness | None = field(default=None, compare=False, repr=False)
    """what ends this process if another is lost"""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """This rank, and of how many, where they share work."""
        return self.rank, self.size

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def largest(self, value: int) -> int:
        """The largest ``value`` of all processes."""
        if self.size == 1:
            return value
        box = torch.tensor(value)
        dist.all_reduce(box, op=dist.ReduceOp.MAX)
        return int(box)

    def gather(self, values: Tensor) -> Tensor:
        """The tensors of all processes, stacked in the order of their ranks."""
        if self.size == 1:
            return values[None].clone()
        found = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(found, values)
        return torch.stack(found)

    def gather_objects(self, value: T) -> list[T]:
        """What each process has, in the order of their ranks."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def from_main(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` on rank 0 only; return its result on every rank.

        A UserError is raised on every rank, so that none is left waiting for the others.
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
            if self.liveness:
                box[1].told_elsewhere = not self.is_main and self.liveness.beside(0)
            raise box[1]
        return cast(T, box[0])

    def hold(self, context: AbstractContextManager[None]) -> None:
        """Enter ``context`` on rank 0 until the world ends; its UserError is raised everywhere."""
        self.from_main(self.held.enter_context, context)

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the values of rank 0, in place."""
        for tensor in tensors:
            if self.size > 1:
                dist.broadcast(tensor, src=0)


def is_main() -> bool:
    """Whether this process writes and prints for all that the environment describes."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0"


@contextmanager
def start() -> Iterator[World]:
    """The world that the environment describes; one process where WORLD_SIZE is 1 or not set.

    Within a world that has begun, what a process starts is its own work.

    RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are enough (torch's ``env://``). LOCAL_RANK and
    LOCAL_WORLD_SIZE, which torchrun sets too, otherwise follow from the processes' host names.

    Raises:
        UserError: One of these variables is missing or holds no possible number.
    """
    size = _number("WORLD_SIZE", 1, default=1)
    if size == 1 or dist.is_initialized():
        world = World()
        with world.held:
            yield world
        return
    rank = _number("RANK", 0, size - 1)
    _number("MASTER_PORT", 1, 65535)
    if not os.environ.get("MASTER_ADDR"):
        raise UserError("the environment variable MASTER_ADDR must name the machine of rank 0.")
    gpu = torch.cuda.is_available()
    store, *_ = next(rendezvous("env://"))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        store=PrefixStore(_round(store, rank, size), store),
        rank=rank,
        world_size=size,
    )
    try:
        machines: list[Any] = [None] * size
        dist.all_gather_object(machines, (platform.node(), os.environ.get("GROUP_RANK", "")))
        hosts = [host for host, _ in machines]
        local_size = _number("LOCAL_WORLD_SIZE", 1, size, default=hosts.count(hosts[rank]))
        local_rank = _number("LOCAL_RANK", 0, default=hosts[:rank].count(hosts[rank]))
        if gpu:
            torch.cuda.set_device(local_rank)
        if not os.environ.get("OMP_NUM_THREADS"):  # which torchrun sets
            torch.set_num_threads(max(1, available_cores() // local_size))
        with watched(rank, machines) as liveness:
            world = World(rank=rank, size=size, local_size=local_size, liveness=liveness)
            with world.held:
                yield world
    finally:
        # DDP holds the group in reference cycles, and its threads abort a process that exits.
        gc.collect()
        dist.destroy_process_group()


def _round(store: Store, rank: int, size: int) -> str:
    """A name that the processes which start together give to that, and none before did.

    torchrun keeps its store when it starts processes again (``--max-restarts``), and in it the
    addresses of those that are gone, which gloo would try to reach. Hosts count their restarts each
    for itself. So rank 0 proposes a name, and it holds once every process that is there has agreed.
    """
    own = secrets.token_hex(8)
    if rank == 0:
        store.set("round", own)
        joined = [f"{own}/{other}" for other in range(1, size)]
        store.wait(joined)
        store.set(f"{own}/all", b" ".join(store.get(key) for key in joined).decode())
        return own
    name = ""
    while True:
        if (now := store.get("round").decode()) != name:  # the first one may be an old one
            name = now
            store.set(f"{name}/{rank}", own)
        if store.check([f"{name}/all"]) and own in store.get(f"{name}/all").decode():
            return name
        time.sleep(0.05)


def _number(
    variable: str, smallest: int, largest: int | None = None, *, default: int | None = None
) -> int:
    """A whole number from the environment; ``default``, if there is one, where it is not set."""
    text = os.environ.get(variable)
    if text is None and default is not None:
        return default
    number = int(text) if text and text.isdecimal() else None
    if number is None or number < smallest or (largest is not None and number > largest):
        limits = f"at least {smallest}" if largest is None else f"{smallest} to {largest}"
        found = "it is not set" if text is None else f"it is {text!r}"
        raise UserError(
            f"the environment variable {variable} must be a whole number, {limits}, but {found}; "
            "to train in one process, unset WORLD_SIZE."
        )
    return number
