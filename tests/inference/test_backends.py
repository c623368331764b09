import pytest
import torch

from resnetlab.compute.execution import Execution
from resnetlab.data.images import normalize
from resnetlab.inference.backends import TorchBackend
from resnetlab.models.resnet import create_model
from resnetlab.preprocessing import Preprocessing
from resnetlab.weights.checkpoint import Checkpoint

PREPROCESSING = Preprocessing(mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.3), size=32)


def checkpoint():
    torch.manual_seed(0)
    model = create_model("resnet20")
    return Checkpoint(
        architecture=model.architecture,
        weights=model.state_dict(),
        classes=tuple("abcdefghij"),
        preprocessing=PREPROCESSING,
    )


def pixels(n=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)


def test_pixels_go_in_and_logits_come_out():
    one = checkpoint()
    backend = TorchBackend.load(one, "plain")
    inputs = (pixels().double() / 255 - torch.tensor(one.preprocessing.mean).view(3, 1, 1)) / (
        torch.tensor(one.preprocessing.std).view(3, 1, 1)
    )
    with torch.no_grad():
        wanted = one.build().double()(inputs).float()
    given = backend.logits(pixels())
    assert (given.dtype, given.device.type) == (torch.float32, "cpu")
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
    assert (backend.classes, backend.preprocessing) == (one.classes, PREPROCESSING)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("resnet20", {}), ("resnet20", {"activation": "pre"}), ("resnet18", {}), ("fast_resnet8", {})],
)
def test_class_maps_are_grad_cam_of_the_last_stage(name, fields):
    """captum's, before it drops the negative values; where the head takes a maximum too."""
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    model = create_model(name, num_classes=10, **fields).eval()
    backend = TorchBackend(model=model, classes=(), preprocessing=PREPROCESSING)
    images, labels = pixels(), torch.tensor([3, 0, 7])
    before_pooling = list(model.children())[-4]
    wanted = captum.LayerGradCam(model, before_pooling).attribute(
        normalize(images, PREPROCESSING), target=labels, relu_attributions=False
    )
    found = backend.class_maps(images, labels)
    torch.testing.assert_close(found, wanted[:, 0] * wanted[0, 0].numel(), rtol=1e-4, atol=1e-4)


def test_the_name_says_what_computes_and_how():
    assert TorchBackend.load(checkpoint(), "bf16").name == "PyTorch (cpu,bf16,contiguous,eager)"


def test_a_network_in_training_is_computed_as_it_is():
    """Neither copied nor folded nor moved."""
    model = checkpoint().build()
    backend = TorchBackend(model=model, classes=(), preprocessing=PREPROCESSING)
    before = backend.logits(pixels())
    with torch.no_grad():
        model.fc.bias.add_(1)
    torch.testing.assert_close(backend.logits(pixels()), before + 1)


def test_loading_sets_the_process_up(use_threads):
    use_threads(1)
    TorchBackend.load(checkpoint(), Execution(threads=2))
    assert torch.get_num_threads() == 2


def test_loading_refuses_what_is_for_training():
    with pytest.raises(ValueError, match="fused is for training"):
        TorchBackend.load(checkpoint(), "channels_last,fused")
