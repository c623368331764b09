"""What can end a training, each as a sentence whose remedy can be followed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from resnetlab.errors import UserError
from resnetlab.files import WriteError
from resnetlab.recipes.record import Recipe
from resnetlab.runs import Run
from resnetlab.training.plan import Plan

_NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "bad_alloc")
"""Parts of what torch says in a RuntimeError."""


@contextmanager
def remedies(plan: Plan, run: Run | None = None) -> Iterator[None]:
    """Turn memory or a disk that does not suffice into UserError; say how to go on after Ctrl-C."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise UserError(_less_memory(plan.recipe, run)) from error
    except WriteError as error:
        if run is None or not run.exists:
            raise
        raise UserError(
            f"{error.fault}; free some space, and go on with: {run.resume_command()}"
        ) from error
    except KeyboardInterrupt as error:
        if str(error) or run is None or not run.exists:
            raise
        raise KeyboardInterrupt(
            f"stopped at once; {_go_on(run)}: {run.resume_command()}"
        ) from error


@contextmanager
def remedies_of_the_test(run: Run) -> Iterator[None]:
    """Say of whatever ends the test on the test set that the training is safe."""
    again = f"After that, `{run.resume_command()}` will only test."
    done = "the training is finished and safe, but"
    try:
        yield
    except WriteError as error:
        raise UserError(f"{done} {error.fault}; free some space. {again}") from error
    except UserError as error:
        raise UserError(f"{done} its test failed: {error} {again}") from error
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise UserError(f"{done} the memory does not suffice for its test. {again}") from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"stopped in the test; the training is finished and safe. To test alone: "
            f"{run.resume_command()}"
        ) from error


class DivergedError(UserError):
    """What a training computes is no longer finite, on every rank."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(f"{fault}; {remedy}")
        self.fault = fault
        """the sentence without its remedy"""


def not_finite(plan: Plan, step: int, what: str, run: Run) -> DivergedError:
    """The sentence for ``what`` (such as "the loss is"), not finite after ``step`` steps."""
    recipe, (epoch, in_epoch) = plan.recipe, divmod(step - 1, plan.steps_per_epoch)
    where = f"epoch {epoch + 1}, batch {in_epoch + 1} of {plan.steps_per_epoch}"
    fault = f"{what} not finite in step {step} ({where})"
    words = [
        word
        for name, rate in lower_rates(recipe, 10).items()
        for word in (f"--{name.replace('_', '-')}", f"{rate:.3g}")
    ]
    remedy = f"with a lower `lr`: {run.resume_command(*words)}"
    others = [] if 0 < recipe.clip_norm <= 1 else ["`clip_norm` 1"]
    begin = _go_on(run)
    if not run.states.exist:
        others.append("a longer `warmup_share`")
        if recipe.pretrained:
            look = ["resnetlab", "evaluate", recipe.pretrained, "--dataset", recipe.dataset]
            begin = (
                f"look whether its initial weights are sound ({shlex.join(look)}) or start again"
            )
    also = f", or with {' or '.join(others)}" if others else ""
    return DivergedError(fault, f"{begin} {remedy}{also}.")


def lower_rates(recipe: Recipe, divisor: float) -> dict[str, float]:
    """The peak learning rates that the recipe uses, each divided."""
    names = ["lr", "norm_lr", *(["muon_lr"] if recipe.optimizer == "muon" else [])]
    return {name: getattr(recipe, name) / divisor for name in names if getattr(recipe, name)}


def _go_on(run: Run) -> str:
    """What can be done with a run that was cut off, without a stop at its end."""
    if run.states.exist:
        return f"{run.path} keeps what was saved before; go on from there"
    return "nothing was saved yet; start again"


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _NO_MEMORY)


def _less_memory(recipe: Recipe, run: Run | None) -> str:
    more = range(2 * recipe.accumulate, recipe.batch_size + 1)
    parts = next((n for n in more if recipe.batch_size % n == 0), None)
    fault = f"the memory does not suffice for `batch_size` {recipe.batch_size}"
    fault += f" in {recipe.accumulate} parts (`accumulate`)" if recipe.accumulate > 1 else ""
    if parts is None:
        return f"{fault}; take smaller images or a smaller network: `image_size`, `model`."
    if run is None or not run.exists:
        return f"{fault}; compute it in parts, `accumulate` {parts}, or take a smaller one."
    return (
        f"{fault}; {_go_on(run)} in parts, `accumulate` {parts}: "
        f"{run.resume_command('--accumulate', parts)}"
    )
