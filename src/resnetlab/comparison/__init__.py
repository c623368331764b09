"""A candidate's ResNet against the reference: ``load_target``, ``compare_models``, ``render``."""

from resnetlab.comparison.compare import compare_models, draw
from resnetlab.comparison.report import KINDS, Comparison, Difference, render
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
