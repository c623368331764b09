"""A candidate's ResNet against the reference: ``load_target``, ``compare_models``, ``render``."""

from resnetlab.comparison.compare import Comparison, compare_models
from resnetlab.comparison.kinds import KINDS, Difference
from resnetlab.comparison.render import draw, render
from resnetlab.comparison.target import load_target

__all__ = [
    "KINDS",
    "Comparison",
    "Difference",
    "compare_models",
    "draw",
    "load_target",
    "render",
]
