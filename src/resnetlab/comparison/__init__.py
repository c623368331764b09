"""A candidate's ResNet against the reference: ``load_target``, ``compare_models``, ``render``.

The files in one line, each of which imports only from those after it:
compare (surface), proof, faults, rules, nearest, layers (rules), structure, target (load), trace,
recorder, handmade (trace), report, operations (words).
"""

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
