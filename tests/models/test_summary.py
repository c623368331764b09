import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnetlab.models.architecture import ARCHITECTURES, PUBLISHED, get_architecture
from resnetlab.models.resnet import create_model
from resnetlab.models.summary import (
    count_parameters,
    default_image_size,
    describe_models,
    on_meta,
    summarize,
)


def test_stages_of_the_papers_table(samples):
    """Table 1 of the paper, ResNet-50; and the CIFAR network of section 4.2."""
    outputs = {layer.name: layer.output for layer in summarize(get_architecture("resnet50"))}
    assert outputs["conv1"] == (64, 112, 112)
    stages = [outputs[f"layer{i}"] for i in range(1, 5)]
    assert stages == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]
    assert outputs["fc"] == (1000,)
    layers = {layer.name: layer for layer in summarize(get_architecture("resnet20"))}
    assert [layers[f"layer{i}"].output for i in (1, 2, 3)] == [
        (16, 32, 32),
        (32, 16, 16),
        (64, 8, 8),
    ]
    assert layers["layer1"].kind == "3 x BasicBlock"
    assert layers["conv1"].kind == "3x3 convolution"


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "preresnet110", "resnet50d"])
def test_rows_add_up_to_the_network(name):
    architecture = get_architecture(name)
    layers = summarize(architecture)
    model = on_meta(architecture)
    size = default_image_size(architecture)
    assert sum(layer.parameters for layer in layers) == count_parameters(model)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, size, size, device="meta"))
    assert 2 * sum(layer.multiply_adds for layer in layers) == counter.get_total_flops()


def test_multiply_adds_by_hand():
    layers = {layer.name: layer for layer in summarize(get_architecture("resnet20"))}
    assert layers["conv1"].multiply_adds == 3 * 16 * 9 * 32 * 32
    assert layers["layer1"].multiply_adds == 6 * 16 * 16 * 9 * 32 * 32
    assert layers["fc"].multiply_adds == 64 * 10
    assert layers["fc"].parameters == 64 * 10 + 10
    halved = {layer.name: layer for layer in summarize(get_architecture("resnet20"), 16)}
    assert 4 * halved["layer1"].multiply_adds == layers["layer1"].multiply_adds


def test_counting_needs_no_memory_and_leaves_no_trace():
    model = on_meta(get_architecture("resnet152"))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not model.training
    assert torch.empty(1).device.type == "cpu"
    assert count_parameters(nn.BatchNorm2d(4)) == 8


def test_too_small_an_image_is_a_sentence():
    with pytest.raises(ValueError, match="16 x 16 pixels are too small"):
        summarize(get_architecture("resnet50"), 16)


def test_describe_models():
    rows = {row["name"]: row for row in describe_models("resnet*0")}
    assert {"resnet20", "resnet50", "resnet110"} <= rows.keys() < ARCHITECTURES.keys()
    assert rows["resnet20"] == {
        "name": "resnet20",
        "layers": 20,
        "parameters": count_parameters(create_model("resnet20")),
        "multiply_adds": rows["resnet20"]["multiply_adds"],
        "image_size": 32,
        "paper_error": 8.75,
    }
    for name, row in rows.items():
        if (published := PUBLISHED.get(name)) and published.parameters:
            assert row["parameters"] == published.parameters
    with pytest.raises(ValueError, match=r"no model matches 'x\*'"):
        describe_models("x*")
