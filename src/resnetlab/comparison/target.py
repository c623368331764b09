"""Loading a stranger's network: ``path/to/file.py:Name`` or ``package.module:Name``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from resnetlab.records import did_you_mean

CLASSES = [
    "num_classes",
    "n_classes",
    "nb_classes",
    "num_class",
    "class_num",
    "n_class",
    "numClasses",
    "classes",
    "num_outputs",
    "num_labels",
    "nclasses",
    "nclass",
    "class_count",
    "output_dim",
]
"""Names under which people pass the number of classes."""
CHANNELS = [
    "in_channels",
    "input_channels",
    "in_chans",
    "image_channels",
    "img_channels",
    "n_channels",
    "in_channel",
    "input_channel",
    "channels_img",
    "img_channel",
    "in_ch",
]
"""Names under which people pass the image's channels."""


def load_target(
    target: str, *, num_classes: int | None = None, in_channels: int | None = None
) -> nn.Module:
    """The network that ``target`` names: a module instance, or what a class or factory returns.

    ``target`` is ``path/to/file.py:Name`` or ``package.module:Name``. This RUNS THE FILE: load only
    code that you would run yourself. Its directory is importable meanwhile, its prints go to
    standard error. A constructor is called with as little as it asks for; ``num_classes`` and
    ``in_channels`` are passed if given and taken. ValueError, one sentence, names what is missing:
    the file, the name (with the nearest), arguments, or the line that crashed.
    """
    place, _, name = target.rpartition(":")
    if not place or "/" in name or os.sep in name:
        raise ValueError(f"{target!r} names no network; write path/to/file.py:Name.")
    path = Path(place).expanduser()
    if place.endswith(".py") and not path.is_file():
        raise ValueError(f"there is no file {place}.")
    with _their_world(path.resolve().parent if path.is_file() else Path.cwd()):
        module = _import(path.resolve() if path.is_file() else None, place)
        found: Any = module
        for part in name.split("."):
            if not hasattr(found, part):
                names = _candidates(module)
                near = did_you_mean(name, names) if names else "; it defines no network."
                raise ValueError(f"{place} has no {name!r}{near}")
            found = getattr(found, part)
        return build(found, num_classes=num_classes, in_channels=in_channels, name=target)


def build(
    maker: nn.Module | Callable[..., Any],
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    name: str = "",
) -> nn.Module:
    """The network of an instance, class or factory; arguments and errors as in ``load_target``."""
    for key, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value is not None and value < 1:
            raise ValueError(f"{key} must be at least 1, not {value}.")
    name = name or getattr(maker, "__name__", type(maker).__name__)
    if isinstance(maker, nn.Module):
        return maker
    if not callable(maker):
        raise ValueError(f"{name} is a {type(maker).__name__}, not a network, class or factory.")
    arguments = _arguments(maker, name, num_classes, in_channels)
    offered = {"num_classes": num_classes, "in_channels": in_channels}
    guesses = {key: value for key, value in offered.items() if value is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if guesses and _takes_keywords(maker):  # which ones, only a try tells
            for extra in (guesses, {"num_classes": num_classes} if num_classes else {}):
                with contextlib.suppress(TypeError):
                    made = maker(**arguments, **extra)
                    return _remember(made, name, {**arguments, **extra})
        try:
            made = maker(**arguments)
        except (Exception, SystemExit) as error:
            raise ValueError(f"{name} cannot be built: {_reason(error)}") from error
    return _remember(made, name, {**_defaults(maker), **arguments})


def _remember(made: Any, name: str, arguments: dict[str, Any]) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise ValueError(f"{name} returns a {type(made).__name__}, not a torch.nn.Module.")
    asked = [arguments[key] for key in CLASSES if type(arguments.get(key)) is int]
    if asked:
        _ASKED[made] = asked[0]
    return made


_ASKED: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def asked_classes(model: nn.Module) -> int | None:
    """The number of classes that ``build`` asked of the constructor, or its default, if known."""
    return _ASKED.get(model)


def _takes_keywords(maker: Callable[..., Any]) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        parameters = inspect.signature(maker).parameters.values()
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return False


def _defaults(maker: Callable[..., Any]) -> dict[str, Any]:
    with contextlib.suppress(TypeError, ValueError):
        return {key: p.default for key, p in inspect.signature(maker).parameters.items()}
    return {}


def _arguments(
    maker: Callable[..., Any], name: str, num_classes: int | None, in_channels: int | None
) -> dict[str, Any]:
    try:
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):
        return {}
    arguments: dict[str, Any] = {}
    missing = []
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if key in CLASSES and (required or num_classes is not None):
            arguments[key] = num_classes or 1000
        elif key in CHANNELS and (required or in_channels is not None):
            arguments[key] = in_channels or 3
        elif key == "pretrained" and parameter.default is True:
            arguments[key] = False
        elif required:
            missing.append(key)
    if missing:
        listed = " and ".join([", ".join(missing[:-1]), missing[-1]] if missing[1:] else missing)
        raise ValueError(
            f"{name} needs the argument{'s' * bool(missing[1:])} {listed}; name a function that "
            "passes them, such as `def resnet50(): return ResNet(...)`."
        )
    return arguments


def _import(path: Path | None, name: str) -> ModuleType:
    try:
        if path is None:
            return importlib.import_module(name)
        if (path.parent / "__init__.py").is_file():  # its relative imports need the package
            package = [path.stem]
            folder = path.parent
            while (folder / "__init__.py").is_file():
                package.insert(0, folder.name)
                folder = folder.parent
            sys.path.insert(0, str(folder))
            return importlib.import_module(".".join(package).removesuffix(".__init__"))
        key = f"_theirs_{path.stem}"
        spec = importlib.util.spec_from_file_location(key, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        if path is None and error.name and name.startswith(error.name):
            raise ValueError(f"there is no module or file {name!r}.") from error
        raise ValueError(f"{name} cannot be imported: {_reason(error)}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} cannot be imported: {_reason(error)}") from error


@contextlib.contextmanager
def _their_world(folder: Path) -> Iterator[None]:
    """Their directory importable, no arguments for their parsers, their prints off our output."""
    path, argv, modules = list(sys.path), sys.argv, set(sys.modules)
    sys.path.insert(0, str(folder))
    sys.argv = argv[:1]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:], sys.argv = path, argv
        for key in set(sys.modules) - modules:  # the next stranger has a models.py too
            file = getattr(sys.modules[key], "__file__", None)
            if file and Path(file).is_relative_to(folder) and "site-packages" not in file:
                del sys.modules[key]


def _candidates(module: ModuleType) -> list[str]:
    """Networks and functions that the module itself defines."""
    return [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (isinstance(value, nn.Module) or callable(value))
        and (isinstance(value, nn.Module) or getattr(value, "__module__", "") == module.__name__)
    ]


def _reason(error: BaseException) -> str:
    """Kind and message of an error and the last line of the stranger's code that it passed."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(
            (os.path.dirname(torch.__file__), os.path.dirname(__file__))
        )
        and "<frozen" not in frame.filename
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    message = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {message}{place}."
