"""Residual networks, correct to the papers and fast on an ordinary computer.

The public names are those of ``__init__.pyi``; each is imported when it is first used, so that
``import resnetlab`` and ``resnetlab --help`` do not wait for torch.
"""

import os

import lazy_loader

# OpenMP's threads wait for each other in a busy loop, beside another program in vain. With so
# short a one resnet20 trains beside a busy process at 0.53 of its speed alone (with 2,500 turns
# 0.41), and alone at 0.96 of that with 2,500 (16 rounds). It is read when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
