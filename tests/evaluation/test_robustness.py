import pytest
import torch
from torch import nn

from resnetlab.data.catalogue import load_dataset
from resnetlab.data.dataset import Subset
from resnetlab.errors import UserError
from resnetlab.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from resnetlab.evaluation.robustness import corrupted_answers, evaluate_corruptions
from resnetlab.inference.backends import TorchBackend
from resnetlab.weights.checkpoint import load_checkpoint


@pytest.fixture
def data(samples):
    checkpoint = load_checkpoint("resnet20-cifar10")
    dataset = load_dataset("cifar10-sample", "test", data_dir=samples)
    return dataset.prepared(checkpoint.preprocessing)


def test_each_corruption_is_counted_where_it_stands(data):
    backend = TorchBackend.load(load_checkpoint("resnet20-cifar10"), "channels_last")
    some = Subset(whole=data, indices=torch.arange(0, 100, 4), split="test")
    found = corrupted_answers(backend, some)
    assert found.right.shape == (15, 5, 25)
    assert float(found.clean.float().mean()) > 0.8
    name, severity = "contrast", 5
    numbers = torch.arange(25)
    changed = corrupt(some.batch(numbers)[0], name, severity, numbers.tolist())
    expected = backend.logits(changed).argmax(1) == some.labels
    row = found.right[list(CORRUPTIONS).index(name), SEVERITIES.index(severity)]
    assert torch.equal(row, expected)
    assert 5 < found.drop < 60
    mild, strong = found.right[:, 0].float().mean(), found.right[:, 4].float().mean()
    assert mild > strong
    a, b = (corrupted_answers(backend, data, 10) for _ in "ab")
    assert torch.equal(a.right, b.right)


def test_the_images_are_spread_over_the_classes(data):
    class Zero(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 10)

    backend = TorchBackend(model=Zero(), classes=data.classes, preprocessing=data.preprocessing)
    assert float(corrupted_answers(backend, data, 20).clean.sum()) == 2


def test_a_number_that_cannot_be(smoke):
    with pytest.raises(UserError, match="`corruption_images` must be at least 0, not -1"):
        evaluate_corruptions(smoke.run, images=-1)
