"""What computes a network's logits, behind one door: prediction and evaluation know no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from resnetlab.compute.execution import PLAIN, Execution
from resnetlab.data.images import normalize
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.inference.prepare import inference_execution, ready_for_inference
from resnetlab.models.resnet import ResNet
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

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """Where in each image the evidence for a class lies.

        The class-activation map of the last stage (Zhou et al. 2016,
        https://arxiv.org/abs/1512.04150): its features, weighted as the head weighs them for the
        class. With a pooled linear head, Grad-CAM is this map with the negative values, which
        speak against the class, set to zero.

        Args:
            images: uint8 (n, channels, size, size).
            labels: A class for each image, int64 (n,).

        Returns:
            fp32 (n, h, w) on the CPU, h and w those of the last stage's features.

        Raises:
            UserError: This network, or its file, gives no maps.
        """
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
        with torch.inference_mode(), self.execution.autocast():
            return self.model(self._inputs(images)).float().cpu()

    @torch_defaults()
    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """See ``Backend.class_maps``."""
        if not isinstance(self.model, ResNet):
            raise UserError(
                f"there are maps of a ResNet alone, not of a {type(self.model).__name__}."
            )
        with torch.inference_mode():
            with self.execution.autocast():
                features = self.model.forward_features(self._inputs(images)).float()
            weights = self.model.get_parameter("fc.weight")[labels.to(features.device)].float()
            return torch.einsum("nchw,nc->nhw", features, weights).cpu()

    def _inputs(self, images: Tensor) -> Tensor:
        layout = self.execution.memory_format
        return normalize(images, self.preprocessing, memory_format=layout).to(self.execution.device)


@dataclass(frozen=True, kw_only=True)
class Delegating:
    """A backend that is another one but for what a subclass changes."""

    backend: Backend

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.backend.classes

    @property
    def preprocessing(self) -> Preprocessing:
        return self.backend.preprocessing

    @property
    def temperature(self) -> float:
        return self.backend.temperature

    @property
    def threshold(self) -> float | None:
        return self.backend.threshold

    def logits(self, images: Tensor) -> Tensor:
        """uint8 (n, channels, size, size) -> fp32 (n, classes) on the CPU."""
        return self.backend.logits(images)

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """See ``Backend.class_maps``."""
        return self.backend.class_maps(images, labels)
