"""Every network against the papers and another network, and that a mistake would be seen."""

from dataclasses import replace

import pytest
import torch
import torchvision

from resnetlab.models.architecture import ARCHITECTURES, get_architecture, list_models
from resnetlab.models.resnet import ResNet
from resnetlab.models.verification import randomize, reference_forward, verify_model

TORCHVISION = [name for name in list_models() if name in torchvision.models.list_models()]
CIFAR = [name for name in list_models() if ARCHITECTURES[name].stem == "cifar"]
TIMM = ["resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d"]
V1_AND_PLAIN = ["resnet50_v1", "resnet101_v1", "resnet152_v1", "plain18", "plain34"]
OWN = ["fast_resnet8", "fast_resnet11"]


def test_no_name_is_added_without_proof() -> None:
    assert {*TORCHVISION, *CIFAR, *TIMM, *V1_AND_PLAIN, *OWN} == set(ARCHITECTURES)
    assert len(TORCHVISION) == 9


@pytest.mark.parametrize("name", list_models())
def test_the_proof_holds(name: str) -> None:
    proof = verify_model(name)
    assert proof.holds, proof
    assert proof.reference == ("torchvision" if name in TORCHVISION else "second reading")


def test_the_proof_can_fail() -> None:
    proof = verify_model("resnet20")
    assert proof.output_difference < 1e-10
    assert not replace(proof, paper_parameters=269_723).holds
    assert not replace(proof, output_difference=1e-4).holds
    # A slip in the network, here v1 for v1.5, is a difference that the second reading sees.
    model = ResNet(get_architecture("resnet50d", stride_on="1x1", depths=(3, 4, 6, 3))).eval()
    randomize(model)
    images = torch.randn(1, 3, 65, 65)
    with torch.inference_mode():
        wanted = reference_forward("resnet50d", model.state_dict(), images)
        assert (wanted - model(images)).abs().max() > 1e-4 * wanted.abs().max()
