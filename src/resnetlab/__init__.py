"""Residual networks, correct to the paper and fast on the computer that people have.

The public names are those of ``__init__.pyi``; each is imported when it is first used, so that
``import resnetlab`` and ``resnetlab --help`` do not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
