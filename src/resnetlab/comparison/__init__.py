"""A stranger's ResNet against the reference: ``load_target``, ``compare_models``, ``render``."""

from resnetlab.comparison.compare import Comparison, compare_models
from resnetlab.comparison.findings import Difference
from resnetlab.comparison.render import render
from resnetlab.comparison.target import load_target

__all__ = ["Comparison", "Difference", "compare_models", "load_target", "render"]
