"""Fault: stage 3 of a ResNet-50 has five blocks. Style: a textbook's bottleneck with `extra`."""

import torch
from torch import nn


class bottleneck(nn.Module):
    def __init__(self, ch_in, ch_mid, stride=1):
        super().__init__()
        ch_out = ch_mid * 4
        self.left = nn.Sequential(
            nn.Conv2d(ch_in, ch_mid, kernel_size=1, bias=False),
            nn.BatchNorm2d(ch_mid),
            nn.ReLU(inplace=True),
            nn.Conv2d(ch_mid, ch_mid, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(ch_mid),
            nn.ReLU(inplace=True),
            nn.Conv2d(ch_mid, ch_out, kernel_size=1, bias=False),
            nn.BatchNorm2d(ch_out),
        )
        self.extra = nn.Sequential()
        if stride != 1 or ch_in != ch_out:
            self.extra = nn.Sequential(
                nn.Conv2d(ch_in, ch_out, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(ch_out),
            )

    def forward(self, x):
        left, right = self.left(x), self.extra(x)
        return nn.ReLU()(right.add_(left) if len(self.extra) else left + right)


class ResNet50(nn.Module):
    def __init__(self, n_classes, in_channels=3):
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        )
        self.blocks = nn.ModuleList()
        ch_in = 64
        for ch_mid, count, stride in ((64, 3, 1), (128, 4, 2), (256, 5, 2), (512, 3, 2)):
            for i in range(count):
                self.blocks.append(bottleneck(ch_in, ch_mid, 1 if i else stride))
                ch_in = ch_mid * 4
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.outlayer = nn.Linear(2048, n_classes)

    def forward(self, x):
        x = self.head(x)
        for block in self.blocks:
            x = block(x)
        x = self.pool(x).squeeze(-1).squeeze(-1)
        return self.outlayer(torch.reshape(x, (x.shape[0], -1)))
