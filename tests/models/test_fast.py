"""What the fast networks have of their own."""

import pytest
import torch

from resnetlab.models.fast import SingleBlock
from resnetlab.models.resnet import create_model


def test_single_block_adds_its_input() -> None:
    block, images = SingleBlock(4, 4), torch.randn(2, 4, 5, 7)
    wanted = (block.bn1(block.conv1(images)) + images).relu()
    torch.testing.assert_close(block(images), wanted)


def test_whitening_makes_patches_white():
    torch.manual_seed(0)
    mixing = torch.randn(3, 3)
    images = torch.einsum("ij,njhw->nihw", mixing, torch.randn(500, 3, 9, 9).cumsum(3))
    images -= images.mean((0, 2, 3), keepdim=True)
    model = create_model("fast_resnet8")
    model.whiten(images)
    white = model.conv1(images)[:, :12].transpose(0, 1).flatten(1)
    torch.testing.assert_close(white @ white.T / white.size(1), torch.eye(12), atol=0.02, rtol=0)
    assert torch.equal(model.conv1.weight[12:], -model.conv1.weight[:12])
    assert not model.conv1.weight.requires_grad


@pytest.mark.parametrize("size", [9, 16, 24, 32, 33])
def test_sizes_of_a_pooled_network(size):
    model = create_model("fast_resnet8", block="basic", depths=(1, 2, 1)).eval()
    stages = model.forward_stages(torch.zeros(1, 3, size, size))
    after_stem = size - 1
    assert [stage.size(-1) for stage in stages] == [
        after_stem // 2,
        after_stem // 4,
        after_stem // 8,
    ]
    with pytest.raises(ValueError, match="too small"):
        model(torch.zeros(1, 3, 8, 8))
