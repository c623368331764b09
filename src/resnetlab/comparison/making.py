"""How a candidate is made: the lines that make its modules and write into its parameters."""

from __future__ import annotations

import contextlib
import sys
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from resnetlab.comparison.recorder import is_candidates_own, own_line, own_lines
from resnetlab.comparison.report import Made

Line = tuple[str, int]


class Making:
    """Watches the making of networks while it is entered."""

    def __init__(self) -> None:
        self.modules: dict[int, tuple[nn.Module, Made]] = {}
        """id -> (module, its makers' lines)"""
        self.writes = _Writes()
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        construct = nn.Module.__init__

        def constructed(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            construct(module, *args, **kwargs)
            self._note(None, "", module)

        handle = register_module_module_registration_hook(self._note)
        self.stack.callback(handle.remove)
        self.stack.callback(setattr, nn.Module, "__init__", construct)
        nn.Module.__init__ = constructed  # type: ignore[method-assign]
        self.stack.enter_context(self.writes)
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def _note(self, _: nn.Module | None, name: str, module: nn.Module | None) -> None:
        if module is not None and id(module) not in self.modules:  # a copy is only registered
            made = Made(type(module).__qualname__, tuple(own_lines(sys._getframe(2), module)))
            self.modules[id(module)] = module, made

    def of_modules(self, model: nn.Module) -> dict[str, Made]:
        """Module path -> how it was made."""
        known = self.modules
        return {path: known[id(m)][1] for path, m in model.named_modules() if id(m) in known}

    def of_parameters(self, model: nn.Module) -> dict[str, Line]:
        """Parameter -> the last line that wrote into it, constructors of torch aside."""
        return _of(self.writes.lines, model)

    def of_frozen(self, model: nn.Module) -> dict[str, Line]:
        """Parameter -> the line that took its ``requires_grad``."""
        return _of(self.writes.frozen, model)


Lines = dict[int, tuple[torch.UntypedStorage, Line | None]]
"""address -> (storage, which must not be freed and its address used again, line)"""


def _of(lines: Lines, model: nn.Module) -> dict[str, Line]:
    rows = ((name, lines.get(_key(p))) for name, p in model.named_parameters())
    return {name: row[1] for name, row in rows if row is not None and row[1] is not None}


class _Writes(TorchFunctionMode):
    """Notes who writes into a tensor, also by way of ``.data`` or a view, and who freezes it.

    Not a dispatch mode, under which ``torch.jit.trace`` fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: Lines = {}
        self.frozen: Lines = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}  # in which nn.init.constant_ gives its tensor
        given = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
        before = [(t, t._version, t.requires_grad) for t in given if _key(t)]
        out = func(*args, **kwargs)
        for tensor, version, learned in before:
            frame = sys._getframe(1)
            if tensor._version != version:
                line = None if _in_constructor(frame) else own_line(frame)
                self.lines[_key(tensor)] = tensor.untyped_storage(), line
            if learned and not tensor.requires_grad:
                self.frozen[_key(tensor)] = tensor.untyped_storage(), own_line(frame)
        return out


def _key(tensor: Tensor) -> int:
    """The address of its values; 0 if it has none, or no count of its writes."""
    if is_lazy(tensor) or tensor.is_meta or tensor.is_inference():
        return 0
    with contextlib.suppress(RuntimeError):  # sparse, or inside of torch.func
        return tensor.untyped_storage().data_ptr()
    return 0


def _in_constructor(frame: FrameType | None) -> bool:
    """Whether a layer of torch writes its own first values."""
    while frame is not None and not is_candidates_own(frame.f_code.co_filename):
        layer = isinstance(frame.f_locals.get("self"), nn.Module)
        if layer and frame.f_code.co_name == "__init__":
            return True
        frame = frame.f_back
    return False
