"""The proof: the candidate's effective weights in the reference, and everything compared.

Outputs in evaluation and in training mode, the gradient of every pair of parameters, and batch
norm's running statistics after a step, at two image sizes. In double precision where the
candidate's code bears it, so that rounding hides nothing and excuses nothing.

Before that, the candidate against itself: whether gradients are on may change nothing, as
``model.eval()`` alone decides.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from linecache import getline

import torch
from torch import Tensor, nn

from resnetlab.comparison.candidate import Location, condition_of, line_naming
from resnetlab.comparison.faults import apart
from resnetlab.comparison.layers import Pairs
from resnetlab.comparison.operations import Node, alike
from resnetlab.comparison.report import Findings
from resnetlab.comparison.rules import compare_structures
from resnetlab.comparison.structure import Structure, parse
from resnetlab.comparison.trace import (
    Recorder,
    Trace,
    choose_logits,
    kept,
    leaves,
    record,
    trace_network,
)
from resnetlab.models.resnet import ResNet
from resnetlab.models.shortcuts import ShortcutA

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest difference, in units of the reference's largest value."""
Layers = list[tuple[Node, Node]]


@dataclass
class Proof:
    """Compares ``model`` with ``reference``, both of which it changes."""

    model: nn.Module
    reference: ResNet
    structure: Structure
    """the reference's"""
    classes: int | None
    found: Findings
    dtype: torch.dtype = torch.float64
    worst: float = 0.0
    """largest difference of outputs so far"""
    first_size: int = 0

    @property
    def tolerance(self) -> float:
        return TOLERANCES[self.dtype]

    def run(self, sizes: tuple[int, ...], channels: int) -> float | None:
        """Report what differs; the largest difference of outputs, None if nothing was compared."""
        for dtype in (torch.float64, torch.float32):
            self.dtype = dtype
            self.model.to(dtype)
            probe = torch.randn(2, channels, sizes[0], sizes[0], dtype=dtype)
            if not record(self.model.eval(), probe, self.classes).crash:
                break
        _randomise(self.model)
        self.first_size, before_kinds = sizes[0], self.found.kinds()
        compared = False
        for size in sizes:
            last = size // self.reference.architecture.total_stride
            count = 2 if last > 1 else 4  # so that batch norm has enough values
            images = torch.randn(count, channels, size, size, dtype=self.dtype)
            passes: list[Layers | None] = [None]
            for training in (True, False) if compared else (False, True, False):
                passes.append(self._pass(images, training=training))
                compared |= passes[-1] is not None
                if not self.found.kinds() <= before_kinds:
                    return self.worst
            before, step, after = passes[-3:]
            if before and step and after:
                self._check_by_hand(before, step, after)
        return self.worst if compared else None

    def _pass(self, images: Tensor, *, training: bool) -> Layers | None:
        """One pass of both networks; the layers that were compared, None if they do not pair."""
        self.model.train(training)
        held = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        trace = record(self.model, images, self.classes)
        if trace.output is None or trace.logits is None:
            return None
        if (layers := self._layers(trace)) is None:
            return None
        for mine, other in layers:
            self._share(mine, other)
        self.reference.to(self.dtype)
        output = self.reference.train(training)(images)
        gap, output = self._output_gap(trace.logits, output, images)
        self.worst = max(self.worst, gap)
        mode, size = "training" if training else "evaluation", images.shape[-1]
        say = partial(self.found.add, mode=mode, gap=f"{gap:.2g}")
        if not gap <= self.tolerance and size != self.first_size:
            say("fixed-size", "number", "forward", first=self.first_size, second=size)
        elif not gap <= self.tolerance:
            first = self._first_apart(images)
            what, place = ("behind", "forward") if first is None else ("from", first.label)
            say("function", what, place, node=first)
        elif training:
            self._check_statistics(layers, held)
            moved = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
            self._check_gradients(layers, trace.logits, output, images)
            again = [n for n, b in self.model.named_buffers() if not torch.equal(b, moved[n])]
            if "gradient" not in self.found.kinds():  # a crash runs the model once more
                for name in again:
                    place = name.rpartition(".")[0]
                    outer = accumulate(place.split("."), "{}.{}".format)
                    lines = [line for path in outer if (line := trace.calls.get(path))]
                    lines.sort(key=lambda line: "checkpoint" not in getline(*line))
                    line = lines[0] if lines else None
                    if line and "checkpoint" not in getline(*line):
                        files = (
                            file for made in self.found.made.values() for file, _ in made.lines
                        )
                        line = line_naming("checkpoint", files) or line
                    self.found.add("running-statistics", "checkpoint", place, line=line)
        return layers

    def _first_apart(self, images: Tensor) -> Node | None:
        """The first layer whose output differs; None if all give what the reference's give."""
        mine, other = (
            record(net, images, self.classes, grad=False, watch=True)
            for net in (self.model, self.reference)
        )
        given = {node.place: node for node in other.nodes}
        layers = sorted(self._layers(mine) or [], key=lambda pair: pair[0].index)
        tolerance = 100 * self.tolerance
        return next((x for x, y in layers if not alike(x, given[y.place], tolerance)), None)

    def _layers(self, trace: Trace) -> Layers | None:
        assert trace.output is not None
        block = 2 if self.reference.architecture.block == "basic" else 3
        parsed = parse(trace.output, block_convs=block, style=self.structure.style)
        pairs: Pairs = compare_structures(parsed, self.structure, Findings()).operations
        layers = [(x, y) for x, y in pairs if x and y and y.kind in ("conv", "norm", "linear")]
        weights = [(t, u) for x, y in layers for t, u in zip(x.tensors[:1], y.tensors[:1])]  # noqa: B905
        if any(t.numel() != u.numel() for t, u in weights if t is not None and u is not None):
            return None  # a classifier for another size of map
        return layers

    @torch.no_grad()
    def _share(self, mine: Node, other: Node) -> None:
        """Give the reference's layer what the candidate's has just used: not a copy of weights."""
        module = self.reference.get_submodule(other.place)
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = mine.settings["eps"], 1.0  # leaves the batch's statistics
            if mine.settings.get("by_hand"):
                zeros = torch.zeros(module.num_features, dtype=self.dtype)
                module.running_mean, module.running_var = zeros, zeros + (1 - module.eps)
        names = ("weight", "bias", "running_mean", "running_var")
        for name, source in zip(names, mine.tensors, strict=False):
            target = getattr(module, name, None)
            if target is not None and source is not None:
                turned = mine.kind == "linear" and source.dim() == 2
                value = (source.t() if turned else source).detach().reshape(target.shape)
                kept = isinstance(target, nn.Parameter)
                setattr(module, name, nn.Parameter(value) if kept else value.clone())

    def _output_gap(self, mine: Tensor, other: Tensor, images: Tensor) -> tuple[float, Tensor]:
        """Distance of the outputs; of option A every place of its zeros is tried."""
        gap = _distance(mine, other)
        pads = [m for m in self.reference.modules() if isinstance(m, ShortcutA)]
        if gap <= self.tolerance or not pads:
            return gap, other
        for front in (0, 1):  # zeros all behind, all in front: the paper leaves it open
            for pad in pads:
                total = pad.before + pad.after
                pad.before, pad.after = total * front, total * (1 - front)
            output = self.reference(images)
            again = _distance(mine, output)
            if again <= self.tolerance:
                self.found.note(
                    f"Option A appends its zeros {'before' if front else 'behind'} the "
                    "channels, the reference on both sides; the paper leaves it open."
                )
                return again, output
        return gap, other

    def _check_gradients(self, layers: Layers, mine: Tensor, other: Tensor, images: Tensor) -> None:
        weights = torch.randn(other.shape, dtype=other.dtype)
        for node, _ in layers:
            for tensor in node.tensors[:2]:
                if tensor is not None and tensor.requires_grad and not tensor.is_leaf:
                    tensor.retain_grad()
        self.model.zero_grad(set_to_none=True)
        if not mine.requires_grad:
            if any(p.requires_grad for p in self.model.parameters()):
                self.found.add("gradient-cut", "no gradient reaches the network at all.", "forward")
            return
        try:
            (mine.reshape(other.shape) * weights).sum().backward()
        except RuntimeError as error:
            _report_crash(self.model, error, images, self.found)
            return
        self._compare_gradients(layers, (other * weights).sum())
        self.model.zero_grad(set_to_none=True)

    def _compare_gradients(self, layers: Layers, loss: Tensor) -> None:
        """The reference's backward pass; each gradient is compared, and freed, as it arrives."""
        parameters = dict(self.model.named_parameters())
        rows: list[tuple[Node, float, float]] = []

        def judge(node: Node, learned: Tensor | None, target: Tensor) -> None:
            grad, target.grad = target.grad, None
            if learned is not None and grad is not None:
                turned = node.kind == "linear" and learned.dim() == 2
                learned = (learned.t() if turned else learned).reshape(grad.shape)
                rows.append((node, float((learned - grad).abs().max()), float(grad.abs().max())))

        for mine, other in layers:
            module = self.reference.get_submodule(other.place)
            for source, target in zip(mine.tensors[:2], (module.weight, module.bias), strict=False):
                if isinstance(target, nn.Parameter):
                    learned = None if source is None else _gradient(source, mine, parameters)
                    target.register_post_accumulate_grad_hook(partial(judge, mine, learned))
        loss.backward()
        floor = 1e-6 * max((scale for *_, scale in rows), default=0.0)
        gaps = [(node, gap / max(scale, floor)) for node, gap, scale in rows if scale or floor]
        wrong = [row for row in gaps if not row[1] <= 100 * self.tolerance]
        if wrong:  # on the way back the last layer is met first
            node, gap = max(wrong, key=lambda row: row[0].index)
            what = "missing" if gap == 1.0 else "other"
            self.found.add("gradient", what, node.label, node=node, gap=f"{gap:.2g}")

    def _check_statistics(self, layers: Layers, held: dict[str, Tensor]) -> None:
        """Whether a training pass moves the running statistics as batch norm does."""
        buffers = dict(self.model.named_buffers())
        for mine, other in layers:
            module = self.reference.get_submodule(other.place)
            if not isinstance(module, nn.BatchNorm2d):
                continue
            batch = {"mean": module.running_mean, "var": module.running_var}
            if mine.settings.get("by_hand"):
                mine.settings["batch"] = [t.clone() for t in batch.values() if t is not None]
                continue
            momentum, gaps = mine.settings.get("momentum"), [0.0]
            for word, goal in batch.items() if len(mine.tensors) == 4 else ():
                name = next((name for name in mine.buffers if word in name), "")
                if name in buffers and momentum is not None and goal is not None:
                    expected = (1 - momentum) * held[name] + momentum * goal
                    gaps.append(_distance(buffers[name], expected))
            if not max(gaps) <= 1000 * self.tolerance:
                gap = f"{max(gaps):.2g}"
                self.found.add("running-statistics", "step", mine.label, node=mine, gap=gap)

    def _check_by_hand(self, before: Layers, step: Layers, after: Layers) -> None:
        """The same for batch norms written by hand, from the straight lines that they draw."""
        for (one, _), (batch, other), (two, _) in zip(before, step, after, strict=True):
            by_hand = other.kind == "norm" and batch.settings.get("by_hand")
            if not by_hand or not batch.settings["training"]:
                continue
            rows = [
                [t.detach().flatten() for t in node.tensors[:2] if t is not None]
                for node in (batch, one, two)
            ]
            if any(len(row) < 2 for row in rows):
                continue
            (gamma, beta), *lines = rows
            means = [(beta - shift) / scale for scale, shift in lines]
            variances = [(gamma / scale) ** 2 for scale, _ in lines]
            mean, variance = batch.settings["batch"]
            count = batch.shape[0] * math.prod(batch.shape[2:])
            biased = variance * (count - 1) / count  # d2l.ai keeps this one
            moves = {
                "mean": _movement(means, [mean]),
                "variance": _movement(variances, [variance, biased]),
            }
            say = partial(self.found.add, where=batch.label, node=batch)
            for fault in dict.fromkeys(fault for fault, _ in moves.values() if fault):
                words = " and ".join(name for name, (other, _) in moves.items() if other == fault)
                say("running-statistics", fault, name=words)
            momentum = max(share for _, share in moves.values())
            if momentum > 0.5:
                say("norm-momentum", "last batch", momentum=f"{momentum:.2g}")


def _movement(step: list[Tensor], goals: list[Tensor]) -> tuple[str, float]:
    """What is wrong with a statistic's step, and its momentum: the share of the way to a goal."""
    before, after = step
    if not (after - before).abs().max() > 1e-9:
        return "still", 0.0
    best = (1.0, 0.0)
    for goal in goals:
        way = goal - before
        shares = ((after - before) / way)[way.abs() > 1e-3 * way.abs().max()]
        best = min(best, (float(shares.max() - shares.min()), float(shares.mean())))
    return ("astray", 0.0) if best[0] > 1e-2 else ("", best[1])


def _gradient(source: Tensor, node: Node, parameters: dict[str, nn.Parameter]) -> Tensor | None:
    """What has arrived at an effective weight; None where it is frozen or not to be had."""
    if source.requires_grad:
        return source.grad if source.grad is not None else torch.zeros_like(source)
    for name in node.names:  # of a layer by hand: the parameter that has these values
        parameter = parameters.get(name)
        if parameter is None or not parameter.requires_grad:
            continue
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        turned = [(parameter.t(), grad.t())] if parameter.dim() == 2 else []
        for value, own in [(parameter, grad), *turned]:
            if _distance(value, source) < 1e-6:
                return own.reshape(source.shape)
    return None


def _files(found: Findings) -> list[str]:
    """Those in which the candidate's layers are made."""
    return [file for made in found.made.values() for file, _ in made.lines]


def check_backward(model: nn.Module, images: Tensor, found: Findings) -> None:
    """Report a backward pass that crashes: for a network that is not proved equal."""
    with kept([*model.modules(), *Recorder(model).hidden]):
        outputs = [tensor for _, tensor in leaves(model.train()(images.clone()))]
        learned = [tensor.sum() for tensor in outputs if tensor.requires_grad]
        try:
            torch.autograd.backward(learned)
        except RuntimeError as error:
            _report_crash(model, error, images, found)
    model.zero_grad(set_to_none=True)


def _report_crash(model: nn.Module, error: RuntimeError, images: Tensor, found: Findings) -> None:
    message = str(error).splitlines()[0].partition(" Hint:")[0].rstrip(".")
    recorder = Recorder(model)
    if "inplace" in message:
        with recorder.watch_saved():
            recorder.run(images)
    lines = {cut.location for cut in recorder.overwritten}
    remedy = _out_of_place(lines.pop()) if len(lines) == 1 else ""
    for cut in recorder.overwritten:
        place, line = cut.place or "forward", cut.location
        found.add("gradient", "overwritten", place, line=line, remedy=remedy)
    if not recorder.overwritten:
        what = "in place" if "inplace" in message else "crash"
        found.add("gradient", what, "forward", message=message)


def _out_of_place(line: Location | None) -> str:
    """What to write for ``x += y``; '' if the line is no such one."""
    code = getline(*line).strip(" ;\n") if line else ""
    match = re.fullmatch(r"([\w.]+)\s*([-+*/])=\s*([^#]+?)\s*(#.*)?", code)
    if match is None:
        return ""
    target, operator, value = match.group(1, 2, 3)
    if operator != "+" and re.search(r"[-+*/]", value):
        value = f"({value})"
    return f"write the result beside its input: {target} = {target} {operator} {value}"


@torch.no_grad()
def _randomise(model: nn.Module) -> None:
    """Move every weight, so that scales of one and shifts of zero hide nothing."""
    for parameter in model.parameters():
        if parameter.numel():
            spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
            parameter.add_(torch.rand_like(parameter).sub_(0.5), alpha=spread or 0.5)


def _distance(mine: Tensor, other: Tensor) -> float:
    if mine.numel() != other.numel():
        return float("inf")
    gap = (mine.detach().reshape(other.shape).to(other.dtype) - other.detach()).abs().max()
    return float(gap / other.detach().abs().max().clamp(min=1e-12))


NORMS = {
    ("evaluation", True): "in evaluation with gradients on it uses the batch's statistics",
    ("evaluation", False): "in evaluation under torch.no_grad() it uses the batch's statistics",
    ("training", True): "in training it uses the running statistics",
    ("training", False): "in training under torch.no_grad() it uses the running statistics",
}
"""What is wrong with a norm's statistics, by mode and whether gradients are on."""


def check_gradient_mode(
    model: nn.Module, evaluation: Trace, training: Trace, found: Findings
) -> None:
    """Run both modes without gradients too, and say why something else comes out."""
    norms, facts = dict[str, Node](), list[str]()
    if any(cut.how == "outside" for cut in evaluation.cuts):
        return  # what leaves torch is followed by its gradients
    if evaluation.random or evaluation.writes:
        return
    chance = line_naming("random", _files(found))
    differs = [_differs(model, trace, trace is training) for trace in (evaluation, training)]
    if not (chance or any(differs)) or _differs_again(model, evaluation, training, chance, found):
        return
    modes = ("evaluation", "training")
    for mode, trace, differing in zip(modes, (evaluation, training), differs, strict=True):
        if not differing or (trace is evaluation and not _follows_no_grad(model, trace)):
            continue
        rows = {
            grad: trace_network(
                model, trace.images, training=mode == "training", watch=True, grad=grad
            ).live()
            for grad in (True, False)
        }
        batch = {grad: _uses_batch(row) for grad, row in rows.items()}
        astray = [n for n in rows[True] if batch[True].get(n.place) != batch[False].get(n.place)]
        if not astray:
            _tell_operation(rows[True], rows[False], mode, found)
            return
        norms |= {node.place: node for node in astray}
        facts += [
            NORMS[mode, grad]
            for grad, uses in batch.items()
            if uses.get(astray[0].place, mode == "evaluation") == (mode == "evaluation")
        ]
    if norms:
        found.drop("norm-statistics")  # in evaluation, of which this is the cause
    for node in norms.values():
        asked = condition_of(node.settings.get("computed at") or node.location)
        line, test = (asked[0], f"`{asked[1]}`") if asked else (None, "whether gradients are on")
        words = {"test": test, "facts": " and ".join(facts)}
        found.add("norm-statistics", "gradients", node.label, node=node, line=line, **words)  # type: ignore[arg-type]
    if not norms and differs[0]:
        line = line_naming("is_inference_mode_enabled", _files(found))
        words = {"mode": "evaluation", "context": "inference_mode"}
        found.add("function", "no_grad", "forward", line=line, **words)  # type: ignore[arg-type]


def _differs(model: nn.Module, trace: Trace, training: bool) -> bool:
    """Whether a pass in which no gradients are recorded, nor anything else, gives other logits.

    In evaluation under ``torch.inference_mode``, in training under ``torch.no_grad``.
    """
    if trace.logits is None or trace.random:
        return False
    outputs: list[tuple[str, Tensor]] = []
    hidden = Recorder(model).hidden
    context = torch.no_grad() if training else torch.inference_mode()
    with kept([*model.modules(), *hidden]), context:
        for module in (model, *hidden):
            module.train() if training else module.eval()  # which a candidate may override
        outputs += leaves(model(trace.images.clone()))
    key = choose_logits(trace.heads, None)[0]
    logits = next((tensor for name, tensor in outputs if name == key), None)
    return logits is not None and apart(trace, logits)


def _differs_again(
    model: nn.Module,
    evaluation: Trace,
    training: Trace,
    line: Location | None,
    found: Findings,
) -> bool:
    """Tell of a second pass over the same images that gives something else without torch's chance.

    Python's and NumPy's random numbers cannot be watched: where the candidate's files name such a
    thing, at ``line``, it is the cause, in evaluation or training; else forward keeps something.
    """
    for trace in (evaluation, training):
        if trace.logits is None or trace.random:
            continue
        for _ in range(4 if line else 1):  # what is seldom drawn
            again = trace_network(model, trace.images, training=trace is training)
            if again.logits is None or not apart(trace, again.logits):
                continue
            for kind in ("batch-dependence", "depth", "unused-parameters", "train-mode"):
                found.drop(kind)  # of which this is the cause
            if line is None:
                kind = "batch-dependence" if trace is evaluation else "train-mode"
                found.add(kind, "state", "forward")
            else:
                kind = "dropout-in-evaluation" if trace is evaluation else "dropout"
                found.add(kind, "outside", "forward", line=line)
            return True
    return False


def _follows_no_grad(model: nn.Module, evaluation: Trace) -> bool:
    """Whether what differs in inference mode does so under ``torch.no_grad`` already."""
    quiet = trace_network(model, evaluation.images, grad=False)
    return quiet.logits is not None and apart(evaluation, quiet.logits)


def _uses_batch(row: list[Node]) -> dict[str, bool]:
    return {node.place: node.settings["training"] for node in row if node.kind == "norm"}


def _tell_operation(one: list[Node], two: list[Node], mode: str, found: Findings) -> None:
    """Name the first operation that gives something else."""
    pairs = zip(one, two, strict=False)
    pair = next((p for p in pairs if p[0].kind != p[1].kind or not alike(*p)), ())
    lines = [asked[0] if (asked := condition_of(n.location)) else n.location for n in pair]
    line = min(lines, key=lambda line: "grad" not in getline(*line or ("", 0)), default=None)
    words = {"mode": mode, "context": "no_grad"}
    found.add("function", "no_grad", "forward", line=line, **words)  # type: ignore[arg-type]
