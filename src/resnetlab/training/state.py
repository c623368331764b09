"""All that changes during a training, saved and restored as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resnetlab.compute.execution import Execution
from resnetlab.compute.kernels.fused import fuse
from resnetlab.compute.kernels.winograd import use_winograd
from resnetlab.data.images import normalize
from resnetlab.errors import UserError
from resnetlab.models.adaptation import adapt, replace_head
from resnetlab.models.resnet import ResNet
from resnetlab.seeding import fold_in
from resnetlab.training.optimizer import create_optimizer, create_schedule
from resnetlab.training.plan import Plan, has_same_classes
from resnetlab.weights.checkpoint import Checkpoint


@dataclass(kw_only=True)
class State:
    """The parts of a training and how far it is."""

    model: ResNet
    ema: AveragedModel | None
    optimizer: optim.Optimizer
    schedule: optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    sums: Tensor
    """of this epoch so far and this rank: loss, right answers, images; float64 (3,)"""
    step: int = 0
    """steps done since the start"""
    seconds: float = 0.0
    """of training in this epoch so far"""
    history: list[dict[str, Any]] = field(default_factory=list)
    """the lines of metrics.jsonl"""
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    """of a recipe with ``on_nan`` rollback: what was not finite, and what the rates became"""
    val_logits: tuple[Tensor, Tensor] | None = None
    """at step 0: of the validation images, with their labels, if a classifier was just fitted; not
    saved"""

    @classmethod
    def create(cls, plan: Plan, start: Checkpoint | None = None) -> State:
        """The state before the first step.

        What ``start`` does not give, or all of the network, follows from the recipe's seed; a
        whitening stem without it from the first 5,000 training images.
        """
        recipe, architecture, execution = plan.recipe, plan.architecture, plan.execution
        with torch.random.fork_rng():
            torch.manual_seed(fold_in(recipe.seed, "weights"))
            if start is None:
                model = ResNet(architecture, zero_init_residual=recipe.zero_init == "residual")
                if architecture.stem == "whitening":
                    images, _ = plan.data.batch(torch.arange(min(5000, len(plan.data))))
                    model.whiten(normalize(images, plan.data.preprocessing))
            else:
                model = adapt(start.build(), in_channels=architecture.in_channels)
                if not has_same_classes(plan.data, start):
                    replace_head(model, architecture.num_classes)
                if start.fresh:
                    initial = ResNet(architecture).state_dict()
                    fresh = {name: initial[name] for name in start.fresh}
                    model.load_state_dict(fresh, strict=False)
        execution.place(model)
        ema = None
        if recipe.ema_decay:
            average = get_ema_multi_avg_fn(recipe.ema_decay)
            ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        optimizer = create_optimizer(model, recipe, execution.dtype)
        return cls(
            model=model,
            ema=ema,
            optimizer=optimizer,
            schedule=create_schedule(optimizer, recipe, plan.steps_per_epoch),
            scaler=torch.amp.GradScaler(execution.device, enabled=execution.precision == "fp16"),
            sums=torch.zeros(3, dtype=torch.float64, device=execution.device),
        )

    def accelerate(self, execution: Execution) -> None:
        """Change how the trained network computes; the average of its weights stays plain."""
        if execution.mode == "compile":
            self.model.compile()
        elif execution.mode in ("fused", "winograd"):
            fuse(self.model)
        if execution.mode == "winograd":
            use_winograd(self.model)

    @property
    def evaluated(self) -> ResNet:
        """The network that is judged and kept: the average of the weights if there is one."""
        return self.model if self.ema is None else self.ema.module  # type: ignore[return-value]

    def _parts(self) -> dict[str, Any]:
        names = ("model", "ema", "optimizer", "schedule", "scaler")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for ``load``."""
        values = {name: part.state_dict() for name, part in self._parts().items()}
        values |= {"step": self.step, "seconds": self.seconds}
        values |= {"history": self.history, "rollbacks": self.rollbacks}
        return values | {"sums": self.sums}

    def begin_epoch(self) -> None:
        self.sums.zero_()
        self.seconds = 0.0

    def load(self, values: Mapping[str, Any]) -> None:
        """Take over what ``to_dict`` gave; UserError if it is of another training.

        Learning rates, decay and momentum stay those of this recipe.
        """
        own = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        base_lrs = self.schedule.base_lrs
        try:
            for name, part in self._parts().items():
                if values[name] or name != "scaler":  # which is empty where it was not in use
                    part.load_state_dict(values[name])
            self.step, self.seconds = values["step"], values["seconds"]
            self.history = values["history"]
            self.rollbacks = values.get("rollbacks", [])
            self.sums.copy_(values["sums"])
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                "last.pt does not fit the recipe.json beside it; put back the recipe that the run "
                "was started with, or remove last.pt and previous.pt to train from scratch."
            ) from error
        self.schedule.base_lrs = base_lrs
        for group, ours, factor in zip(
            self.optimizer.param_groups, own, self._lr_factors(), strict=True
        ):
            group.update(ours, lr=ours["initial_lr"] * factor)

    def _lr_factors(self) -> list[float]:
        """Of each group of parameters, the share of its peak learning rate for the next step."""
        return [factor(self.schedule.last_epoch) for factor in self.schedule.lr_lambdas]
