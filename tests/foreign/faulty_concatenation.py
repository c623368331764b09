"""Fault: torch.cat where the shortcut should be added, and convolutions that bear it."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        half = after // 2
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, half, 3, 1, 1, bias=False),
            nn.BatchNorm2d(half),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(before, half, 1, stride, bias=False), nn.BatchNorm2d(half)
        )

    def forward(self, x):
        return torch.relu(torch.cat([self.branch(x), self.shortcut(x)], 1))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        before = 16
        for width in (16, 32, 64):
            for i in range(3):
                layers.append(Block(before, width, 2 if i == 0 and width > 16 else 1))
                before = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))
