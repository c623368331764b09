"""Networks that readers tried whom nobody had told how `compare` works, and what is right of each.

They join the table of ``textbooks.py``.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from textbooks import Block, Net, net_of, truth
from torch import nn
from torch.utils.checkpoint import checkpoint

from resnetlab.models.resnet import create_model


class OwnNorm(nn.Module):
    """Batch norm of a course; ``moved`` says what its running variance becomes."""

    def __init__(self, channels):
        super().__init__()
        shape = (1, channels, 1, 1)
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("var", torch.ones(shape))

    def moved(self, old, var, count):
        return 0.9 * old + 0.1 * var * count / (count - 1)

    def forward(self, x):
        mean, var = self.mean, self.var
        if self.training:
            mean = x.mean((0, 2, 3), keepdim=True)
            var = x.var((0, 2, 3), unbiased=False, keepdim=True)
            with torch.no_grad():  # other tensors take the place of the buffers
                self.mean = 0.9 * self.mean + 0.1 * mean
                self.var = self.moved(self.var, var, x.numel() / x.shape[1])
        return self.gamma * (x - mean) / torch.sqrt(var + 1e-5) + self.beta


def with_norms(norm: type[nn.Module]) -> nn.Module:
    class Own(Block):
        def __init__(self, fan_in, fan_out, stride):
            super().__init__(fan_in, fan_out, stride)
            self.b1, self.b2 = norm(fan_out), norm(fan_out)

    return net_of(Own)


@truth()
def norm_that_replaces_its_buffers():
    return with_norms(OwnNorm)


@truth()
def norm_of_d2l_keeps_the_biased_variance():
    class Biased(OwnNorm):
        def moved(self, old, var, count):
            return 0.9 * old + 0.1 * var

    return with_norms(Biased)


@truth("norm-momentum")
def norm_of_d2l_with_the_momentum_of_torch():
    class Hasty(OwnNorm):
        def forward(self, x):
            before = self.mean
            out = super().forward(x)
            if self.training:
                self.mean = before + 9 * (self.mean - before)
            return out

        def moved(self, old, var, count):
            return 0.1 * old + 0.9 * var

    return with_norms(Hasty)


@truth("running-statistics")
def variance_forgotten():
    class Still(OwnNorm):
        def moved(self, old, var, count):
            return old

    return with_norms(Still)


@truth("running-statistics")
def variance_is_the_deviation():
    class Root(OwnNorm):
        def moved(self, old, var, count):
            return 0.9 * old + 0.1 * var.sqrt()

    return with_norms(Root)


@truth()
def padding_in_words():
    class Words(Block):
        def shortcut(self, fan_in, fan_out, stride):
            shortcut = super().shortcut(fan_in, fan_out, stride)
            if shortcut is not None:
                shortcut[0] = nn.Conv2d(
                    fan_in, fan_out, 1, stride=stride, padding="valid", bias=False
                )
            return shortcut

        def conv(self, fan_in, fan_out, stride):
            if stride > 1:
                return super().conv(fan_in, fan_out, stride)
            return nn.Conv2d(fan_in, fan_out, 3, padding="same", bias=False)

    return net_of(Words)


@truth("shortcut-source")
def shortcut_set_before_the_loop():
    class Loop(Net):
        def body(self, x):
            for start in range(0, 9, 3):
                skip = self.layers[start].skip(x)
                for layer in self.layers[start : start + 3]:
                    x = F.relu(layer.branch(x) + skip)
            return x

    return Loop()


@truth("gradient-cut")
def pooled_in_numpy():
    class Away(Net):
        def pool(self, x):
            return torch.from_numpy(x.detach().numpy().mean((2, 3)))

    return Away()


@truth("pooling")
def power_pooling_in_the_head():
    net = create_model("resnet20")
    net.avgpool = nn.LPPool2d(2, 8)
    return net


@truth("max-pool")
def power_pooling_in_the_stem():
    net = create_model("resnet18")
    net.maxpool = nn.LPPool2d(2, 2)
    return net


@truth("running-statistics")
def checkpointed():
    class Saved(Block):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    return net_of(Saved)


@truth("init")
def shortcut_and_branch_start_at_zero():
    net = Net()
    for i in (3, 6):
        nn.init.zeros_(net.layers[i].b2.weight)
        nn.init.zeros_(net.layers[i].down[-1].weight)
    return net


@truth()
def branches_start_at_zero():
    net = create_model("resnet20")
    for block in (*net.layer1, *net.layer2, *net.layer3):
        nn.init.zeros_(block.bn2.weight)
    return net


@truth("shortcut-source")
def shortcut_of_the_last_stage_set_before_the_loop():
    class Late(Net):
        def body(self, x):
            for layer in self.layers[:7]:
                x = layer(x)
            skip = x
            for layer in self.layers[7:]:
                x = F.relu(layer.branch(x) + skip)
            return x

    return Late()


@truth()
def padded_layer_that_pads_nothing_in_words():
    class Zeros(Block):
        def conv(self, fan_in, fan_out, stride):
            conv = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding="valid", bias=False)
            return nn.Sequential(nn.ZeroPad2d(1), conv)

    return net_of(Zeros)


@truth("dropout-in-evaluation")
def dropout_that_never_ends():
    class Drop(Net):
        def pool(self, x):
            return super().pool(F.dropout(x, 0.3))

    return Drop()


@truth("gradient")
def scaled_in_place():
    class Scaled(Block):
        def branch(self, x):
            a = F.relu(self.b1(self.c1(x)))
            out = self.b2(self.c2(a))
            a.mul_(1.0)
            return out

    return net_of(Scaled)


def with_new_channels(fill) -> nn.Module:
    """Option A, whose zeros ``fill`` replaces."""

    class Filled(Block):
        def shortcut(self, fan_in, fan_out, stride):
            return fill if fan_in != fan_out else None

        def skip(self, x):
            return x if self.down is None else self.down(x[:, :, ::2, ::2])

    return net_of(Filled)


@truth()
def zeros_joined_to_the_input():
    return with_new_channels(lambda x: torch.cat([x, torch.zeros_like(x)], 1))


@truth("shortcut-channels")
def input_joined_to_itself():
    return with_new_channels(lambda x: torch.cat([x, x], 1))


@truth("shortcut-channels")
def input_repeated():
    return with_new_channels(lambda x: x.repeat(1, 2, 1, 1))


@truth("shortcut-channels")
def every_channel_twice():
    return with_new_channels(lambda x: x.repeat_interleave(2, 1))


@truth("shortcut-channels")
def padded_with_ones():
    return with_new_channels(lambda x: F.pad(x, (0, 0, 0, 0, 0, x.shape[1]), value=1.0))


@truth("precision")
def cast_between_two_stages():
    class Cast(Net):
        def body(self, x):
            for i, layer in enumerate(self.layers):
                x = layer(x.bfloat16().float() if i == 6 else x)
            return x

    return Cast()


@truth("precision")
def convolved_in_half_precision():
    class Half(Block):
        def branch(self, x):
            x = F.conv2d(x.half(), self.c1.weight.half(), None, self.c1.stride, 1)
            return self.b2(self.c2(F.relu(self.b1(x.float()))))

    return net_of(Half)


@truth()
def cast_to_be_logged():
    class Logged(Block):
        def forward(self, x):
            self.seen = x.detach().half().mean()
            return super().forward(x)

    return net_of(Logged)


@truth("gradient")
def added_into_the_input():
    class Added(Block):
        def forward(self, x):
            out, identity = self.branch(x), self.skip(x)
            identity += out  # which is x itself in most blocks
            return F.relu(identity)

    return net_of(Added)


@truth("output", "extra-operation")
def classes_for_logits():
    class Chosen(Net):
        def forward(self, x):
            return super().forward(x).argmax(1)

    return Chosen()


@truth("function")
def other_without_gradients():
    class Quiet(Net):
        def body(self, x):
            x = super().body(x)
            return x if torch.is_grad_enabled() else 0.9 * x

    return Quiet()


class Before(Net):
    """A network that does something to the image before its stem."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return super().forward(self.change(x))


@truth("batch-dependence")
def standardised_over_the_batch():
    return Before(lambda x: (x - x.mean(0, keepdim=True)) / (x.std(0, keepdim=True) + 1e-5))


@truth("batch-dependence")
def divided_by_the_largest_of_the_batch():
    return Before(lambda x: x / x.abs().max())


@truth("batch-dependence")
def features_centred_over_the_batch():
    class Centred(Net):
        def pool(self, x):
            x = super().pool(x)
            return x - 0.5 * x.mean(0)

    return Centred()


@truth("normalised-input")
def standardised_for_itself():
    axes = (1, 2, 3)
    return Before(lambda x: (x - x.mean(axes, keepdim=True)) / (x.std(axes, keepdim=True) + 1e-5))


@truth("normalised-input")
def divided_by_255():
    return Before(lambda x: x / 255.0)


@truth("activation")
def clamped_at_six():
    class Six(Block):
        def forward(self, x):
            return (self.branch(x) + self.skip(x)).clamp(0, 6)

    return net_of(Six)


@truth("activation")
def clamped_at_six_in_two_steps():
    class Six(Block):
        def forward(self, x):
            return super().forward(x).clamp(max=6)

    return net_of(Six)


@truth("order")
def pooled_before_the_last_relu():
    class Late(Net):
        def body(self, x):
            for layer in self.layers[:-1]:
                x = layer(x)
            return self.layers[-1].branch(x) + x

        def pool(self, x):
            return F.relu(super().pool(x))

    return Late()


@truth("stride")
def halved_one_stage_too_early():
    net = Net()
    for i, stride in ((0, 2), (3, 1)):
        fan_in, fan_out = ((16, 16), (16, 32))[i > 0]
        net.layers[i] = Block(fan_in, fan_out, stride)
    return net


@truth("gradient-cut")
def shortcut_by_way_of_numpy():
    class Away(Block):
        def skip(self, x):
            return torch.from_numpy(super().skip(x).detach().numpy())

    return net_of(Away)


@truth("gradient-cut")
def doubled_in_numpy():
    class Away(Net):
        def body(self, x):
            x = super().body(x)
            return torch.tensor((2 * x.detach().numpy()).tolist())

    return Away()


@truth("pooling")
def pooled_over_a_reshaped_map():
    class Mixed(Net):
        def pool(self, x):
            n, c, h, w = x.shape
            return x.view(n, h * w, c).mean(1)

    return Mixed()


@truth()
def pooled_over_a_turned_map():
    class Turned(Net):
        def pool(self, x):
            return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)

    return Turned()


@truth("function")
def map_reshaped_between_two_stages():
    class Mixed(Net):
        def body(self, x):
            for i, layer in enumerate(self.layers):
                x = layer(x)
                if i == 5:
                    n, c, h, w = x.shape
                    x = x.view(n, h * w, c).transpose(1, 2).reshape(n, c, h, w)
            return x

    return Mixed()


@truth("shared-weights")
def one_norm_for_both_convolutions():
    class One(Block):
        def branch(self, x):
            return self.b1(self.c2(F.relu(self.b1(self.c1(x)))))

        def __init__(self, fan_in, fan_out, stride):
            super().__init__(fan_in, fan_out, stride)
            del self.b2

    return net_of(One)


@truth("shared-weights")
def a_block_many_times():
    class Repeated(Net):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(*self.stage(16, 16, 1), *self.stage(16, 32, 2))
            self.layers.extend(self.stage(32, 64, 2))

        def stage(self, fan_in, fan_out, stride):
            rest = [Block(fan_out, fan_out, 1)] * 2
            return [Block(fan_in, fan_out, stride), *rest]

    return Repeated()


def conv_and_norm(fan_in, fan_out, stride=1):
    made = [nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=fan_in == 32), nn.BatchNorm2d(fan_out)]
    return nn.Sequential(*made)


@truth("bias-before-norm")
def biased_by_a_helper():
    class Helped(Block):
        def __init__(self, fan_in, fan_out, stride):
            super().__init__(fan_in, fan_out, stride)
            self.c1, self.b1 = conv_and_norm(fan_in, fan_out, stride), nn.Identity()

    return net_of(Helped)


@truth("stride")
def one_stage_forgets_to_halve():
    class Stages(Net):
        def __init__(self):
            super().__init__()
            one = self.stage(16, 16, 1)
            two = self.stage(16, 32, 1)
            three = self.stage(32, 64, 2)
            self.layers = nn.Sequential(*one, *two, *three)

        def stage(self, fan_in, fan_out, stride):
            return [Block(fan_in, fan_out, stride)] + [Block(fan_out, fan_out, 1) for _ in "ab"]

    return Stages()


@truth("norm-eps")
def eps_and_momentum_confused():
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.1
    return net


@truth("norm-momentum")
def statistics_that_never_move():
    net = Net()
    net.norm.momentum = 0.0
    return net


@truth("shared-weights")
def convolutions_that_share_a_weight():
    net = Net()
    net.layers[1].c2.weight = net.layers[1].c1.weight
    return net


@truth("extra-operation")
def colours_in_another_order():
    return Before(lambda x: x[:, [2, 1, 0]])


@truth("dropout-in-evaluation")
def branches_dropped_in_evaluation():
    class Drop(Block):
        def branch(self, x):
            kept = (torch.rand(len(x), 1, 1, 1) > 0.2).float()
            return super().branch(x) * kept / 0.8

    return net_of(Drop)


@truth("pooling")
def pooled_in_two_ways():
    class Two(Net):
        def pool(self, x):
            return x.mean(2).amax(2)

    return Two()


@truth("pooling")
def pooled_over_the_channels():
    class Over(Net):
        def pool(self, x):
            return x.mean(1).flatten(1)

    return Over()


class Paths(nn.Module):
    """A ResNeXt block as figure 3a of its paper draws it."""

    def __init__(self, fan_in, fan_out, stride, paths=32):
        super().__init__()
        width = fan_out // 64
        self.paths = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(fan_in, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, fan_out, 1, bias=False),
            )
            for _ in range(paths)
        )
        self.norm = nn.BatchNorm2d(fan_out)
        self.down = Block.shortcut(self, fan_in, fan_out, stride)  # type: ignore[arg-type]

    def forward(self, x):
        y = self.norm(sum(path(x) for path in self.paths))
        return F.relu(y + (x if self.down is None else self.down(x)))


class SeparatePaths(nn.Module):
    """A ResNeXt of one block a stage."""

    def __init__(self, paths=32):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64))
        self.pool, self.blocks = nn.MaxPool2d(3, 2, 1), nn.Sequential()
        before = 64
        for stage in range(2):
            after = 256 << stage
            self.blocks.append(Paths(before, after, 2 if stage else 1, paths))
            before = after
        self.fc = nn.Linear(before, 10)

    def forward(self, x):
        return self.fc(self.blocks(self.pool(F.relu(self.stem(x)))).mean((2, 3)))


@truth("norm-after-addition")
def norm_of_the_sum_with_padded_shortcuts():
    class Late(Block):
        def shortcut(self, i, o, stride):
            self.stride, self.more = stride, o - i

        def forward(self, x):
            y = self.c2(F.relu(self.b1(self.c1(x))))
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
            return F.relu(self.b2(y + x))

    return net_of(Late)


@truth("discarded-output")
def only_the_last_block_of_a_stage_is_handed_on():
    class Lost(Net):
        def body(self, x):
            for start in (0, 3, 6):
                x = self.layers[start](x)
                for layer in self.layers[start + 1 : start + 3]:
                    out = layer(x)
                x = out
            return x

    return Lost()


@truth("discarded-output")
def norm_whose_result_is_forgotten():
    class Forgets(Net):
        def __init__(self):
            super().__init__()
            self.late = nn.BatchNorm2d(64)

        def pool(self, x):
            self.late(x)
            return super().pool(x)

    return Forgets()


@truth("depth")
def depths_in_another_order():
    class Swapped(Net):
        depths = (2, 4, 3)

        def __init__(self):
            super().__init__()
            makers = zip((16, 16, 32), self.widths, self.depths, strict=True)
            self.layers = nn.ModuleList(
                self.block(out if i else fan_in, out, 1 if i or out == fan_in else 2)
                for fan_in, out, depth in makers
                for i in range(depth)
            )

    return Swapped()


@truth("init")
def every_norm_starts_at_zero():
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(0)
            nn.init.zeros_(module.bias)
    return net


@truth("norm-statistics")
def norm_of_d2l_asks_for_gradients():
    class Curious(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.g, self.b = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("var", torch.ones(channels))

        def forward(self, x):
            mean, var = self.mean[:, None, None], self.var[:, None, None]
            if torch.is_grad_enabled():
                mean = x.mean((0, 2, 3), keepdim=True)
                var = x.var((0, 2, 3), unbiased=False, keepdim=True)
                self.mean = 0.9 * self.mean + 0.1 * mean.detach().flatten()
                self.var = 0.9 * self.var + 0.1 * var.detach().flatten()
            hat = (x - mean) / torch.sqrt(var + 1e-5)
            return self.g[:, None, None] * hat + self.b[:, None, None]

    return with_norms(Curious)


@truth("norm-statistics")
def norm_asks_for_a_flag_of_its_own():
    class Flagged(nn.BatchNorm2d):
        learning = True

        def forward(self, x):
            if self.learning:
                return F.batch_norm(
                    x, self.running_mean, self.running_var, self.weight, self.bias, True
                )
            return super().forward(x)

    return with_norms(Flagged)


@truth("function")
def other_in_inference_mode():
    class Quiet(Net):
        def body(self, x):
            x = super().body(x)
            return 0.9 * x if torch.is_inference_mode_enabled() else x

    return Quiet()


@truth("function")
def other_in_training_without_gradients():
    class Quiet(Net):
        def body(self, x):
            x = super().body(x)
            if self.training and not torch.is_grad_enabled():
                x = 0.9 * x
            return x

    return Quiet()


@truth("norm-statistics")
def train_is_overridden_and_freezes_norms():
    class Frozen(Net):
        def train(self, mode=True):
            super().train(mode)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
            return self

    return Frozen()


@truth("norm-statistics")
def eval_is_overridden_and_does_nothing():
    class Awake(Net):
        def eval(self):
            return self

    return Awake()


@truth("norm-statistics")
def forward_freezes_norms():
    class Frozen(Block):
        def branch(self, x):
            self.b2.eval()
            return super().branch(x)

    return net_of(Frozen)


@truth("frozen-parameters")
def first_stage_is_frozen():
    net = Net()
    for layer in net.layers[:3]:
        layer.requires_grad_(False)
    return net


@truth("dropout-in-evaluation")
def dropout_made_in_forward():
    class Fresh(Net):
        def pool(self, x):
            return nn.Dropout(0.2)(super().pool(x))

    return Fresh()


@truth("unregistered")
def convolution_made_in_forward():
    class Fresh(Block):
        def branch(self, x):
            x = F.relu(self.b1(self.c1(x)))
            conv = nn.Conv2d(x.shape[1], x.shape[1], 3, padding=1, bias=False)
            return self.b2(conv(x))

        def __init__(self, fan_in, fan_out, stride):
            super().__init__(fan_in, fan_out, stride)
            del self.c2

    return net_of(Fresh)


@truth("unregistered")
def norm_made_in_forward():
    class Fresh(Net):
        def __init__(self):
            super().__init__()
            del self.norm

        def stem(self, x):
            return F.relu(nn.BatchNorm2d(16)(self.conv(x)))

    return Fresh()


@truth()
def relu_and_pool_made_in_forward():
    class Fresh(Net):
        def stem(self, x):
            return nn.ReLU()(self.norm(self.conv(x)))

        def pool(self, x):
            return nn.Flatten()(nn.AdaptiveAvgPool2d(1)(x))

    return Fresh()


class Stage(nn.Module):
    """Three blocks; ``run`` says how."""

    def __init__(self, fan_in, fan_out, stride):
        super().__init__()
        rest = [Block(fan_out, fan_out, 1) for _ in range(2)]
        self.blocks = nn.ModuleList([Block(fan_in, fan_out, stride), *rest])


class Staged(Net):
    stage: type[nn.Module] = Stage

    def __init__(self):
        super().__init__()
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        self.layers = nn.ModuleList(self.stage(*each) for each in widths)


def staged(part: type[nn.Module]) -> nn.Module:
    class Made(Staged):
        stage = part

    return Made()


@truth("left-out")
def returns_inside_the_loop():
    class Hasty(Stage):
        def forward(self, x):  # noqa: RET503
            for block in self.blocks:
                x = block(x)
                return x

    return staged(Hasty)


@truth("left-out")
def breaks_the_loop():
    class Broken(Stage):
        def forward(self, x):
            for i, block in enumerate(self.blocks):
                x = block(x)
                if i == 1:
                    break
            return x

    return staged(Broken)


@truth("left-out")
def calls_the_first_block_alone():
    class First(Stage):
        def forward(self, x):
            return self.blocks[0](x)

    return staged(First)


@truth("left-out")
def zips_lists_of_unequal_length():
    class Zipped(Stage):
        def forward(self, x):
            for block, _ in zip(self.blocks, (0.9, 0.8)):  # noqa: B905
                x = block(x)
            return x

    return staged(Zipped)


@truth("left-out")
def loops_over_the_first_two():
    class Sliced(Stage):
        def forward(self, x):
            for block in self.blocks[:-1]:
                x = block(x)
            return x

    return staged(Sliced)


def started(weight: float, bias: float) -> nn.Module:
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, weight)
            nn.init.constant_(module.bias, bias)
    return net


@truth("init")
def weight_and_bias_of_norms_are_swapped():
    return started(0, 1)


@truth("init")
def norms_start_with_bias_one():
    return started(1, 1)


@truth()
def norms_start_with_a_small_bias():
    return started(1, 0.01)


@truth("relu-before-addition")
def relu_behind_a_zero_scale():
    class Late(Block):
        def __init__(self, fan_in, fan_out, stride):
            super().__init__(fan_in, fan_out, stride)
            nn.init.zeros_(self.b2.weight)

        def branch(self, x):
            return F.relu(super().branch(x))

    return net_of(Late)


@truth("stride")
def halved_in_the_last_block_of_a_stage():
    class Late(Net):
        def __init__(self):
            super().__init__()
            widths = [(16, 16)] * 3 + [(16, 32), (32, 32), (32, 32), (32, 64), (64, 64), (64, 64)]
            strides = (1, 1, 1, 1, 1, 2, 1, 1, 2)
            self.layers = nn.ModuleList(
                Block(*each, stride) for each, stride in zip(widths, strides, strict=True)
            )

    return Late()


@truth("missing-relu")
def relu_whose_result_is_forgotten():
    class Forgotten(Block):
        def forward(self, x):
            out = self.branch(x) + self.skip(x)
            F.relu(out)
            return out

    return net_of(Forgotten)


@truth("changing-weights")
def forward_shrinks_its_weights():
    class Shrinking(Block):
        def branch(self, x):
            with torch.no_grad():
                self.c1.weight.mul_(0.99)
            return super().branch(x)

    return net_of(Shrinking)


@truth("train-mode")
def evaluation_leaves_out_a_block():
    class Early(Net):
        def body(self, x):
            for layer in self.layers if self.training else self.layers[:-1]:
                x = layer(x)
            return x

    return Early()


@truth("groups")
def depthwise():
    class Depthwise(Block):
        def __init__(self, fan_in, fan_out, stride):
            super().__init__(fan_in, fan_out, stride)
            self.c2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, groups=fan_out, bias=False)

    return net_of(Depthwise)


@truth("pooling")
def takes_the_corner_of_the_map():
    class Corner(Net):
        def pool(self, x):
            return x[:, :, 0, 0]

    return Corner()


@truth("extra-operation")
def clamped_before_the_last_relu():
    class Clamped(Block):
        def forward(self, x):
            return F.relu((self.branch(x) + self.skip(x)).clamp(-1, 1))

    return net_of(Clamped)


@truth()
def norms_average_over_all_batches():
    class Cumulative(Block):
        def __init__(self, fan_in, fan_out, stride):
            super().__init__(fan_in, fan_out, stride)
            self.b2 = nn.BatchNorm2d(fan_out, momentum=None)

    return net_of(Cumulative)


@truth("extra-operation")
def features_of_length_one():
    class Unit(Net):
        def pool(self, x):
            return F.normalize(super().pool(x))

    return Unit()


@truth("gradient", "pooling")
def writes_in_place_and_pools_a_corner():
    net = scaled_in_place()
    net.pool = lambda x: x[:, :, 0, 0]
    return net


class Seldom(Block):
    """Stochastic depth by Python's own random numbers, which torch does not see."""

    @property
    def chance(self):
        return self.training

    def forward(self, x):
        if self.chance and self.down is None and random.random() > 0.5:
            return F.relu(self.skip(x))
        return super().forward(x)


@truth("dropout")
def blocks_left_out_at_random_by_python():
    random.seed(1)
    return net_of(Seldom)


@truth("dropout-in-evaluation")
def blocks_left_out_at_random_in_evaluation_too():
    class Always(Seldom):
        @property
        def chance(self):
            return True

    random.seed(1)  # the first pass leaves few enough out that the network is read
    return net_of(Always)


class PreUnit(nn.Module):
    """A block of 2016; that which opens the network takes its shortcut after the activation."""

    opens = False

    def __init__(self, fan_in, fan_out, stride):
        super().__init__()
        self.b1, self.b2 = nn.BatchNorm2d(fan_in), nn.BatchNorm2d(fan_out)
        self.c1 = nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False)
        self.c2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        changes = stride > 1 or fan_in != fan_out
        self.down = nn.Conv2d(fan_in, fan_out, 1, stride, bias=False) if changes else None

    def forward(self, x):
        first = F.relu(self.b1(x))
        out = self.c2(F.relu(self.b2(self.c1(first))))
        shortcut = first if self.opens else x
        return out + (shortcut if self.down is None else self.down(first))


@truth("order")
def pooled_before_the_last_norm():
    class Early(Net):
        block = PreUnit

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(64)
            self.layers[0].opens = True

        def forward(self, x):
            x = self.pool(self.body(self.conv(x)))
            return self.fc(F.relu(self.norm(x[:, :, None, None])).flatten(1))

    return Early()
