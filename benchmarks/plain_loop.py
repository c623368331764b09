"""CIFAR-10 as tutorials train it, to compare with: `python -m benchmarks.plain_loop [resnet18]`.

fp32, NCHW, eager, torchvision's transforms on PIL images in a DataLoader with two workers, SGD.
Nothing of resnetlab but the definition of ResNet-20, which torchvision lacks.
"""

import argparse
import itertools

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10
from torchvision.models import resnet18

from resnetlab.models.resnet import create_model

TRANSFORM = transforms.Compose(
    [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ]
)


def network(name):
    """ResNet-20, or torchvision's ResNet-18 with the stem that everybody gives it for CIFAR."""
    if name == "resnet20":
        return create_model("resnet20")
    model = resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def train(name, dataset, batch_size=128, epochs=None):
    """Yields images and loss of each step, for ever unless `epochs` are given."""
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=2, drop_last=True)
    model = network(name)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    model.train()
    for _ in range(epochs) if epochs else itertools.count():
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            yield len(images), loss.item()


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plain_loop", description=__doc__)
    parser.add_argument("network", nargs="?", choices=("resnet20", "resnet18"), default="resnet20")
    name = parser.parse_args().network
    try:
        cifar10 = CIFAR10("data", train=True, download=True, transform=TRANSFORM)
    except (OSError, RuntimeError) as error:
        parser.error(
            f"torchvision cannot fetch CIFAR-10 ({error}); put cifar-10-python.tar.gz into data."
        )
    for step, (_, loss) in enumerate(train(name, cifar10, epochs=182), 1):
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
