"""Fault: no projection where bottlenecks widen 64 channels to 256, so the net crashes."""

import torch
from torch import nn


def conv_bn(cin, cout, k, s=1):
    return nn.Sequential(nn.Conv2d(cin, cout, k, s, k // 2, bias=False), nn.BatchNorm2d(cout))


class Bottle(nn.Module):
    def __init__(self, cin, mid, stride):
        super().__init__()
        self.a = conv_bn(cin, mid, 1)
        self.b = conv_bn(mid, mid, 3, stride)
        self.c = conv_bn(mid, mid * 4, 1)
        # "the shape only changes where the stride does"
        self.skip = conv_bn(cin, mid * 4, 1, stride) if stride != 1 else nn.Identity()

    def forward(self, x):
        y = torch.relu(self.a(x))
        y = torch.relu(self.b(y))
        return torch.relu(self.c(y) + self.skip(x))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        blocks, cin = [], 64
        for mid, n, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(n):
                blocks.append(Bottle(cin, mid, stride if i == 0 else 1))
                cin = mid * 4
        self.body = nn.Sequential(*blocks)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).mean([2, 3]))
