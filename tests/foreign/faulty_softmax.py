"""Fault: softmax in the network, under a cross entropy. Style: tables, one flat Sequential."""

from torch import nn


class Shortcut(nn.Module):
    def __init__(self, branch, extra=None):
        super().__init__()
        self.branch = branch
        self.extra = extra or nn.Identity()

    def forward(self, x):
        return self.branch(x).add_(self.extra(x)).relu_()


def conv(cin, cout, kernel, stride=1):
    return nn.Conv2d(cin, cout, kernel, stride, (kernel - 1) // 2, bias=False)


def resnet34(classes=1000):
    layers = [conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    cin = 64
    for width, count in {64: 3, 128: 4, 256: 6, 512: 3}.items():
        for i in range(count):
            stride = 2 if i == 0 and width > 64 else 1
            branch = nn.Sequential(
                conv(cin, width, 3, stride),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                conv(width, width, 3),
                nn.BatchNorm2d(width),
            )
            extra = None
            if stride == 2:
                extra = nn.Sequential(conv(cin, width, 1, 2), nn.BatchNorm2d(width))
            layers.append(Shortcut(branch, extra))
            cin = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes), nn.Softmax(dim=1)]
    return nn.Sequential(*layers)
