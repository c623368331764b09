"""Outputs that depend on whether gradients are on, where ``model.eval()`` alone should decide."""

from __future__ import annotations

from linecache import getline

import torch
from torch import Tensor, nn

from resnetlab.comparison.candidate import condition_of, line_naming
from resnetlab.comparison.faults import apart
from resnetlab.comparison.operations import Node, alike
from resnetlab.comparison.report import Findings
from resnetlab.comparison.trace import Recorder, Trace, choose_logits, kept, leaves, trace_network

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
    """Run both modes without gradients too, and evaluation in inference mode."""
    norms, facts = dict[str, Node](), list[str]()
    if (
        evaluation.random
        or evaluation.writes
        or any(cut.how == "outside" for cut in evaluation.cuts)
    ):
        return  # what leaves torch is followed by its gradients
    again = trace_network(model, evaluation.images)
    if (
        again.logits is not None
        and evaluation.logits is not None
        and apart(evaluation, again.logits)
    ):
        found.drop("batch-dependence")
        found.add("batch-dependence", "state", "forward")
        return
    for mode, trace in (("evaluation", evaluation), ("training", training)):
        if trace.logits is None or trace.random or not _follows(model, trace, mode):
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
    if not norms and evaluation.logits is not None:
        _check_inference(model, evaluation, found)


def _follows(model: nn.Module, trace: Trace, mode: str) -> bool:
    quiet = trace_network(model, trace.images, training=mode == "training", grad=False)
    return quiet.logits is not None and apart(trace, quiet.logits)


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


def _check_inference(model: nn.Module, trace: Trace, found: Findings) -> None:
    """``torch.inference_mode``, in which nothing can be recorded."""
    outputs: list[tuple[str, Tensor]] = []
    hidden = Recorder(model).hidden
    with kept([*model.modules(), *hidden]), torch.inference_mode():
        for module in (model, *hidden):
            module.eval()
        outputs += leaves(model(trace.images))
    key = choose_logits(trace.heads, None)[0]
    logits = next((tensor for name, tensor in outputs if name == key), None)
    if logits is not None and apart(trace, logits):
        files = (file for made in found.made.values() for file, _ in made.lines)
        line = line_naming("is_inference_mode_enabled", files)
        words = {"mode": "evaluation", "context": "inference_mode"}
        found.add("function", "no_grad", "forward", line=line, **words)  # type: ignore[arg-type]
