"""What computes a network's logits, behind one door: prediction and evaluation know no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from resnetlab.compute.execution import PLAIN, Execution
from resnetlab.data.images import normalize
from resnetlab.environment import torch_defaults
from resnetlab.inference.prepare import inference_execution, ready_for_inference
from resnetlab.preprocessing import Preprocessing
from resnetlab.weights.checkpoint import Checkpoint


class Backend(Protocol):
    """A trained network, ready to use, whatever computes it."""

    @property
    def name(self) -> str:
        """What computes it and how, in words."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each logit."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are arranged before ``logits``, which normalises them itself."""
        ...

    @property
    def temperature(self) -> float:
        """What logits are divided by before a softmax, so that its confidence is honest."""
        ...

    @property
    def threshold(self) -> float | None:
        """Probability below which the answer is "none of these"; None: never."""
        ...

    def logits(self, images: Tensor) -> Tensor:
        """uint8 (n, channels, size, size) -> fp32 (n, classes) on the CPU."""
        ...


@dataclass(frozen=True, kw_only=True)
class TorchBackend:
    """A PyTorch network as it is: placed as ``execution`` says, and in eval mode."""

    model: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float = 1.0
    threshold: float | None = None
    execution: Execution = PLAIN

    @classmethod
    @torch_defaults()
    def load(cls, checkpoint: Checkpoint, execution: Execution | str = "auto") -> TorchBackend:
        """A checkpoint's network, made ready (see ``ready_for_inference``), and this process too.

        The checkpoint stays as it is. Raises UserError for an execution that is unknown, for
        training only, or not possible here.
        """
        chosen = inference_execution(execution)
        chosen.set_up()
        return cls(
            model=ready_for_inference(checkpoint.build(), chosen),
            classes=checkpoint.classes,
            preprocessing=checkpoint.preprocessing,
            temperature=checkpoint.temperature,
            threshold=checkpoint.threshold,
            execution=chosen,
        )

    @property
    def name(self) -> str:
        return f"PyTorch ({self.execution})"

    @torch_defaults()
    def logits(self, images: Tensor) -> Tensor:
        """uint8 (n, channels, size, size) -> fp32 (n, classes) on the CPU."""
        layout = self.execution.memory_format
        inputs = normalize(images, self.preprocessing, memory_format=layout)
        with torch.inference_mode(), self.execution.autocast():
            return self.model(inputs.to(self.execution.device)).float().cpu()
