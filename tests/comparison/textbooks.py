"""Networks in the styles of textbooks and courses, most with one planted fault.

``TRUTH``: maker -> the kinds that are right, written down before ``compare`` was asked.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRUTH: dict[Callable[[], nn.Module], list[str]] = {}


def truth(*kinds: str):
    def note(maker):
        TRUTH[maker] = list(kinds)
        return maker

    return note


class Block(nn.Module):
    """The basic block with parts that the faulty ones replace."""

    def __init__(self, fan_in, fan_out, stride):
        super().__init__()
        self.c1 = self.conv(fan_in, fan_out, stride)
        self.b1 = nn.BatchNorm2d(fan_out)
        self.c2 = self.conv(fan_out, fan_out, 1)
        self.b2 = nn.BatchNorm2d(fan_out)
        self.down = self.shortcut(fan_in, fan_out, stride)

    def conv(self, fan_in, fan_out, stride):
        return nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)

    def shortcut(self, fan_in, fan_out, stride):
        if stride == 1 and fan_in == fan_out:
            return None
        return nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False), nn.BatchNorm2d(fan_out)
        )

    def branch(self, x):
        return self.b2(self.c2(F.relu(self.b1(self.c1(x)))))

    def skip(self, x):
        return x if self.down is None else self.down(x)

    def forward(self, x):
        return F.relu(self.branch(x) + self.skip(x))


class Net(nn.Module):
    """The CIFAR network of 20 layers with a list of blocks."""

    block: type[nn.Module] = Block
    widths = (16, 32, 64)
    blocks = 3

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, self.widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(self.widths[0])
        self.layers = nn.ModuleList()
        before = self.widths[0]
        for number, width in enumerate(self.widths):
            for i in range(self.blocks):
                stride = 2 if number and not i else 1
                self.layers.append(self.block(before, width, stride))
                before = width
        self.fc = nn.Linear(before, 10)

    def stem(self, x):
        return F.relu(self.norm(self.conv(x)))

    def body(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def pool(self, x):
        return x.mean(dim=[-1, -2])

    def forward(self, x):
        return self.fc(self.pool(self.body(self.stem(x))))


def net_of(part: type[nn.Module]) -> nn.Module:
    class Made(Net):
        block = part

    return Made()


@truth()
def correct():
    return Net()


@truth()
def answers_a_dict():
    class Answer(Net):
        def forward(self, x):
            features = self.pool(self.body(self.stem(x)))
            return {"features": features, "logits": self.fc(features)}

    return Answer()


@truth()
def answers_a_dataclass():
    @dataclass
    class Result:
        hidden: Tensor
        logits: Tensor

    class Answer(Net):
        def forward(self, x):
            features = self.pool(self.body(self.stem(x)))
            return Result(features, self.fc(features))

    return Answer()


@truth()
def answers_a_named_tuple():
    Result = namedtuple("Result", "embedding logits")

    class Answer(Net):
        def forward(self, x):
            features = self.pool(self.body(self.stem(x)))
            return Result(features, self.fc(features))

    return Answer()


@truth("auxiliary-output")
def helper_in_training():
    class Helped(Net):
        def __init__(self):
            super().__init__()
            self.helper = nn.Linear(32, 10)

        def forward(self, x):
            x = self.stem(x)
            for layer in self.layers[:6]:
                x = layer(x)
            middle = x
            for layer in self.layers[6:]:
                x = layer(x)
            logits = self.fc(self.pool(x))
            return (logits, self.helper(self.pool(middle))) if self.training else logits

    return Helped()


@truth()
def all_in_one_dictionary_of_parameters():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.running = nn.ParameterDict(), {}
            self.add("stem", 3, 16, 3)
            before = 16
            for s, width in enumerate((16, 32, 64)):
                for i in range(3):
                    self.add(f"s{s}i{i}a", before, width, 3)
                    self.add(f"s{s}i{i}b", width, width, 3)
                    if before != width:
                        self.add(f"s{s}i{i}p", before, width, 1)
                    before = width
            self.w["out"] = nn.Parameter(torch.randn(10, 64) * 0.1)
            self.w["bias"] = nn.Parameter(torch.zeros(10))

        def add(self, name, i, o, k):
            self.w[name] = nn.Parameter(torch.randn(o, i, k, k) * (2 / (o * k * k)) ** 0.5)
            self.w[name + "_g"] = nn.Parameter(torch.ones(o))
            self.w[name + "_b"] = nn.Parameter(torch.zeros(o))
            self.register_buffer(name + "_m", torch.zeros(o))
            self.register_buffer(name + "_v", torch.ones(o))

        def cb(self, x, name, stride=1):
            w = self.w[name]
            x = F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)
            mean, var = getattr(self, name + "_m"), getattr(self, name + "_v")
            g, b = self.w[name + "_g"], self.w[name + "_b"]
            return F.batch_norm(x, mean, var, g, b, self.training)

        def forward(self, x):
            x = torch.relu(self.cb(x, "stem"))
            for s in range(3):
                for i in range(3):
                    stride = 2 if s > 0 and i == 0 else 1
                    y = torch.relu(self.cb(x, f"s{s}i{i}a", stride))
                    y = self.cb(y, f"s{s}i{i}b")
                    if f"s{s}i{i}p" in self.w:
                        x = self.cb(x, f"s{s}i{i}p", stride)
                    x = torch.relu(x + y)
            x = x.flatten(2).mean(-1)
            return x @ self.w["out"].T + self.w["bias"]

    return Functional()


@truth("stride-placement")
def stride_on_the_second():
    class Late(Block):
        def __init__(self, i, o, stride):
            super().__init__(i, o, 1)
            self.c2 = self.conv(o, o, stride)
            self.down = self.shortcut(i, o, stride)

    return net_of(Late)


@truth("missing-relu")
def stem_without_relu():
    class Bare(Net):
        def stem(self, x):
            return self.norm(self.conv(x))

    return Bare()


@truth("relu-before-addition")
def relu_on_the_branch():
    class Early(Block):
        def forward(self, x):
            return F.relu(F.relu(self.branch(x)) + self.skip(x))

    return net_of(Early)


@truth("bias-before-norm")
def biased():
    class Biased(Block):
        def conv(self, i, o, stride):
            return nn.Conv2d(i, o, 3, stride=stride, padding=1)

    return net_of(Biased)


@truth("norm-momentum")
def momentum_of_another_framework():
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.9
    return net


@truth("missing-norm")
def projection_without_norm():
    class Raw(Block):
        def shortcut(self, i, o, stride):
            return None if i == o else nn.Conv2d(i, o, 1, stride, bias=False)

    return net_of(Raw)


@truth("dropout")
def dropped_maps():
    class Drop(Block):
        def branch(self, x):
            return F.dropout2d(super().branch(x), 0.1, self.training)

    return net_of(Drop)


@truth("padding")
def stem_without_padding():
    net = Net()
    net.conv.padding = (0, 0)
    return net


@truth("shared-weights")
def the_same_block_again():
    class Again(Net):
        def __init__(self):
            super().__init__()
            for i in (2, 5, 8):
                self.layers[i] = self.layers[i - 1]

    return Again()


@truth("gradient-cut")
def branch_of_data():
    class Cut(Block):
        def branch(self, x):
            return super().branch(x.data)

    return net_of(Cut)


@truth("gradient-cut")
def frozen_by_decorator():
    class Frozen(Net):
        @torch.no_grad()
        def stem(self, x):
            return super().stem(x)

    return Frozen()


@truth("gradient")
def half_the_gradient():
    class Half(Block):
        def branch(self, x):
            y = super().branch(x)
            if y.requires_grad:
                y.register_hook(lambda grad: grad * 0.5)
            return y

    return net_of(Half)


@truth("gradient")
def turned_gradient():
    class Turn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            return -grad

    class Turned(Net):
        def pool(self, x):
            return super().pool(Turn.apply(x))

    return Turned()


@truth("running-statistics")
def normalised_twice():
    class Twice(Net):
        def stem(self, x):
            self.norm(self.conv(x) * 3)
            return super().stem(x)

    return Twice()


@truth("norm-statistics")
def norm_never_trains():
    class Still(Block):
        def branch(self, x):
            b = self.b1
            y = F.batch_norm(self.c1(x), b.running_mean, b.running_var, b.weight, b.bias, False)
            return self.b2(self.c2(F.relu(y)))

    return net_of(Still)


@truth("activation")
def hyperbolic():
    class Tanh(Block):
        def branch(self, x):
            return self.b2(self.c2(torch.tanh(self.b1(self.c1(x)))))

    return net_of(Tanh)


@truth("pooling")
def pooled_by_maximum():
    class Max(Net):
        def pool(self, x):
            return F.adaptive_max_pool2d(x, 1).flatten(1)

    return Max()


@truth("softmax")
def log_softmax():
    class Log(Net):
        def forward(self, x):
            return F.log_softmax(super().forward(x), dim=-1)

    return Log()


@truth("softmax")
def sigmoid():
    class Sigmoid(Net):
        def forward(self, x):
            return torch.sigmoid(super().forward(x))

    return Sigmoid()


@truth("width")
def last_stage_narrow():
    class Narrow(Net):
        widths = (16, 32, 48)

    return Narrow()


@truth("depth")
def one_stage_more():
    class Four(Net):
        widths = (16, 32, 64, 128)

    return Four()


@truth("order")
def relu_before_norm():
    class Swapped(Block):
        def branch(self, x):
            return self.b2(self.c2(self.b1(F.relu(self.c1(x)))))

    return net_of(Swapped)


@truth("order")
def norm_before_convolution():
    class Ahead(Block):
        def __init__(self, i, o, stride):
            super().__init__(i, o, stride)
            self.b1 = nn.BatchNorm2d(i)

        def branch(self, x):
            return self.c2(self.b2(F.relu(self.c1(self.b1(x)))))

    return net_of(Ahead)


@truth()
def activated_twice():
    class Twice(Block):
        def forward(self, x):
            return F.relu(super().forward(x))

    return net_of(Twice)


@truth("shortcut-source")
def shortcut_from_the_first_convolution():
    class Late(Block):
        def forward(self, x):
            x = self.skip(x) if self.down is not None else x
            out = self.b1(self.c1(x)) if self.down is None else x
            return F.relu(self.b2(self.c2(F.relu(out))) + out)

        def __init__(self, i, o, stride):
            super().__init__(i, o, stride)
            self.down = nn.Sequential(self.c1, self.b1) if self.down is not None else None

    return net_of(Late)


class Unfolded(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.weight, self.stride = nn.Parameter(torch.randn(o, i * 9) * (2 / o / 9) ** 0.5), stride

    def forward(self, x):
        n, _, h, w = x.shape
        patches = F.unfold(x, 3, padding=1, stride=self.stride)
        return (self.weight @ patches).view(n, -1, -(-h // self.stride), -(-w // self.stride))


@truth()
def convolution_of_patches():
    class Patches(Block):
        def conv(self, i, o, stride):
            return Unfolded(i, o, stride)

    return net_of(Patches)


class Strided(nn.Module):
    """A convolution of windows and a sum over them, as courses ask for it."""

    def __init__(self, i, o, stride):
        super().__init__()
        self.weight, self.stride = (
            nn.Parameter(torch.randn(o, i, 3, 3) * (2 / o / 9) ** 0.5),
            stride,
        )

    def forward(self, x):
        padded = x.new_zeros(x.shape[0], x.shape[1], x.shape[2] + 2, x.shape[3] + 2)
        padded[..., 1:-1, 1:-1] = x
        n, c, h, w = padded.shape
        rows, columns = (h - 3) // self.stride + 1, (w - 3) // self.stride + 1
        a, b, y, z = padded.stride()
        windows = padded.as_strided(
            (n, c, rows, columns, 3, 3), (a, b, y * self.stride, z * self.stride, y, z)
        )
        return torch.einsum("ncrskl,ockl->nors", windows, self.weight)


class Rectifier(nn.Module):
    def forward(self, x):
        return torch.maximum(x, torch.tensor(0.0))


class OwnNorm(nn.Module):
    """Statistics as plain tensors, moved in the function, as a textbook has it."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.moving_mean = torch.zeros(1, channels, 1, 1)
        self.moving_var = torch.ones(1, channels, 1, 1)

    def forward(self, x):
        if not self.training:
            hat = (x - self.moving_mean) / torch.sqrt(self.moving_var + 1e-5)
        else:
            mean = x.mean(dim=(0, 2, 3), keepdim=True)
            var = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
            hat = (x - mean) / torch.sqrt(var + 1e-5)
            self.moving_mean = 0.9 * self.moving_mean + 0.1 * mean.detach()
            self.moving_var = 0.9 * self.moving_var + 0.1 * var.detach()
        return self.gamma * hat + self.beta


@truth()
def every_layer_by_hand():
    class ByHand(Block):
        def __init__(self, i, o, stride):
            super().__init__(i, o, stride)
            self.b1, self.b2, self.act = OwnNorm(o), OwnNorm(o), Rectifier()

        def conv(self, i, o, stride):
            return Strided(i, o, stride)

        def forward(self, x):
            y = self.b2(self.c2(self.act(self.b1(self.c1(x)))))
            return self.act(y + self.skip(x))

    return net_of(ByHand)


@truth("running-statistics")
def own_norm_forgets_its_statistics():
    class Forgetful(OwnNorm):
        def forward(self, x):
            mean, var = self.moving_mean, self.moving_var
            out = super().forward(x)
            self.moving_mean, self.moving_var = mean, var
            return out

    net = Net()
    net.norm = Forgetful(16)
    return net


@truth("fixed-size")
def flattened_maps():
    class Flat(Net):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(64 * 8 * 8, 10)

        def pool(self, x):
            return x.view(x.size(0), -1)

    return Flat()


@truth("extra-operation")
def scaled_layers():
    class Scaled(Block):
        def __init__(self, i, o, stride):
            super().__init__(i, o, stride)
            self.scale = nn.Parameter(torch.full((o, 1, 1), 0.1))

        def branch(self, x):
            return self.scale * super().branch(x)

    return net_of(Scaled)


@truth("missing-layer")
def one_convolution():
    class Single(Block):
        def __init__(self, i, o, stride):
            super().__init__(i, o, stride)
            del self.c2, self.b2

        def branch(self, x):
            return self.b1(self.c1(x))

    return net_of(Single)


@truth("extra-addition")
def shortcut_around_the_stage():
    class Around(Net):
        def body(self, x):
            for i in range(0, 9, 3):
                x = self.layers[i](x)
                x = self.layers[i + 2](self.layers[i + 1](x)) + x
            return x

    return Around()


@truth("shortcut-option", "bias-before-norm")
def two_faults_in_the_shortcut():
    class Wide(Block):
        def shortcut(self, i, o, stride):
            if i == o:
                return None
            return (
                nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(i, o, 1), nn.BatchNorm2d(o))
                if i == 16
                else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
            )

    return net_of(Wide)


@truth("missing-relu", "missing-norm")
def block_without_norm_and_relu():
    class Bare(Block):
        def __init__(self, i, o, stride):
            super().__init__(i, o, stride)
            del self.b1

        def branch(self, x):
            return self.b2(self.c2(self.c1(x)))

    return net_of(Bare)


@truth("stem", "width")
def stem_of_another_kernel_and_width():
    net = Net()
    net.conv, net.norm = nn.Conv2d(3, 24, 5, padding=2, bias=False), nn.BatchNorm2d(24)
    net.layers[0] = Block(24, 16, 1)
    return net


@truth()
def norm_in_a_function():
    class Function(Block):
        def norm(self, x, norm):
            if self.training:
                mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
                with torch.no_grad():
                    norm.running_mean.mul_(0.9).add_(0.1 * mean)
                    norm.running_var.mul_(0.9).add_(0.1 * var)
            else:
                mean, var = norm.running_mean, norm.running_var
            hat = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
            return hat * norm.weight[:, None, None] + norm.bias[:, None, None]

        def branch(self, x):
            return self.norm(self.c2(F.relu(self.norm(self.c1(x), self.b1))), self.b2)

    return net_of(Function)


@truth("order")
def norm_before_the_projection():
    class Ahead(Block):
        def shortcut(self, i, o, stride):
            if i == o:
                return None
            return nn.Sequential(nn.BatchNorm2d(i), nn.Conv2d(i, o, 1, stride, bias=False))

    return net_of(Ahead)


@truth("padding")
def padded_in_a_circle():
    class Circle(Block):
        def conv(self, i, o, stride):
            return nn.Conv2d(i, o, 3, stride, 1, bias=False, padding_mode="circular")

    return net_of(Circle)


@truth("pooling")
def pooled_twice():
    class Both(Net):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(128, 10)

        def pool(self, x):
            return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)

    return Both()


@truth("discarded-output")
def result_forgotten():
    class Forgot(Net):
        def body(self, x):
            for i, layer in enumerate(self.layers):
                if i == 7:
                    layer(x)
                else:
                    x = layer(x)
            return x

    return Forgot()


@truth("missing-projection")
def projection_forgotten():
    class Forgot(Block):
        def forward(self, x):
            out = self.branch(x)
            if self.down is not None:
                self.down(x)
            return F.relu(out + x)

    return net_of(Forgot)


@truth("missing-addition", "extra-operation", "unused-parameters")
def input_overwritten():
    class Overwritten(Block):
        def forward(self, x):
            x = self.branch(x)
            return F.relu(x + x)

    return net_of(Overwritten)


@truth("norm-momentum")
def own_norm_with_momentum_the_other_way_round():
    class Swapped(OwnNorm):
        def forward(self, x):
            mean, var = self.moving_mean, self.moving_var
            out = super().forward(x)
            if self.training:
                self.moving_mean = mean + 9 * (self.moving_mean - mean)
                self.moving_var = var + 9 * (self.moving_var - var)
            return out

    net = Net()
    net.norm = Swapped(16)
    return net


@truth("running-statistics")
def own_norm_with_a_wrong_mean():
    class Wrong(OwnNorm):
        def forward(self, x):
            mean = self.moving_mean
            out = super().forward(x)
            if self.training:
                self.moving_mean = 0.9 * mean + 0.1 * x.detach().amax((0, 2, 3), keepdim=True)
            return out

    net = Net()
    net.norm = Wrong(16)
    return net


@truth("norm-after-addition")
def norm_of_the_sum():
    class Late(Block):
        def forward(self, x):
            y = self.c2(F.relu(self.b1(self.c1(x))))
            return F.relu(self.b2(y + self.skip(x)))

    return net_of(Late)


@truth("kernel")
def five_by_five():
    class Five(Block):
        def conv(self, i, o, stride):
            return nn.Conv2d(i, o, 5, stride, 2, bias=False)

    return net_of(Five)
