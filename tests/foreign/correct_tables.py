"""Correct, from tables of kernel, stride and padding; the branch is one Sequential (v1 strides)."""

from torch import nn

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# kernel, padding, factor of the width, whether the stride goes here
BRANCH = [(1, 0, 1, True), (3, 1, 1, False), (1, 0, 4, False)]


def conv_bn(before, after, kernel, stride, padding, relu):
    layers = [
        nn.Conv2d(before, after, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(after),
    ]
    return layers + ([nn.ReLU()] if relu else [])


class Sum(nn.Module):
    def __init__(self, *paths):
        super().__init__()
        self.paths = nn.ModuleList(paths)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(sum(path(x) for path in self.paths))


def build(depth=50, outputs=1000):
    layers = [*conv_bn(3, 64, 7, 2, 3, True), nn.MaxPool2d(3, 2, padding=1)]
    before = 64
    for stage, repeats in enumerate(BLOCKS[depth]):
        width = 64 << stage
        for i in range(repeats):
            stride = 2 if stage and i == 0 else 1
            branch, inner = [], before
            for row, (kernel, padding, factor, strided) in enumerate(BRANCH):
                step = stride if strided else 1
                branch += conv_bn(inner, width * factor, kernel, step, padding, relu=row < 2)
                inner = width * factor
            short = nn.Identity()
            if i == 0:
                short = nn.Sequential(*conv_bn(before, inner, 1, stride, 0, relu=False))
            layers.append(Sum(nn.Sequential(*branch), short))
            before = inner
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs)]
    return nn.Sequential(*layers)
