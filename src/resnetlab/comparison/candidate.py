"""The candidate's code: it is loaded, watched while it makes its network, and quoted.

A target is ``path/to/file.py:Name``, a notebook's or a module's, with arguments.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import json
import linecache
import os
import re
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from itertools import takewhile
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from resnetlab.errors import UserError
from resnetlab.files import reading, user_path
from resnetlab.records import did_you_mean

# ruff: noqa: SIM905
Location = tuple[str, int]
"""(file, line)"""
_TORCH = os.path.join(os.path.dirname(str(torch.__file__)), "")
_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
CLASSES = """num_classes n_classes nb_classes num_class class_num n_class numClasses classes
num_outputs num_labels nclasses nclass class_count output_dim""".split()
"""Names under which people pass the number of classes."""
CHANNELS = """in_channels input_channels in_chans image_channels img_channels n_channels in_channel
input_channel channels_img img_channel in_ch""".split()
"""Names under which people pass the image's channels."""
ENDINGS = (".py", ".ipynb", ".txt")
_TARGET = re.compile(r"(?P<place>.+?):(?P<name>[A-Za-z_][\w.]*)(?P<call>\(.*\))?", re.DOTALL)


@dataclass(frozen=True)
class Made:
    """How a module of the candidate was made."""

    name: str
    """of its class"""
    lines: tuple[Location, ...]
    """(file, line) of the candidate's own code that made it, innermost first"""


@dataclass(frozen=True)
class Origin:
    """What is known of how a candidate was made."""

    name: str = ""
    """of the class or factory, with its arguments"""
    classes: int | None = None
    """asked of the constructor, or its default"""
    made: dict[str, Made] = field(default_factory=dict)
    """module path -> how the module was made"""
    written: dict[str, Location] = field(default_factory=dict)
    """parameter -> the last line that wrote into it, constructors of torch aside"""
    frozen: dict[str, Location] = field(default_factory=dict)
    """parameter -> the line that took its ``requires_grad``"""


_ORIGINS: weakref.WeakKeyDictionary[nn.Module, Origin] = weakref.WeakKeyDictionary()


def origin_of(model: nn.Module) -> Origin:
    return _ORIGINS.get(model) or Origin()


def load_target(
    target: str, *, num_classes: int | None = None, in_channels: int | None = None
) -> nn.Module:
    """The network that ``target`` names: a module instance, or what a class or factory returns.

    ``target`` is ``path/to/file.py:Name`` (.txt and .ipynb too) or ``package.module:Name``, with
    literal arguments where the maker needs them: ``file.py:Net(depth=20)``. This RUNS THE FILE:
    load only code that you would run yourself. Its directory is importable meanwhile, its prints go
    to standard error. A constructor is called with as little as it asks for; ``num_classes`` and
    ``in_channels`` are passed if given and taken. Raises UserError, which names what is missing:
    the file, the name (with the nearest), arguments, or the line that crashed.
    """
    match = _TARGET.fullmatch(target)
    if match is None:
        names = _makers(_find(target) if target.endswith(ENDINGS) else None)
        example = f"{target}:{names[0]}" if names else "path/to/file.py:Name"
        others = f" It defines {', '.join(names)}." if names[1:] else ""
        raise UserError(f"{target!r} names no network; write {example}.{others}")
    place, name, call = match["place"], match["name"], match["call"]
    arguments = _literals(name + call, call) if call else ([], {})
    path = _find(place)
    with own_settings(), _their_world(path.parent if path else Path.cwd()):
        module = _import(path, place, name.partition(".")[0])
        found: Any = module
        for part in name.split("."):
            if not hasattr(found, part):
                names = _candidates(module)
                near = did_you_mean(name, names) if names else "; it defines no network."
                raise UserError(f"{place} has no {name!r}{near}")
            found = getattr(found, part)
        return build(
            found,
            num_classes=num_classes,
            in_channels=in_channels,
            name=f"{name}{call or ''}",
            arguments=arguments,
        )


def _find(place: str) -> Path | None:
    """The file; None if the place must be a module's name."""
    path = user_path(place)
    with reading(path):
        if path.is_dir():
            raise UserError(f"cannot read {place}: it is a folder.")
        if path.is_file():
            path.open("rb").close()
            return path.resolve()
    if path.suffix in ENDINGS or os.sep in place:
        raise UserError(f"there is no file {place}.")
    return None


def _makers(path: Path | None) -> list[str]:
    """What a file defines that may make a network, without running it; likeliest first.

    That is what needs no arguments but the numbers of classes and channels: no blocks.
    """
    if path is None:
        return []
    cells = code_cells(path) if path.suffix == ".ipynb" else [path.read_text(errors="replace")]
    found: dict[str, bool] = {}
    for cell in cells:
        with contextlib.suppress(SyntaxError):
            for node in ast.parse(cell).body:
                match node:
                    case ast.ClassDef(name=name) if node.bases:
                        inits = [f for f in node.body if getattr(f, "name", "") == "__init__"]
                        runs = any(getattr(f, "name", "") == "forward" for f in node.body)
                        required = _required(inits[0]) - {"self"} if inits else set[str]()
                        found[name] = required <= {*CLASSES, *CHANNELS} and (runs or not inits)
                    case ast.FunctionDef(name=name):
                        found[name] = _required(node) <= {*CLASSES, *CHANNELS}
    names = [name for name, fits in found.items() if fits and not name.startswith("_")]
    return sorted(names, key=_likeliness)


def _likeliness(name: str) -> tuple[bool, ...]:
    return tuple(re.search(word, name.lower()) is None for word in ("resnet", "net", r"\d"))


def _required(function: Any) -> set[str]:
    """Arguments without default."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    positional = positional[: len(positional) - len(given.defaults)]
    named = [a for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is None]
    return {argument.arg for argument in (*positional, *named)}


def _literals(text: str, call: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        node = ast.parse(f"f{call}", mode="eval").body
        if not isinstance(node, ast.Call) or any(k.arg is None for k in node.keywords):
            raise ValueError
        values = [ast.literal_eval(argument) for argument in node.args]
        return values, {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    except (ValueError, SyntaxError, TypeError) as error:
        raise UserError(
            f"the arguments in {text!r} must be literals, such as Net(depth=20); for others name a "
            "function that passes them."
        ) from error


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Dtype, device, threads and gradient mode of our choice, and put back afterwards."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # the author's to heed, not ours
            torch.set_default_dtype(torch.float32)
            torch.set_default_device(None)
            torch.set_grad_enabled(True)
            torch.manual_seed(0)
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_grad_enabled(gradients)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def build(
    maker: nn.Module | Callable[..., Any],
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    name: str = "",
    arguments: tuple[list[Any], dict[str, Any]] = ([], {}),
) -> nn.Module:
    """The network of an instance, class or factory; arguments and errors as in ``load_target``."""
    for key, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value is not None and value < 1:
            raise UserError(f"`{key}` must be at least 1, not {value}.")
    name = name or getattr(maker, "__name__", type(maker).__name__)
    if isinstance(maker, nn.Module):
        if arguments != ([], {}):
            raise UserError(f"{name}: it is a network already and takes no arguments.")
        return maker
    if not callable(maker):
        raise UserError(f"{name} is a {type(maker).__name__}, not a network, class or factory.")
    values, given = arguments
    parameters = _parameters(maker)
    offered = {"num_classes": num_classes, "in_channels": in_channels}
    rest = dict(list(parameters.items())[len(values) :])
    taken = given | _arguments(rest, name, given, **offered)
    guesses = {k: v for k, v in offered.items() if v is not None and k not in taken}
    making = Making()
    with own_settings(), making:
        if guesses and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            for extra in (guesses, {"num_classes": num_classes} if num_classes else {}):
                with contextlib.suppress(TypeError):  # which ones it takes, only a try tells
                    made = maker(*values, **taken, **extra)
                    return _remember(made, name, taken | extra, making)
        try:
            made = maker(*values, **taken)
        except (Exception, SystemExit) as error:
            raise UserError(f"{name} cannot be built: {_reason(error)}") from error
    defaults = {key: parameter.default for key, parameter in parameters.items()}
    return _remember(made, name, defaults | taken, making)


def _remember(made: Any, name: str, arguments: dict[str, Any], making: Making) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise UserError(f"{name} returns a {type(made).__name__}, not a torch.nn.Module.")
    asked = [arguments[key] for key in CLASSES if type(arguments.get(key)) is int]
    classes = asked[0] if asked else None
    lines = making.of_modules(made), making.of_parameters(made), making.of_frozen(made)
    _ORIGINS[made] = Origin(name, classes, *lines)
    return made


def _parameters(maker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a maker can be told; {} where that is not known."""
    with contextlib.suppress(TypeError, ValueError):
        return dict(inspect.signature(maker).parameters)
    return {}


def _arguments(
    parameters: dict[str, inspect.Parameter],
    name: str,
    given: dict[str, Any],
    num_classes: int | None,
    in_channels: int | None,
) -> dict[str, Any]:
    """What the maker must be told beside what is given: classes and channels, or UserError."""
    arguments: dict[str, Any] = {}
    missing = []
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or key in given:
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
        example = ", ".join(f"{key}=..." for key in missing)
        raise UserError(
            f"{name} needs the argument{'s' * bool(missing[1:])} {listed}; write "
            f"{name.partition('(')[0]}({example}) with literals, or name a function that passes "
            "them, such as `def resnet50(): return ResNet(...)`."
        )
    return arguments


def _import(path: Path | None, place: str, wanted: str) -> ModuleType:
    try:
        if path is None:
            return importlib.import_module(place)
        if path.suffix == ".ipynb":
            return run_notebook(path, wanted)
        if path.suffix not in ENDINGS:
            raise UserError(f"{place}: compare reads .py, .ipynb and .txt files.")
        if (path.parent / "__init__.py").is_file():  # its relative imports need the package
            parents = takewhile(lambda folder: (folder / "__init__.py").is_file(), path.parents)
            package = [folder.name for folder in parents][::-1]
            sys.path.insert(0, str(path.parents[len(package)]))
            name = ".".join([*package, path.stem])
            return importlib.import_module(name.removesuffix(".__init__"))
        key = f"_candidate_{path.stem}"
        spec = importlib.util.spec_from_loader(key, SourceFileLoader(key, str(path)))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        spec.loader.exec_module(module)
        return module
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if path is None and error.name and place.startswith(error.name):
            raise UserError(f"there is no module or file {place!r}.") from error
        raise UserError(f"{place} cannot be imported: {_reason(error)}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{place} cannot be imported: {_reason(error)}") from error


@contextlib.contextmanager
def _their_world(folder: Path) -> Iterator[None]:
    """Their directory importable, no arguments for their parsers, their prints to stderr."""
    path, argv, modules = list(sys.path), sys.argv, set(sys.modules)
    sys.path.insert(0, str(folder))
    sys.argv = argv[:1]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:], sys.argv = path, argv
        for key in set(sys.modules) - modules:  # the next candidate has a models.py too
            file = getattr(sys.modules[key], "__file__", None)
            if file and Path(file).is_relative_to(folder) and "site-packages" not in file:
                del sys.modules[key]


def _candidates(module: ModuleType) -> list[str]:
    """Networks and functions that the module itself defines."""
    return [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        if isinstance(value, nn.Module)
        or (callable(value) and getattr(value, "__module__", "") == module.__name__)
    ]


def _reason(error: BaseException) -> str:
    """Kind and message of an error and the last line of the candidate's code that it passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_candidates_own(f.filename)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    message = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {message}{place}."


_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun")
"""Cell magics whose cell is Python all the same."""
_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def code_cells(path: Path) -> list[str]:
    """The code of each cell; a line with a magic or a shell command becomes an empty one."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f"{path.name} is not a notebook (JSON with cells).") from error
    sources = [cell.get("source", "") for cell in cells if cell.get("cell_type") == "code"]
    return [_without_magics("".join(source)) for source in sources]


def _without_magics(source: str) -> str:
    lines = source.splitlines()
    if lines and lines[0].startswith("%%") and not lines[0].startswith(_PYTHON_CELLS):
        return ""
    kept = []
    for line in lines:
        start = line.lstrip()
        indent = line[: len(line) - len(start)]
        magic = start.startswith(("%", "!", "?")) or line.rstrip().endswith("?")
        kept.append(f"{indent}pass" if magic and indent else "" if magic else line)
    return "\n".join(kept) + "\n"


def run_notebook(path: Path, wanted: str) -> ModuleType:
    """Run the cells until ``wanted`` is defined; of those behind it, definitions and imports alone.

    A cell that fails is passed over, as it may only load data; if ``wanted`` is missing at the
    end, the first failure is raised.
    """
    module = ModuleType(f"_candidate_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    failure: Exception | None = None
    for number, source in enumerate(code_cells(path), 1):
        name = f"{path}, cell {number}"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        try:
            tree = ast.parse(source, name)
            if hasattr(module, wanted):
                tree.body = [node for node in tree.body if isinstance(node, _DEFINITIONS)]
            exec(compile(tree, name, "exec"), module.__dict__)
        except SystemExit:
            continue
        except Exception as error:
            failure = failure or error
    if failure is not None and not hasattr(module, wanted):
        raise failure
    return module


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
            made = Made(type(module).__qualname__, tuple(own_lines(module)))
            self.modules[id(module)] = module, made

    def of_modules(self, model: nn.Module) -> dict[str, Made]:
        """Module path -> how it was made."""
        known = self.modules
        return {path: known[id(m)][1] for path, m in model.named_modules() if id(m) in known}

    def of_parameters(self, model: nn.Module) -> dict[str, Location]:
        """Parameter -> the last line that wrote into it, constructors of torch aside."""
        return _of(self.writes.lines, model)

    def of_frozen(self, model: nn.Module) -> dict[str, Location]:
        """Parameter -> the line that took its ``requires_grad``."""
        return _of(self.writes.frozen, model)


Lines = dict[int, tuple[torch.UntypedStorage, Location | None]]
"""address -> (storage, which must not be freed and its address used again, line)"""


def _of(lines: Lines, model: nn.Module) -> dict[str, Location]:
    rows = {name: lines[_key(p)][1] for name, p in model.named_parameters() if _key(p) in lines}
    return {name: line for name, line in rows.items() if line is not None}


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
            if tensor._version != version:
                line = None if _in_constructor() else own_line()
                self.lines[_key(tensor)] = tensor.untyped_storage(), line
            if learned and not tensor.requires_grad:
                self.frozen[_key(tensor)] = tensor.untyped_storage(), own_line()
        return out


def _key(tensor: Tensor) -> int:
    """The address of its values; 0 if it has none, or no count of its writes."""
    if is_lazy(tensor) or tensor.is_meta or tensor.is_inference():
        return 0
    with contextlib.suppress(RuntimeError):  # sparse, or inside of torch.func
        return tensor.untyped_storage().data_ptr()
    return 0


def _in_constructor() -> bool:
    """Whether a layer of torch writes its own first values."""
    for frame, _ in traceback.walk_stack(sys._getframe(1)):  # this one would hold itself
        if is_candidates_own(frame.f_code.co_filename):
            return False
        layer = isinstance(frame.f_locals.get("self"), nn.Module)
        if layer and frame.f_code.co_name == "__init__":
            return True
    return False


def is_ours(file: str) -> bool:
    return file.startswith(_HERE)


def is_candidates_own(file: str) -> bool:
    """Whether code of this file is neither torch's nor ours nor Python's."""
    return not file.startswith((_TORCH, _HERE, "<")) and "importlib" not in file


def own_line() -> Location | None:
    """The innermost line of the candidate's own file; of a library, where there is no such file."""
    return next(own_lines(), None)


def own_lines(module: nn.Module | None = None) -> Iterator[Location]:
    """The lines of the candidate's own files that led to this call, innermost first.

    Of a library's, where there are no such files. The constructors of ``module`` are passed over.
    """
    library: list[Location] = []
    own = outside = False
    for frame, number in traceback.walk_stack(sys._getframe(1)):
        file = frame.f_code.co_filename
        if is_ours(file) and outside:
            break  # beyond are those who called us
        outside = outside or not is_ours(file)
        if not is_candidates_own(file) or _constructs(frame, module):
            continue
        if "site-packages" in file:
            library.append((file, number))
        else:
            own = True
            yield file, number
    if not own:
        yield from library


def _constructs(frame: FrameType, module: nn.Module | None) -> bool:
    names = frame.f_code.co_varnames
    if module is None or frame.f_code.co_name != "__init__" or not names:
        return False
    return frame.f_locals.get(names[0]) is module


def line_words(location: Location) -> str:
    return f"{os.path.basename(location[0])}, line {location[1]}"


def handed_on(line: Location | None) -> str:
    """A call that hands on its result: ``x = unit(x)`` for ``out = unit(x)``."""
    with contextlib.suppress(SyntaxError):
        match ast.parse(linecache.getline(*line).strip() if line else "").body:
            case [
                ast.Assign(value=ast.Call(args=[ast.Name(id=name), *_]) as call)
                | ast.Expr(value=ast.Call(args=[ast.Name(id=name), *_]) as call)
            ]:
                return f"{name} = {ast.unparse(call)}"
    return "x = block(x)"


def line_with(numbers: list[int], files: Iterable[str]) -> Location | None:
    """The line where the files write these numbers as a list or tuple; None if several do."""
    lines = [
        (file, node.lineno)
        for file in dict.fromkeys(files)
        for node in ast.walk(_tree(file))
        if isinstance(node, (ast.List, ast.Tuple)) and _values(node) == numbers
    ]
    return lines[0] if len(lines) == 1 else None


def condition_of(line: Location | None) -> tuple[Location, str] | None:
    """The innermost ``if`` around a line of the same function: (its line, what it asks)."""
    file, number = line or ("", 0)
    found = None
    for node in ast.walk(_tree(file)):  # from the outside to the inside
        if isinstance(node, ast.FunctionDef) and _spans([node], number):
            found = None
        if isinstance(node, ast.If) and (_spans(node.body, number) or _spans(node.orelse, number)):
            found = (file, node.lineno), ast.unparse(node.test)
    return found


def why_left_out(line: Location | None) -> tuple[Location | None, str, str]:
    """Why a call reaches one block and not the next: (line, sentence of ``left-out``, code)."""
    file, number = line or ("", 0)
    loop: ast.For | ast.While | None = None
    for node in ast.walk(_tree(file)):
        if isinstance(node, (ast.For, ast.While)) and _spans(node.body, number):
            loop = node
    code = linecache.getline(file, number).strip()
    if loop is None:
        return line, "call", code
    inside: list[Any] = [node for statement in loop.body for node in ast.walk(statement)]
    for kind, what in ((ast.Return, "return"), (ast.Break, "break")):
        if end := next((node for node in inside if isinstance(node, kind)), None):
            return (file, end.lineno), what, code
    head = linecache.getline(file, loop.lineno).strip().rstrip(":")
    zipped = isinstance(loop, ast.For) and ast.unparse(loop.iter).startswith("zip(")
    return (file, loop.lineno), "zip" if zipped else "loop", head


def line_naming(name: str, files: Iterable[str]) -> Location | None:
    """The first line of the files that names a function, as such or as an attribute."""
    return next(
        (
            (file, vars(node)["lineno"])
            for file in dict.fromkeys(files)
            for node in ast.walk(_tree(file))
            if name in (getattr(node, "attr", ""), getattr(node, "id", ""))
        ),
        None,
    )


def _spans(nodes: list[Any], number: int) -> bool:
    return any(node.lineno <= number <= (node.end_lineno or 0) for node in nodes)


def _tree(file: str) -> ast.Module:
    with contextlib.suppress(SyntaxError):
        return ast.parse("".join(linecache.getlines(file)))
    return ast.Module([], [])


def _values(node: ast.List | ast.Tuple) -> list[object]:
    return [each.value if isinstance(each, ast.Constant) else None for each in node.elts]
