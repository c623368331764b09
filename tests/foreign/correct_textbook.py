"""Correct, in a textbook's style: block with an optional 1x1 convolution, stages as Sequential."""

from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self, channels, use_1x1conv=False, strides=1):
        super().__init__()
        self.conv1 = nn.LazyConv2d(channels, kernel_size=3, padding=1, stride=strides, bias=False)
        self.conv2 = nn.LazyConv2d(channels, kernel_size=3, padding="same", bias=False)
        self.conv3 = None
        if use_1x1conv:
            self.conv3 = nn.Sequential(
                nn.LazyConv2d(channels, kernel_size=1, stride=strides, bias=False),
                nn.LazyBatchNorm2d(),
            )
        self.bn1 = nn.LazyBatchNorm2d()
        self.bn2 = nn.LazyBatchNorm2d()

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.conv3:
            x = self.conv3(x)
        y += x
        return F.relu(y)


def resnet_block(channels, blocks, first_block=False):
    return [
        Residual(channels, use_1x1conv=True, strides=2)
        if i == 0 and not first_block
        else Residual(channels)
        for i in range(blocks)
    ]


b1 = nn.Sequential(
    nn.LazyConv2d(64, kernel_size=7, stride=2, padding=3, bias=False),
    nn.LazyBatchNorm2d(),
    nn.ReLU(),
    nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
)
b2 = nn.Sequential(*resnet_block(64, 2, first_block=True))
b3 = nn.Sequential(*resnet_block(128, 2))
b4 = nn.Sequential(*resnet_block(256, 2))
b5 = nn.Sequential(*resnet_block(512, 2))
net = nn.Sequential(
    b1, b2, b3, b4, b5, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.LazyLinear(10)
)
