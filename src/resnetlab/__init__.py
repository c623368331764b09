"""Residual networks, correct to the papers and fast on an ordinary computer.

The public names are those of ``__init__.pyi``; each is imported when it is first used, so that
``import resnetlab`` and ``resnetlab --help`` do not wait for torch.
"""

import os

import lazy_loader

# OpenMP's threads wait for each other in a busy loop. Beside another program that takes a core, a
# short one costs a step a few times less than GNU's default does; its library reads this when torch
# is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
