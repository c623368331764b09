"""What an exported file says of itself, inside it and in the JSON beside it."""

from __future__ import annotations

from typing import Any

from resnetlab.inference.deployed import OUTPUTS, Input
from resnetlab.inference.exported import FORMAT
from resnetlab.version import __version__
from resnetlab.weights.checkpoint import Checkpoint

_OF_RECIPE = ("model", "val_size", "test_size", "split_seed", "seed", "epochs")
"""What of a recipe is told to whoever gets the file; paths of this machine are not."""

_INPUTS = {
    "uint8": "uint8 from 0 to 255",
    "float": "float32 from 0 to 1",
}
_OUTPUTS = {
    "probabilities": "float32 (n, classes): the softmax of the logits divided by the temperature",
    "logits": "float32 (n, classes)",
    "class_maps": "float32 (n, classes, h, w): where the evidence for each class lies",
}


def make_card(
    checkpoint: Checkpoint, *, input: Input, class_maps: bool, precision: str
) -> dict[str, Any]:
    """Plain values: see ``Exported`` for what is read of them."""
    p = checkpoint.preprocessing
    outputs = OUTPUTS if class_maps else OUTPUTS[:-1]
    return {
        "format": FORMAT,
        "version": __version__,
        "input": {
            "name": "images",
            "type": input,
            "shape": ["n", p.channels, p.size, p.size],
            "pixels": f"{_INPUTS[input]}, {'RGB' if p.channels == 3 else 'grey'}, arranged as "
            "preprocessing says; mean and std are applied inside",
        },
        "outputs": {name: _OUTPUTS[name] for name in outputs},
        "precision": precision,
        "classes": list(checkpoint.classes),
        "preprocessing": p.to_dict(),
        "temperature": checkpoint.temperature,
        "threshold": checkpoint.threshold,
        "dataset": checkpoint.dataset,
        "architecture": checkpoint.architecture.to_dict(),
        "recipe": {k: checkpoint.recipe[k] for k in _OF_RECIPE if k in checkpoint.recipe},
    }
