"""Fault: average pooling of 4x4, right at 32 pixels only. Style: `shortcut`, functional ReLU."""

import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.in_planes = 64
        self.stages = nn.ModuleList(
            self.stage(planes, stride) for planes, stride in ((64, 1), (128, 2), (256, 2), (512, 2))
        )
        self.linear = nn.Linear(512, num_classes)

    def stage(self, planes, stride):
        blocks = []
        for s in (stride, 1):
            blocks.append(Block(self.in_planes, planes, s))
            self.in_planes = planes
        return nn.Sequential(*blocks)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        for stage in self.stages:
            x = stage(x)
        x = F.avg_pool2d(x, 4)
        return self.linear(x.view(x.size(0), -1))
