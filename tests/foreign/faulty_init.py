"""Fault: weights drawn with deviation 1. Style: the order of 2016, batch norm and ReLU first."""

import torch.nn.functional as F
from torch import nn


class PreActUnit(nn.Module):
    def __init__(self, cin, cout, stride, activate_before_split):
        super().__init__()
        self.norm_a = nn.BatchNorm2d(cin)
        self.conv_a = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.norm_b = nn.BatchNorm2d(cout)
        self.conv_b = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.proj = nn.Conv2d(cin, cout, 1, stride, bias=False) if cin != cout else None
        self.activate_before_split = activate_before_split or cin != cout

    def forward(self, x):
        y = F.relu(self.norm_a(x))
        skip = y if self.activate_before_split else x
        if self.proj is not None:
            skip = self.proj(skip)
        y = self.conv_a(y)
        y = self.conv_b(F.relu(self.norm_b(y)))
        return skip + y


class PreActResNet110(nn.Module):
    def __init__(self, num_classes=10, n=18):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        units, cin = [], 16
        for cout in (16, 32, 64):
            for i in range(n):
                units.append(PreActUnit(cin, cout, 2 if cout > 16 and i == 0 else 1, not units))
                cin = cout
        self.units = nn.Sequential(*units)
        self.last = nn.BatchNorm2d(64)
        self.classify = nn.Linear(64, num_classes)
        for p in self.parameters():
            if p.dim() == 4:
                nn.init.normal_(p)

    def forward(self, x):
        x = F.relu(self.last(self.units(self.first(x))))
        return self.classify(x.mean(3).mean(2))
