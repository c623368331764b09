"""Residual networks, correct to the papers and fast on an ordinary computer.

The public names are those of ``__init__.pyi``; each is imported when it is first used, so that
``import resnetlab`` and ``resnetlab --help`` do not wait for torch.
"""

import os

import lazy_loader

# OpenMP's threads wait for each other in a busy loop, beside another program in vain. With this
# shorter one resnet20 trains 1.3 times as fast beside a busy process and as fast alone (0.98 of
# GNU's default, 0.96 to 1.03); 1,000 gives 1.5 and 0.9. It is read when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2500")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
