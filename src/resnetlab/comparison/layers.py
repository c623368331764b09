"""Rows of operations side by side: what belongs together, settings that differ, stem and head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, takewhile
from typing import Any, TypeVar

from resnetlab.comparison.candidate import condition_of
from resnetlab.comparison.operations import POOLS, Node, adds_itself, shrinkage
from resnetlab.comparison.report import Findings, a, by
from resnetlab.comparison.structure import ODD_POOLS, Structure, Unit

LARGE_EPS = 0.01
"""From here on batch norm's eps is no guard against division by zero any more."""
Pairs = list[tuple[Node | None, Node | None]]
"""(candidate, reference) of every operation, in order"""
T = TypeVar("T")
SWALLOWED = ("norm", "relu", "act")
"""Operations that go with a convolution, and whose place the order of a block decides."""
NAMES = {"relu": "relu", "act": "relu", "norm": "norm", "maxpool": "max-pool"}
NAMES |= {"conv": "layer", "linear": "layer"}
"""How the names of kinds end: missing-relu, extra-norm."""


def align(
    candidate: Sequence[T],
    reference: Sequence[T],
    cost: Callable[[T, T], float],
    gap: Callable[[T], float],
) -> list[tuple[T | None, T | None]]:
    """Pairs in order at the least cost (Needleman and Wunsch, 1970); None where one has nothing."""
    rows, columns = len(candidate) + 1, len(reference) + 1
    best = [[0.0] * columns for _ in range(rows)]
    for i in range(1, rows):
        best[i][0] = best[i - 1][0] + gap(candidate[i - 1])
    for j in range(1, columns):
        best[0][j] = best[0][j - 1] + gap(reference[j - 1])
    for i in range(1, rows):
        for j in range(1, columns):
            best[i][j] = min(
                best[i - 1][j - 1] + cost(candidate[i - 1], reference[j - 1]),
                best[i - 1][j] + gap(candidate[i - 1]),
                best[i][j - 1] + gap(reference[j - 1]),
            )
    pairs: list[tuple[T | None, T | None]] = []
    i, j = rows - 1, columns - 1
    while i or j:
        here = best[i][j]
        if i and here == best[i - 1][j] + gap(candidate[i - 1]):
            i -= 1  # what is left over comes last, so that the first stay with the first
            pairs.append((candidate[i], None))
        elif j and here == best[i][j - 1] + gap(reference[j - 1]):
            j -= 1
            pairs.append((None, reference[j]))
        else:
            i, j = i - 1, j - 1
            pairs.append((candidate[i], reference[j]))
    return pairs[::-1]


def lay_side_by_side(candidate: list[Node], reference: list[Node]) -> Pairs:
    return align(candidate, reference, _node_cost, lambda node: 1.5 if node.kind == "conv" else 1.0)


def _node_cost(candidate: Node, reference: Node) -> float:
    a, b = candidate.settings, reference.settings
    kinds = {candidate.kind, reference.kind}
    if kinds == {"conv"}:
        return sum(0.3 for key in ("kernel", "out", "stride") if a[key] != b[key])
    if len(kinds) == 1:
        return 0.3 if kinds == {"linear"} and a["out"] != b["out"] else 0.0
    if kinds <= set(POOLS):
        return 1.2
    return 0.5 if kinds in ({"relu", "act"}, {"conv", "linear"}) else 100.0


@dataclass
class Event:
    """An operation that only one side has, and after how many convolutions of its row."""

    extra: bool
    node: Node
    slot: str
    """stem, before, branch, shortcut, after, or head"""
    position: int
    last: bool = False
    """nothing follows in its row"""
    where: str = ""
    """its place in the row, in words"""
    home: tuple[str, str] = ("", "")
    """places in candidate and reference for what has none"""
    near: Node | None = None
    """of a missing operation: what stands there"""


def find_events(row: Pairs, slot: str) -> list[Event]:
    events, convs = [], 0
    own = [mine for mine, _ in row if mine is not None]
    for mine, other in row:
        convs += other is not None and other.kind == "conv"
        if mine is None and other is not None:
            events.append(Event(False, other, slot, convs))
        elif other is None and mine is not None:
            events.append(Event(True, mine, slot, convs, mine is own[-1]))
    return events


@dataclass
class Case:
    """Two structures, what is found of them, and the events that are still to be told."""

    candidate: Structure
    reference: Structure
    units: list[tuple[Unit | None, Unit | None]]
    """blocks in pairs"""
    ratio: float
    """by how much all stages are wider than the reference's, 1 if there is no such number"""
    found: Findings
    events: list[Event] = field(default_factory=list)

    @property
    def same_style(self) -> bool:
        return self.candidate.style == self.reference.style or not self.candidate.units

    def tell(self, events: list[Event]) -> None:
        """Have events told, but for those that the order of a block decides."""
        self.events += [e for e in events if self.same_style or e.node.kind not in SWALLOWED]


def compare_widths(
    row: Pairs, where: tuple[str, str], found: Findings, home: str = "the block"
) -> None:
    wrong = [
        (mine, mine.settings["out"], other.settings["out"])
        for mine, other in row
        if mine and other and mine.kind == other.kind == "conv"
        if mine.settings["out"] != other.settings["out"]
    ]
    if wrong:
        if home == "the stem":
            where = wrong[0][0].label or where[0], where[1]
        sizes = [row[1:] for row in wrong]
        sizes = sizes[:1] if len(set(sizes)) == 1 else sizes
        mine, theirs = (", ".join(map(str, side)) for side in zip(*sizes, strict=True))
        found.add("width", "layers", *where, node=wrong[0][0], home=home, mine=mine, theirs=theirs)


def compare_settings(
    row: Pairs, candidate: list[Node], home: tuple[str, str], found: Findings, style: str
) -> None:
    """Report the settings of operations that both sides have, and biases that norms take away.

    ``home``: (what to call the row, place in the reference). ``style``: see ``Structure``.
    """
    followers = {id(node): follower.kind for node, follower in pairwise(candidate)}
    partners = {id(mine): other for mine, other in row if mine is not None}
    for mine in candidate:
        other = partners.get(id(mine))
        where, reference = mine.label or home[0], other.place if other else home[1]
        say = partial(found.add, where=where, reference=reference, node=mine)
        if "axes" in mine.settings:
            swapped = mine.settings["axes"] == (0, 1, 3, 2)
            say("function", "axes" if swapped else "order", layer=a(mine.words))
        if mine.settings.get("paths") and mine.settings["groups"] > 1:
            say("separate-paths", "block", count=mine.settings["paths"])
        if mine.kind == "conv":
            _bias(mine, other, followers.get(id(mine)), say, style)
        if other is None:
            continue
        if mine.kind == other.kind == "conv":
            _conv_settings(mine.settings, other.settings, say)
        elif mine.kind == other.kind == "norm":
            _norm_settings(mine, say, found)
        elif mine.kind == "act" and other.kind == "relu":
            say("activation", "other", mine=mine.words)
        elif other.kind == "maxpool" and mine.kind in POOLS:
            _pool_settings(mine, other, say)
        elif other.kind == "globalpool" and mine.settings.get("mixed"):
            say("pooling", "mixed")
        elif other.kind == "globalpool" and mine.kind != "globalpool":
            if mine.kind not in ("avgpool", "mean") or mine.shape[2:] != (1, 1):
                size = "x".join(map(str, mine.shape[2:])) or "1x1"
                say("pooling", "last", mine=a(mine.words), size=size)
        elif other.kind == "linear" and mine.kind in ("linear", "conv"):
            one, two = mine.settings, other.settings
            if one["out"] != two["out"]:
                say("num-classes", "other", mine=one["out"], theirs=two["out"])
            if not one["bias"]:
                say("head-bias", "the classifier has no bias.")


Say = Callable[..., None]
"""Adds a finding of one layer: kind, sentence, and the words in it."""


def _bias(node: Node, other: Node | None, follower: str | None, say: Say, style: str) -> None:
    if not node.settings["bias"] or node.settings["transposed"]:
        return
    if follower == "norm" or (style == "pre" and follower in (None, "relu", "act")):
        say("bias-before-norm", "bias", amount=node.settings["out"])
    elif other is not None and not other.settings.get("bias"):
        say("extra-bias", "bias", amount=node.settings["out"])


def _conv_settings(one: dict[str, Any], two: dict[str, Any], say: Say) -> None:
    for key in ("kernel", "dilation", "groups"):
        if one[key] != two[key]:
            full = key == "kernel"
            mine, theirs = ("{}x{}".format(*s[key]) if full else s[key] for s in (one, two))
            swapped = key == "groups" and two[key] > 1 and one["out"] == two["out"]
            depthwise = key == "groups" and one[key] == one["in"] == one["out"] > two[key]
            what = "depthwise" if depthwise else "cardinality" if swapped else "other"
            say(key, what, mine=mine, theirs=theirs)
    if one["transposed"]:
        say("transposed", "the convolution is a transposed one.")
    fits = [
        tuple(2 * p - d * (k - 1) for p, k, d in zip(*values, strict=True))
        for values in ((s["padding"], s["kernel"], s["dilation"]) for s in (one, two))
        if len(values[0]) == 2
    ]
    if _is_tensorflows(one["padding"]):
        say("padding", "tensorflow", line=one.get("padded at"))
    elif len(fits) < 2 or fits[0] != fits[1]:
        say("padding", "size", mine=_sides(one["padding"]), theirs=two["padding"])
    if mode := one.get("padding mode"):
        words = {"reflect": "reflected", "replicate": "repeated", "circular": "circular"}
        say("padding", "mode", mode=words.get(mode, mode))


def _is_tensorflows(padding: tuple[int, ...]) -> bool:
    """Whether a padding is what TensorFlow's "same" is before a stride: more behind than before."""
    if len(padding) != 4:
        return False
    left, right, top, bottom = padding
    return {right - left, bottom - top} in ({1}, {0, 1})


def _sides(padding: tuple[int, ...]) -> Any:
    if len(padding) != 4:
        return padding
    return "{} left, {} right, {} above and {} below".format(*padding)


def _norm_settings(node: Node, say: Say, found: Findings) -> None:
    values, momentum = node.settings, node.settings.get("momentum")
    if values["type"] != "batch norm":
        say("norm-type", "other", mine=a(values["type"]))
        return
    anew = node.place.endswith(">") and node.names  # made in forward, which is said
    if not anew and (values["training"] or not values["running"]):
        what, words = statistics_words(node, "batch")
        say("norm-statistics", what, **words)
    if not values["affine"]:
        say("norm-affine", "batch norm has no learned scale and shift.")
    if values["eps"] >= LARGE_EPS:
        say("norm-eps", "large", eps=f"{values['eps']:g}")
    elif values["eps"] != 1e-5:
        keras = ", Keras's default" if values["eps"] == 1e-3 else ""
        found.note(f"batch norm's eps is {values['eps']:g}{keras}; PyTorch's is 1e-05.")
    if values.get("cumulative"):
        found.note(
            "batch norm's running statistics are the plain average of all batches "
            "(momentum=None); PyTorch's usual momentum is 0.1."
        )
    if momentum not in (None, 0.1) and values["running"]:
        if momentum == 0:
            say("norm-momentum", "still")
        elif momentum > 0.5:
            say("norm-momentum", "last batch", momentum=f"{momentum:g}")
        else:
            found.note(f"batch norm's momentum is {momentum:g}; PyTorch's usual one is 0.1.")


def statistics_words(node: Node, fault: str) -> tuple[str, dict[str, Any]]:
    """Sentence and words for a norm that takes the ``batch``'s statistics, or is ``frozen``.

    Who has put it into the wrong mode, or what it asks instead of its mode.
    """
    values = node.settings
    if mode := values.get("mode"):
        function, line = mode
        by = "forward" if function == "forward" else f"{function}(), which is overridden,"
        return f"{fault} by", {"by": by, "line": line}
    if "mode" in values or not (values.get("by_hand") or node.direct):
        return fault, {}
    line = values.get("computed at", node.location)
    asked = condition_of(line)
    if asked is None or "training" in asked[1]:
        return f"{fault} in code", {"line": line}
    return f"{fault} asks", {"line": asked[0], "test": asked[1]}


def _pool_settings(mine: Node, other: Node, say: Say) -> None:
    keys = ("kernel", "stride", "padding", "dilation", "ceil_mode")
    if mine.kind != other.kind:
        say("max-pool", "other", mine=a(mine.words), theirs=a(other.words))
        return
    sides = (mine.settings, other.settings)
    wrong = [key for key in keys if sides[0].get(key) != sides[1].get(key)]
    if _is_tensorflows(sides[0].get("padding", ())):
        say("padding", "tensorflow", line=sides[0].get("padded at"))
        wrong.remove("padding")
    if wrong:
        sides = (sides[0] | {"padding": _sides(sides[0].get("padding", ()))}, sides[1])
        words = [", ".join(f"{key} {by(side.get(key))}" for key in wrong) for side in sides]
        say("max-pool", "settings", mine=words[0], theirs=words[1])


def compare_stems(case: Case) -> Pairs:
    found, reference = case.found, case.reference.stem
    mine = _without_halving(_without_normalising(case.candidate.stem, found), found)
    row = lay_side_by_side(mine, reference)
    convs = [[n.settings for n in side if n.kind == "conv"] for side in (mine, reference)]
    shapes = [[(s["kernel"], s["stride"]) for s in side] for side in convs]
    widths = [[s["out"] for s in side] for side in convs]
    first = next((n for n in mine if n.kind == "conv"), None)
    place = first.label if first else "the start of forward"
    events = [e for e in find_events(row, "stem") if e.node.kind not in ("repeat", "cat")]
    equal = shapes[0] == shapes[1]
    if not equal:
        one, two = _stem_words(mine), _stem_words(reference)
        found.add("stem", "other", place, "conv1", node=first, mine=one, theirs=two)
        same_count = len(convs[0]) == len(convs[1])
        events = [e for e in events if e.node.kind in SWALLOWED and same_count]
    settled = [(x, y) for x, y in row if equal or (x and x.kind != "conv")]
    followers = {id(x): y.kind for x, y in pairwise(mine)}
    plain = [n for n in mine if equal or n.kind != "conv" or followers.get(id(n)) == "norm"]
    compare_settings(settled, plain, ("the stem", "conv1"), found, case.candidate.style)
    last = [side[-1:] for side in widths]
    inner = len(widths[0]) == len(widths[1]) > 1 and last[0] == last[1]
    judged = widths if equal else last
    if equal and inner and widths[0] != widths[1]:
        one, two = (", ".join(map(str, side)) for side in widths)
        own = [n for n in mine if n.kind == "conv"]
        node = next(n for n, w in zip(own, widths[1], strict=True) if n.settings["out"] != w)
        found.add("stem", "widths", node.label, "conv1", node=node, mine=one, theirs=two)
    elif judged[0] != [w * case.ratio for w in judged[1]]:
        compare_widths(row, (place, "conv1"), found, "the stem")
    for event in events:
        event.home, event.near = (place, "conv1"), first
        event.where = _slot(event, mine if event.extra else reference)
    case.tell(events)
    return row


def _slot(event: Event, row: list[Node]) -> str:
    """Where in the stem or the head."""
    before = row[: row.index(event.node)]
    if not before:
        return f"at the start of the {event.slot}"
    return f"in the {event.slot} after the {before[-1].words}"


def _without_normalising(stem: list[Node], found: Findings) -> list[Node]:
    """The stem without what is done to the image's values before it, which is reported."""
    lead = list(takewhile(lambda node: node.kind in _NORMALISING, stem))
    kinds = {node.kind for node in lead}
    if lead:
        what = "scaled" if kinds == {"scale"} else "fixed" if kinds <= {"scale", "shift"} else "own"
        found.add("normalised-input", what, lead[0].label or "the start of forward", node=lead[0])
    for node, follower in pairwise(stem):
        if (node.kind, follower.kind) == ("relu", "maxpool") and follower.index < node.index:
            found.note("The stem's ReLU stands after its max pool, which is the same function.")
    return stem[len(lead) :]


_NORMALISING = ("scale", "shift", "fork", "sub", "mul", "div", "linalg_vector_norm")
"""Of what a normalisation of the image is made; a fork: by statistics of its own."""


def _without_halving(stem: list[Node], found: Findings) -> list[Node]:
    """The stem with the stride of a filter or pool in the max pool before it, which is reported."""
    for before, node in pairwise(stem):
        if before.kind == "maxpool" and node.kind in ("blur", "avgpool"):
            found.add(
                "stride-by-pooling", "stem", node.label, "maxpool", node=node, mine=a(node.words)
            )
            before.settings["stride"] = shrinkage(node)
            return [n for n in stem if n is not node]
    return stem


def _stem_words(stem: list[Node]) -> str:
    words = []
    for node in stem:
        if node.kind in ("conv", "maxpool", "avgpool"):
            kernel, stride = node.settings.get("kernel"), node.settings.get("stride")
            size = f"{kernel[0]}x{kernel[1]}/{stride[0]}" if kernel and stride else "adaptive"
            words.append(f"a {size} {node.words}")
    if not any("max pool" in word for word in words):
        words.append("no max pool")
    return " and ".join(words)


def compare_heads(case: Case) -> Pairs:
    found, mine, reference = case.found, case.candidate.head, case.reference.head
    row = lay_side_by_side(mine, reference)
    events = find_events(row, "head")
    kinds = {node.kind for node in mine}
    classified = any(not e.extra and e.node.kind == "linear" for e in events)
    if classified and not kinds & {"linear", "conv"}:
        given = "features" if kinds & {"globalpool", "avgpool", "maxpool"} else "feature maps"
        found.add("no-classifier", "features", "the end of forward", "fc", given=given)
        events = [e for e in events if e.extra or e.node.kind not in ("linear", "globalpool")]
    pooling = list(takewhile(lambda node: node.kind != "linear", mine))
    if pooling and pooling[0].kind == "globalpool" and "pow" not in kinds:
        pooling = pooling[:1]
    several = sum(node.kind in POOLS for node in pooling) > 1
    corner = any(node.kind == "slice" and len(node.shape) in (2, 3) for node in pooling)
    if several or corner or any(node.kind in ODD_POOLS for node in pooling):
        words = " and ".join(dict.fromkeys(node.words for node in pooling))
        found.add("pooling", "odd", pooling[0].label, node=pooling[0], words=words)
        events = [e for e in events if e.node not in pooling and e.node.kind != "globalpool"]
        row = [(x, y) for x, y in row if x not in pooling]
    if any(e.extra and e.node.kind == "linear" for e in events):  # its activation goes with it
        events = [e for e in events if not e.extra or e.node.kind not in SWALLOWED]
    compare_settings(row, mine, ("the head", ""), found, "post")
    for event in events:
        event.home = ("the head", "" if event.extra else event.node.place)
        lost = [e.node for e in events if not e.extra]
        behind = [] if event.extra else reference[reference.index(event.node) + 1 :]
        left = [node for node in behind if node not in lost]
        event.where = _slot(event, mine if event.extra else reference)
        if left:
            event.where = f"before the {left[0].words} of the head"
    squashes = {"softmax", "Sigmoid"}
    squashed = [e for e in events if e.extra and squashes & {e.node.kind, e.node.words}]
    for node in (event.node for event in squashed):
        where = node.label or "the end of forward"
        found.add("softmax", "own", where, node=node, words=node.words)
    case.tell([event for event in events if event not in squashed])
    return row


def report_events(events: list[Event], found: Findings) -> None:
    """Say of each operation that it is too much or missing, or that it stands elsewhere."""
    for kinds in (("relu", "act"), ("norm",), ("maxpool",), ("globalpool",)):
        both = [[e for e in events if e.extra == x and e.node.kind in kinds] for x in (True, False)]
        gained, lost = both
        slots = [list(dict.fromkeys(event.where for event in side)) for side in both]
        if len(gained) != len(lost) or any(len(side) != 1 for side in slots):
            continue
        events = [event for event in events if event not in (*gained, *lost)]
        for one, two in zip(gained, lost, strict=True):
            places = (one.node.label or one.home[0], two.home[1] or two.node.place)
            words = {"words": a(one.node.words), "mine": slots[0][0], "theirs": slots[1][0]}
            early = one.node.kind == "globalpool" and slots[0][0] == "at the start of the head"
            what, line = ("pooled early", one.node.location) if early else ("moved", None)
            found.add("order", what, *places, node=one.node, line=line, **words)  # type: ignore[arg-type]
    for event in events:
        _report_event(event, found)


def _report_event(event: Event, found: Findings) -> None:
    node, words, home = event.node, event.node.words, event.home
    if node.kind == "outside":
        return  # its gradient is cut, which is said
    if event.extra:
        words = "sum of a tensor with itself" if adds_itself(node) else words
        label = f"extra-{NAMES.get(node.kind, 'operation')}"
        label = node.kind if node.kind == "extra-addition" else label
        text = f"there is {a(words)} {event.where} that the reference does not have."
        factor = node.kind in ("scale", "mul", "gate") and event.slot not in ("stem", "head")
        paper = None if factor or label != "extra-operation" else ""
        where, remedy = node.label or home[0], f"remove the {words}."
        found.add(label, text, where, home[1], remedy=remedy, paper=paper, node=node)
    else:
        label = f"missing-{NAMES.get(node.kind, 'layer')}"
        label = "pooling" if node.kind == "globalpool" else label
        text = f"there is no {words} {event.where}."
        remedy = f"the reference has {a(words)} there ({node.place})."
        found.add(label, text, *home, remedy=remedy, node=event.near)
