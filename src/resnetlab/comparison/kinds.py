"""Every kind of difference, once: what it is, how much it harms, what to do, where to read on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from resnetlab.comparison.operations import Node, line_words, source_line

PAGE = "docs/compare.md"
Harm = Literal["wrong", "fragile", "variant"]
HARMS: dict[str, str] = {
    "wrong": "makes it another network than it means to be",
    "fragile": "makes it slower, larger or fragile",
    "variant": "is a variant",
}
"""What each level means, worst first."""
P1 = "He et al. 2015 (arXiv:1512.03385)"
P2 = "He et al. 2016 (arXiv:1603.05027)"
BN = "Ioffe and Szegedy 2015 (arXiv:1502.03167)"


@dataclass(frozen=True)
class Kind:
    """One row of the table."""

    harm: Harm
    what: str
    """in one line"""
    remedy: str
    """what to do, as code where it is one line"""
    example: str
    """code that has it"""
    paper: str = ""
    """where the papers say how it is"""


def _table() -> dict[str, Kind]:
    wrong, fragile, variant = ("wrong",), ("fragile",), ("variant",)
    rows: dict[str, tuple[str, ...]] = {
        "not-a-resnet": (*wrong, "The network is none of the papers'; the nearest one is named.", "take it as it is, or name the reference that is meant with `to`.", "torchvision.models.densenet121()"),
        # It does not run
        "crash": (*wrong, "The forward pass ends with an error.", "make it run first; the place is the innermost module.", "self.layr1(x)"),
        "no-return": (*wrong, "`forward` returns nothing.", "end forward with `return x`.", "def forward(self, x): self.fc(x)"),
        "device": (*wrong, "The code asks for a device that this computer lacks.", "leave the device to the caller: model.to(device) and images.to(device).", "x = x.cuda()"),
        "not-called": (*wrong, "A module stands where its output should.", "call it: self.shortcut(x).", "out = self.branch(x) + self.shortcut"),
        "in-channels": (*wrong, "The network takes images of another number of channels.", "set `in_channels`.", "nn.Conv2d(1, 64, 7) given a colour image"),
        "channels": (*wrong, "A layer is made for another number of channels than it gets.", "give it the channels of the layer before it.", "nn.BatchNorm2d(64) after nn.Conv2d(3, 32, 3)"),
        "missing-projection": (*wrong, "The shortcut is an identity where the block changes the shape.", "nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)).", "out = self.branch(x) + x", f"{P1}, 3.2, equation 2"),
        "projection-shape": (*wrong, "Branch and shortcut end with different shapes.", "give the shortcut the channels and the stride of the branch.", "nn.Conv2d(64, 128, 1) beside a branch of stride 2", f"{P1}, 3.2, equation 2"),
        "missing-flatten": (*wrong, "The pooled map is not flattened before the classifier.", "x = torch.flatten(x, 1) before the classifier.", "self.fc(self.avgpool(x))"),
        "flatten-batch": (*wrong, "Flattening also takes away the batch.", "x = torch.flatten(x, 1): begin at axis 1, and the batch stays.", "torch.flatten(x)"),
        "head-shape": (*wrong, "The classifier is made for another number of features than it gets.", "give nn.Linear the channels of the last stage.", "nn.Linear(512, 10) behind 2048 channels"),
        "train-mode": (*wrong, "Training mode computes something else than evaluation, or crashes.", "both modes must compute the same but for batch norm's statistics.", "if self.training: x = x * 2"),
        # The function
        "missing-addition": (*wrong, "The block adds no shortcut.", "out = branch(x) + shortcut(x), then ReLU.", "return F.relu(self.branch(x))", f"{P1}, 3.2, equation 1"),
        "concatenation": (*wrong, "Branch and shortcut are concatenated, not added.", "add them: branch + shortcut; concatenation is DenseNet's.", "torch.cat([out, x], 1)", f"{P1}, 3.2, equation 1"),
        "merge": (*wrong, "Branch and shortcut are joined, but not added.", "add them: branch + shortcut.", "out * x", f"{P1}, 3.2, equation 1"),
        "shared-weights": (*wrong, "One module works in several places.", "make a new module for every place; [block] * n repeats one block.", "nn.Sequential(*[block] * 3)"),
        "unregistered": (*wrong, "Weights in use that the network does not know of: nothing trains, saves or moves them.", "keep layers in nn.ModuleList or nn.Sequential, weights in nn.Parameter, and make them in __init__.", "self.blocks = [Block(64), Block(64)]"),
        "buffer-weights": (*wrong, "The weights of a layer are buffers: no optimizer trains them.", "self.weight = nn.Parameter(weight).", 'self.register_buffer("weight", torch.randn(64, 3, 7, 7))'),
        "gradient-cut": (*wrong, "No gradient passes: what stands before it is not trained.", "take detach, .data or no_grad out of the forward pass.", "out = self.branch(x) + x.detach()", f"{P2}, 2, equation 5: the shortcut hands the gradient on unchanged"),
        "gradient": (*wrong, "With the same weights and outputs, the gradients differ.", "look for hooks, custom autograd functions and detached factors near the place.", "x.register_hook(lambda grad: grad * 0)"),
        "running-statistics": (*wrong, "After a training step batch norm's running statistics differ.", "let nn.BatchNorm2d move them, once for each batch.", "self.mean = 0.9 * batch_mean", BN),
        "norm-statistics": (*wrong, "Batch norm takes its statistics from the wrong place.", "pass training=self.training, and do not freeze it with .eval().", "nn.BatchNorm2d(64, track_running_stats=False)", f"{BN}, 3.1"),
        "norm-momentum": (*wrong, "Batch norm's momentum is near one: PyTorch's is the share of the new batch.", "momentum=0.1; 0.9 in other frameworks is 0.1 in PyTorch.", "nn.BatchNorm2d(64, momentum=0.9)"),
        "function": (*wrong, "Every layer is there, yet the outputs differ.", "look at what stands between the layers: reshapes, the order of a sum.", "x.transpose(2, 3)"),
        "softmax": (*wrong, "The network applies softmax or sigmoid itself.", "return the logits: cross entropy applies log_softmax itself.", "return F.softmax(self.fc(x), 1)"),
        "missing-relu": (*wrong, "A ReLU is missing.", "F.relu(x) there.", "return out + x", f"{P1}, figure 2"),
        "missing-norm": (*wrong, "A batch norm is missing.", "nn.BatchNorm2d(channels) there.", "self.conv2(F.relu(self.conv1(x)))", f"{P1}, 3.4: after each convolution and before activation"),
        "missing-layer": (*wrong, "A layer of the reference is missing.", "add it.", "a block with one convolution"),
        "extra-layer": (*wrong, "There is a layer that the reference does not have.", "remove it.", "a third 3x3 convolution in a basic block"),
        "relu-before-addition": (*wrong, "The branch ends with a ReLU before the addition, so it can only add.", "add first: F.relu(branch + shortcut).", "F.relu(self.bn2(self.conv2(x))) + x", f"{P1}, figure 2; {P2}, 4.1"),
        "norm-after-addition": (*wrong, "Batch norm stands after the addition, not at the end of the branch.", "normalise the branch, then add, then ReLU.", "self.bn2(self.conv2(out) + x)", f"{P2}, 4.1, figure 4b"),
        "order": (*wrong, "Convolution, batch norm and ReLU stand in another order.", "the order is convolution, batch norm, ReLU (2015), or batch norm, ReLU, convolution (2016).", "self.bn1(F.relu(self.conv1(x)))", f"{P1}, 3.4"),
        "shortcut-source": (*wrong, "The shortcut starts at the wrong point.", "keep the block's input (identity = x) before its first convolution.", "out = self.conv1(x); identity = out", f"{P1}, figure 2; {P2}, appendix"),
        "stride": (*wrong, "A block changes the resolution otherwise than the reference's.", "the first block of every stage but the first has stride 2, all others 1.", "Block(64, 128, stride=1) at the start of stage 2", f"{P1}, table 1"),
        "padding": (*wrong, "A layer pads otherwise than the reference's.", "pad with half the kernel, which keeps the map's size: padding=1 for 3x3.", "nn.Conv2d(64, 64, 3)"),
        "kernel": (*wrong, "A convolution has another kernel.", "take the reference's kernel.", "nn.Conv2d(64, 64, 5, padding=2)", f"{P1}, table 1"),
        "transposed": (*wrong, "A transposed convolution stands for a convolution.", "nn.Conv2d.", "nn.ConvTranspose2d(64, 64, 3)"),
        "width": (*wrong, "Layers have another number of channels.", "give them the reference's.", "widths 64, 128, 256, 256", f"{P1}, table 1"),
        "depth": (*wrong, "Stages have another number of blocks.", "build as many as the reference.", "depths [3, 4, 5, 3] for 50 layers", f"{P1}, table 1"),
        "block": (*wrong, "Basic blocks stand for bottlenecks, or the reverse.", "18 and 34 layers have basic blocks, 50 and more bottlenecks.", "ResNet(BasicBlock, [3, 8, 36, 3])", f"{P1}, table 1"),
        "missing-max-pool": (*wrong, "The stem's max pool is missing.", "nn.MaxPool2d(3, stride=2, padding=1).", "self.layer1(F.relu(self.bn1(self.conv1(x))))", f"{P1}, table 1"),
        "extra-max-pool": (*wrong, "There is a max pool that the reference does not have.", "remove it.", "nn.MaxPool2d(2) between stages"),
        "max-pool": (*wrong, "The stem's pool is another one.", "nn.MaxPool2d(3, stride=2, padding=1).", "nn.AvgPool2d(3, 2, 1)", f"{P1}, table 1"),
        "pooling": (*wrong, "The last pooling is not the average over the whole map.", "nn.AdaptiveAvgPool2d(1).", "nn.MaxPool2d(7)", f"{P1}, table 1: average pool"),
        "init": (*wrong, "Weights start far from every usual initialisation.", 'nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu").', "nn.init.normal_(conv.weight, 0, 1)", "He et al. 2015 (arXiv:1502.01852), 2.2"),
        "num-classes": (*wrong, "The classifier has another number of outputs.", "set `num_classes` if it is meant.", "nn.Linear(512, 1000) for ten classes"),
        "no-classifier": (*wrong, "The network ends without a classifier.", "nn.Linear(channels, classes) behind the pooling.", "return self.layer4(x)"),
        # Slower, larger, fragile
        "fixed-size": (*fragile, "The network is made for one image size.", "nn.AdaptiveAvgPool2d(1) before the classifier.", "nn.AvgPool2d(7) and nn.Linear(512 * 7 * 7, 10)", f"{P1}, 3.4: fully-convolutional testing at several scales"),
        "single-image": (*fragile, "One image alone fails.", "x.flatten(1): squeeze() also takes away a batch of one.", "x.squeeze()"),
        "output": (*fragile, "forward returns something else than logits (n, classes).", "return the logits alone.", "return x, features"),
        "auxiliary-output": (*fragile, "In training forward returns more than in evaluation.", "return the logits alone in both modes.", "return (x, aux) if self.training else x"),
        "unused-parameters": (*fragile, "Layers are registered that play no part in the output.", "remove these layers, or use them in forward.", "self.conv3 = nn.Conv2d(64, 64, 1)  # never called"),
        "bias-before-norm": (*fragile, "A bias stands in front of batch norm, which takes it away again.", "bias=False.", "nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64))", f"{BN}, 3.2"),
        "extra-bias": (*fragile, "A convolution has a bias that the reference's does not have.", "bias=False.", "nn.Conv2d(64, 64, 3, padding=1)"),
        "normalised-input": (*variant, "The image is normalised inside the network.", "normalise in the preprocessing, or leave it: it is no fault.", "x = (x - self.mean) / self.std"),
        "repeated-input": (*fragile, "The image's channels are repeated inside the network.", "nn.Conv2d(1, ...) as the first convolution, and the image as it is.", "self.net(x.expand(-1, 3, -1, -1))"),
        # Variants
        "stem": (*variant, "The stem is another one.", "take the reference's stem, or the reference of this stem.", "a 7x7 convolution of stride 2 for 32-pixel images", f"{P1}, table 1 and 4.2"),
        "needless-projection": (*variant, "The shortcut projects though the block keeps the shape.", "project only where channels or resolution change (option B; everywhere is option C).", "shortcut = nn.Conv2d(64, 64, 1)", f"{P1}, 4.1, table 3"),
        "shortcut-option": (*variant, "The shortcut is of another option.", "take the reference's option, or compare without `to`.", "zero padding (A) where the reference projects (B)", f"{P1}, 3.3 and 4.1"),
        "stride-placement": (*variant, "The stride is on another convolution of the block.", "bottlenecks: on the first 1x1 (v1, the paper) or on the 3x3 (v1.5, torchvision).", "nn.Conv2d(256, 128, 1, stride=2)", f"{P1}, table 1"),
        "stride-by-pooling": (*variant, "A pool or a fixed filter halves the resolution, not the convolution's stride.", "give the convolution stride 2 and remove the pool.", "nn.Sequential(conv, bn, relu, nn.AvgPool2d(2))"),
        "dilation": (*variant, "A convolution is dilated.", "dilation=1.", "nn.Conv2d(64, 64, 3, padding=2, dilation=2)"),
        "groups": (*variant, "A convolution has another number of groups.", "groups=1 (ResNeXt: 32).", "nn.Conv2d(64, 64, 3, groups=64)"),
        "norm-type": (*variant, "The normalisation is another one than batch norm.", "nn.BatchNorm2d(channels).", "nn.GroupNorm(32, 64)", f"{P1}, 3.4"),
        "norm-affine": (*variant, "Batch norm has no learned scale and shift.", "leave affine=True.", "nn.BatchNorm2d(64, affine=False)"),
        "activation": (*variant, "The activation is another one than ReLU.", "nn.ReLU().", "nn.LeakyReLU(0.1)", f"{P1}, 3.2"),
        "activation-order": (*variant, "The blocks have the order of the other paper.", "take the other kind of block, or the reference of the same order.", "bn, relu, conv against conv, bn, relu", f"{P1}, figure 2; {P2}, figure 1"),
        "dropout": (*variant, "The network draws random numbers.", "the papers' networks have no dropout; batch norm regularises.", "nn.Dropout(0.5)", f"{P1}, 3.4: we do not use dropout"),
        "extra-relu": (*variant, "There is an activation that the reference does not have.", "remove it.", "F.relu after an addition of 2016", f"{P2}, 4.1"),
        "extra-norm": (*variant, "There is a normalisation that the reference does not have.", "remove it.", "a batch norm at the end of a branch of 2016"),
        "extra-addition": (*variant, "There is an addition that the reference does not have.", "remove it.", "a shortcut around a whole stage"),
        "extra-operation": (*variant, "There is an operation that the reference does not have.", "remove it.", "0.5 * self.branch(x)", f"{P2}, 3: a factor on the shortcut or branch"),
        "head-bias": (*variant, "The classifier has no bias.", "keep its bias.", "nn.Linear(512, 10, bias=False)"),
    }  # fmt: skip
    return {name: Kind(*row) for name, row in rows.items()}  # type: ignore[arg-type]


KINDS: dict[str, Kind] = _table()  # fmt: skip
"""Name -> kind. The names are promised: graders depend on them."""


@dataclass(frozen=True)
class Line:
    """A line of the candidate's own code."""

    file: str
    line: int
    code: str

    def __str__(self) -> str:
        return line_words((self.file, self.line))


@dataclass(frozen=True)
class Difference:
    """One way in which the candidate differs from the reference."""

    kind: str
    """a name of ``KINDS``"""
    what: str
    """the difference in plain words"""
    remedy: str
    """what the reference does there, or what to change"""
    places: tuple[str, ...] = ()
    """where in the candidate, all of them"""
    reference: tuple[str, ...] = ()
    """the same places in the reference"""
    lines: tuple[Line, ...] = ()
    """the lines of the candidate's code behind the places"""

    @property
    def where(self) -> str:
        """The places in one line: three of them and the number of the others."""
        shown = ", ".join(self.places[:3]) or "the network"
        others = len(self.places) - 3
        return f"{shown} and {others} more" if others > 0 else shown

    @property
    def harm(self) -> Harm:
        return KINDS[self.kind].harm

    @property
    def paper(self) -> str:
        """Where the papers say how it is, '' if they do not."""
        return KINDS[self.kind].paper

    @property
    def page(self) -> str:
        return f"{PAGE}#{self.kind}"


@dataclass
class _Group:
    remedy: str
    places: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    lines: dict[tuple[str, int], None] = field(default_factory=dict)
    amount: int = 0


@dataclass
class Findings:
    """Collects differences; the same words at another place only add the place.

    In the words, ``{amount}`` becomes the sum of the amounts and ``{amount:word}`` the word, in the
    plural where it needs one.
    """

    found: dict[tuple[str, str], _Group] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    defined: dict[str, tuple[str, int]] = field(default_factory=dict)
    """module path -> the line that made the module"""

    def add(
        self,
        kind: str,
        what: str,
        where: str = "",
        reference: str = "",
        *,
        remedy: str = "",
        node: Node | None = None,
        line: tuple[str, int] | None = None,
        amount: int = 0,
    ) -> None:
        """``node``: the operation whose line of code is shown; ``remedy``: better than the table's."""
        group = self.found.setdefault((kind, what), _Group(remedy or KINDS[kind].remedy))
        group.amount += amount
        if where and where not in group.places:
            group.places.append(where)
        if reference and reference not in group.references:
            group.references.append(reference)
        if line is None and node is not None:
            line = node.location if node.direct else self.defined.get(node.place, node.location)
        if line is not None:
            group.lines[line] = None

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.found}

    def drop(self, kind: str) -> None:
        """Forget the findings of a kind, which another one explains."""
        self.found = {key: group for key, group in self.found.items() if key[0] != kind}

    def differences(self) -> tuple[Difference, ...]:
        """In the order of harm; within a level in the order of the network."""
        order = [*HARMS]
        rows = sorted(
            self.found.items(),
            key=lambda row: (row[0][0] != "not-a-resnet", order.index(KINDS[row[0][0]].harm)),
        )
        return tuple(
            Difference(
                kind,
                _fill(what, group.amount),
                group.remedy,
                tuple(group.places),
                tuple(group.references),
                tuple(Line(*line, source_line(line)) for line in group.lines),
            )
            for (kind, what), group in rows
        )


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"


def _fill(what: str, amount: int) -> str:
    what = what.replace("{amount}", f"{amount:,}")
    return re.sub(r"{amount:(\w+)}", lambda m: m[1] + "s" * (amount != 1), what)
