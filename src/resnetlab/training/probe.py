"""The fastest execution for this machine, network and batch: real steps are timed, not guessed."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from resnetlab.compute.compiled import compiled
from resnetlab.compute.execution import PLAIN, Execution
from resnetlab.compute.machine import (
    available_cores,
    compiler,
    default_threads,
    fast_precision,
)
from resnetlab.compute.memory import memory_key, read_memory
from resnetlab.errors import UserError
from resnetlab.files import cache_home, write_json
from resnetlab.inference.prepare import inference_execution, ready_for_inference
from resnetlab.training.plan import Plan
from resnetlab.training.state import State
from resnetlab.training.step import augment, make_batch, train_step

BUDGET = 30
"""Seconds after which no further number type or layout is tried."""
QUICK = 2
"""Seconds of tries up to which more of them are made: a machine may be busy, or not yet warm."""
COMPILE_PAYS = 1200
"""Seconds of training below which compiling, about half a minute, could not repay itself."""

Report = Callable[[str], None]


def choose_execution(
    plan: Plan,
    *,
    processes: int = 1,
    local_processes: int = 1,
    report: Report = lambda line: None,
) -> Execution:
    """The execution that a recipe asks for; for "auto" the fastest, measured once and remembered.

    ``processes`` share a batch, ``local_processes`` of them this machine's cores. ``report`` is
    told what was chosen, and why.
    """
    recipe = plan.recipe
    if recipe.execution != "auto":
        return plan.execution
    if plan.total_steps == 0:  # nothing is trained but a classifier on features
        return inference_execution()
    # torchrun gives each of several processes one thread; alone, torch or the user has chosen.
    alone = local_processes == 1
    threads = default_threads() if alone else available_cores() // local_processes or 1
    batch_size = recipe.batch_size // processes
    memory = cache_home() / "executions.json"
    known = read_memory(memory)
    rates = known.setdefault(_key(plan, threads, batch_size), {})
    remembered = set(rates)
    possible: list[Execution] = []

    def measure(candidate: Execution) -> None:
        if candidate.mode in ("fused", "winograd"):
            compiled(candidate.mode)  # of a remembered one too: the compiler may be gone
        if str(candidate) not in rates:
            if set(rates) == remembered:
                report(f"measuring how {recipe.model} trains fastest on this machine (once) ...")
            rates[str(candidate)] = _measure(plan.with_execution(candidate), batch_size)
        possible.append(candidate)

    def rate(candidate: Execution) -> float:
        return rates[str(candidate)]

    began = time.perf_counter()
    on_gpu = torch.cuda.is_available()
    plain = replace(PLAIN, device="cuda") if on_gpu else replace(PLAIN, threads=threads)
    fast = fast_precision(plain.device)
    for layout, precision in itertools.product(("channels_last", "contiguous"), (fast, "fp32")):
        candidate = replace(plain, layout=layout, precision=precision)
        in_time = time.perf_counter() - began < BUDGET
        if str(candidate) in remembered or not rates or (in_time and not remembered):
            measure(candidate)
    lost = [] if fast == "bf16" else ["no bf16 in hardware"]
    eager = max(possible, key=rate)
    candidates = []
    if not on_gpu:
        candidates.append(replace(eager, mode="fused", layout="channels_last"))  # it knows no other
        if fast == "bf16":
            candidates.append(replace(candidates[0], mode="winograd", precision="bf16"))
    if compiler() and recipe.epochs * len(plan.data) / (rate(eager) * processes) > COMPILE_PAYS:
        candidates.append(replace(eager, mode="compile"))
    if recipe.sync_batchnorm == "on":
        candidates = []
    for candidate in candidates:
        try:
            measure(candidate)
        except UserError as error:  # this machine cannot compile
            lost.append(str(error).rstrip("."))
        except RuntimeError as error:  # torch.compile, or memory that does not suffice
            reason, *_ = str(error).splitlines() or [type(error).__name__]
            lost.append(f"execution {candidate.mode} failed ({reason})")
    if set(rates) != remembered:
        # Something else may have run beside one of them, so each kind has a second try.
        for candidate in (eager, *candidates):
            if candidate in possible:
                again = _measure(plan.with_execution(candidate), batch_size)
                rates[str(candidate)] = max(rate(candidate), again)
        with contextlib.suppress(UserError):  # a cache that cannot be written is measured again
            write_json(memory, known)
    best, slowest = max(possible, key=rate), min(possible, key=rate)
    report(
        f"execution {best}: {rate(best):,.0f} images/s measured; {slowest}: {rate(slowest):,.0f}"
        + "".join(f"; {what}" for what in lost)
    )
    return best


def _measure(plan: Plan, batch_size: int) -> float:
    """Images a second of the real step: the median of one to six, after two to warm up."""
    plan = replace(plan, early_steps=0)  # most of a training sees images of full size
    plan.execution.set_up()
    state = State.create(plan)
    state.accelerate(plan.execution)
    state.model.train()
    indices = torch.arange(min(batch_size, len(plan.data)))
    batch = plan.augmentation.load(plan.data, indices, epoch=0)  # whose time no execution changes
    times = []
    # The first step may compile for half a minute; that says nothing about the others.
    while len(times) < 8 and (len(times) < 3 or sum(times[1:]) < BUDGET / 6):
        began = time.perf_counter()
        inputs, targets = augment(plan, indices, *batch, epoch=0, step=len(times))
        train_step(plan, state, state.model, inputs, targets).tolist()  # which waits for a GPU
        times.append(time.perf_counter() - began)
    measured = sorted(times[2:])
    return len(indices) / measured[len(measured) // 2]


def seconds_an_image(plan: Plan, images: int = 16) -> tuple[float, float]:
    """What a training step and what a forward pass take for an image, roughly.

    The fastest of a few steps of so many images, always the same; augmentation is part of a step.
    What they learn is dropped.
    """
    plan = replace(plan, early_steps=0)  # of full size
    plan.execution.set_up()
    state = State.create(plan)
    state.accelerate(plan.execution)
    indices = torch.arange(min(images, len(plan.data)))
    eager = replace(plan.execution, mode="eager")
    network = ready_for_inference(state.model.eval(), eager)
    state.model.train()
    inputs = make_batch(plan, indices, epoch=0, step=0)[0]

    def step() -> None:
        batch = make_batch(plan, indices, epoch=0, step=0)
        train_step(plan, state, state.model, *batch).tolist()  # which waits for a GPU

    def forward() -> None:
        with torch.inference_mode(), plan.execution.autocast():
            network(inputs)[0].tolist()

    return _fastest(step) / len(inputs), _fastest(forward) / len(inputs)


def _fastest(work: Callable[[], None]) -> float:
    """Seconds of the fastest of two tries or, of quick work, of up to ten, after one to warm up."""
    work()
    times, began = [], time.perf_counter()
    while len(times) < 2 or (len(times) < 10 and time.perf_counter() - began < QUICK):
        tried = time.perf_counter()
        work()
        times.append(time.perf_counter() - tried)
    return min(times)


def _key(plan: Plan, threads: int, batch_size: int) -> str:
    """What the answer depends on, as a short name."""
    recipe = plan.recipe
    work = [plan.architecture.to_dict(), batch_size, recipe.accumulate, recipe.image_size]
    if torch.cuda.is_available():
        work.append(torch.cuda.get_device_name())
    return memory_key(threads, *work, recipe.optimizer)
