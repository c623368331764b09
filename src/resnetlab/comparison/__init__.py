"""A candidate's ResNet against the reference: ``load_target``, ``compare_models``, ``render``.

Three layers; each file imports only from files behind its own:

- rules: ``compare`` does it all, ``proof`` runs both networks, ``faults``, ``rules`` and
  ``layers`` judge, ``report`` has the words;
- structure: ``structure`` finds stem, blocks and head;
- trace: ``trace`` follows a forward pass, ``operations`` has its nodes, ``candidate`` loads,
  watches and quotes their code.
"""

from resnetlab.comparison.candidate import load_target
from resnetlab.comparison.compare import compare_models
from resnetlab.comparison.report import KINDS, Comparison, Difference, draw, render

__all__ = [
    "KINDS",
    "Comparison",
    "Difference",
    "compare_models",
    "draw",
    "load_target",
    "render",
]
