"""Operations that both networks have: settings that differ."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from resnetlab.comparison.findings import Findings
from resnetlab.comparison.operations import Node

Pairs = list[tuple[Node | None, Node | None]]
"""(theirs, ours) of every operation, in order"""

NAMES = {
    "relu": "ReLU", "norm": "batch norm", "conv": "convolution", "linear": "linear layer",
    "maxpool": "max pool", "globalpool": "global average pooling", "avgpool": "average pooling",
    "scale": "multiplication by a number or parameter", "shift": "addition of a constant",
    "mul": "multiplication of two branches (a gate)", "add": "further addition",
    "pad": "padding", "slice": "slice", "extra-addition": "second addition of the shortcut",
    "cat": "concatenation", "sumpool": "sum",
}  # fmt: skip


def compare_widths(
    row: Pairs, where: tuple[str, str], found: Findings, home: str = "the block"
) -> None:
    wrong = [
        (mine.settings["out"], other.settings["out"])
        for mine, other in row
        if mine and other and mine.kind == other.kind == "conv"
        if mine.settings["out"] != other.settings["out"]
    ]
    if wrong:
        wrong = wrong[:1] if len(set(wrong)) == 1 else wrong
        mine, other = (", ".join(str(n) for n in side) for side in zip(*wrong, strict=True))
        text = f"convolutions of {home} give {mine} channels, the reference's give {other}."
        found.add("width", text, f"give them {other} channels.", *where)


def compare_settings(
    row: Pairs, theirs: list[Node], home: str, reference: str, found: Findings, style: str
) -> None:
    """Report settings of operations that both sides have."""
    followers = {id(a): b.kind for a, b in pairwise(theirs)}
    for mine, other in row:
        if mine is None or other is None:
            continue
        where = (mine.label or home, other.place)
        a, b = mine.settings, other.settings
        if mine.kind == other.kind == "conv":
            normed = followers.get(id(mine)) == "norm" or style == "pre"
            if a["bias"] and not b["bias"] and normed:
                found.add(
                    "bias-before-norm",
                    "there is a bias in front of batch norm, which takes it away again: {amount} "
                    "needless parameters.",
                    "pass bias=False: batch norm has a bias of its own.",
                    *where,
                    a["out"],
                )
            _conv_settings(a, b, where, found)
        elif mine.kind == other.kind == "norm":
            _norm_settings(a, b, where, found)
        elif mine.kind == "act" and other.kind == "relu":
            text = f"the activation is {a['name']}, the reference's is ReLU."
            found.add("activation", text, "use ReLU.", *where)
        elif mine.kind == other.kind == "maxpool":
            keys = ("kernel", "stride", "padding")
            if any(a.get(key) != b.get(key) for key in keys):
                text = ", ".join(f"{key} {a.get(key)}" for key in keys)
                right = ", ".join(f"{key} {b.get(key)}" for key in keys)
                found.add("max-pool", f"the max pool has {text}; the reference's has {right}.",
                          f"take {right}.", *where)  # fmt: skip
        elif other.kind == "globalpool" and mine.kind != "globalpool":
            size = "x".join(str(n) for n in mine.shape[2:]) or "1x1"
            found.add(
                "pooling",
                f"the last pooling is a {NAMES.get(mine.kind, mine.kind)} to {size}; the "
                "reference averages over the whole map.",
                "take AdaptiveAvgPool2d(1).",
                *where,
            )
        elif other.kind == "linear" and mine.kind in ("linear", "conv"):
            if a["out"] != b["out"]:
                found.add(
                    "num-classes",
                    f"the network has {a['out']} outputs; {b['out']} classes are expected.",
                    f"if {a['out']} classes are meant, say --num-classes {a['out']}.",
                    *where,
                )
            if not a["bias"]:
                found.add("head-bias", "the classifier has no bias.", "keep its bias.", *where)


def _conv_settings(
    a: dict[str, Any], b: dict[str, Any], where: tuple[str, str], found: Findings
) -> None:
    if a["kernel"] != b["kernel"]:
        words = ["{}x{}".format(*side["kernel"]) for side in (a, b)]
        text = f"the convolution is {words[0]}, the reference's is {words[1]}."
        found.add("kernel", text, f"take a {words[1]} convolution.", *where)
        return
    for key in ("dilation", "groups", "padding", "transposed"):
        if a[key] != b[key]:
            mine, other = (side[key] for side in (a, b))
            text = f"the convolution has {key} {mine}, the reference's has {other}."
            found.add(key, text, f"take {key} {other}.", *where)
            return


def _norm_settings(
    a: dict[str, Any], b: dict[str, Any], where: tuple[str, str], found: Findings
) -> None:
    if a["type"] != b["type"]:
        text = f"the normalisation is a {a['type']}, the reference's is a {b['type']}."
        found.add("norm-type", text, "use BatchNorm2d.", *where)
        return
    if a["training"] or not a["running"]:
        found.add(
            "norm-statistics",
            "batch norm uses the batch's statistics in evaluation too.",
            "keep running statistics (track_running_stats=True) and follow model.eval().",
            *where,
        )
    if not a["affine"]:
        text = "batch norm has no learned scale and shift."
        found.add("norm-affine", text, "leave affine=True.", *where)
    for key in ("eps", "momentum"):
        if a[key] != b[key]:
            found.note(f"batch norm's {key} is {a[key]:g}; PyTorch's usual one is {b[key]:g}.")
