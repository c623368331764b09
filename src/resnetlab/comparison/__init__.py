"""A candidate's ResNet against the reference: ``load_target``, ``compare_models``, ``render``.

The files in a line; each imports only from files behind its own:
``compare`` does it all; ``proof`` runs both networks; ``modes``, ``faults``, ``rules``,
``nearest`` and ``layers`` judge; ``structure`` finds the blocks; ``target`` loads, ``making``
watches; ``trace``, ``recorder`` and ``handmade`` follow a forward pass; ``report`` has the words,
``source`` reads the candidate's code, ``operations`` has the graph's nodes.
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
