import pytest
import torch

from resnetlab.data.catalogue import load_dataset
from resnetlab.data.images import normalize
from resnetlab.evaluation.responses import first_filters, layer_responses
from resnetlab.models.resnet import create_model
from resnetlab.weights.checkpoint import load_checkpoint


def test_responses_are_the_deviations_of_each_layers_outputs(samples):
    checkpoint = load_checkpoint("resnet20-cifar10")
    data = load_dataset("cifar10-sample", "test", data_dir=samples)
    data = data.prepared(checkpoint.preprocessing)
    model = checkpoint.build()
    found = layer_responses(model, data, images=30)
    assert len(found) == 18  # all but the stem's layer and the classifier
    assert [one.ends for one in found] == [False, True] * 9
    assert found[0].name == "layer1.0.bn1"
    x = normalize(data.batch(torch.arange(30))[0], data.preprocessing)
    x = model.relu(model.bn1(model.conv1(x)))
    block = model.layer1[0]
    inner = block.bn1(block.conv1(x))
    assert found[0].deviation == pytest.approx(float(inner.detach().std()), rel=1e-3)
    outer = block.bn2(block.conv2(inner.relu()))
    assert found[1].deviation == pytest.approx(float(outer.detach().std()), rel=1e-3)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("name", "layers", "first", "changes"),
    [
        ("resnet20", 18, "layer1.0.conv1", {"activation": "pre"}),
        ("plain20", 18, "layer1.0.bn1", {}),
        ("resnet50", 48, "layer1.0.bn1", {}),
        ("fast_resnet8", None, None, {}),
    ],
)
def test_every_kind_of_block_has_its_layers(name, layers, first, changes, samples):
    model = create_model(name, num_classes=10, **changes).eval()
    data = load_dataset("cifar10-sample", "test", data_dir=samples)
    found = layer_responses(model, data, images=4)
    blocks = len(model.blocks())
    assert sum(one.ends for one in found) == blocks
    assert layers is None or (len(found), found[0].name) == (layers, first)
    assert all(one.deviation > 0 for one in found)


def test_the_first_filters_of_any_stem():
    assert first_filters(create_model("resnet20")).shape == (16, 3, 3, 3)
    assert first_filters(create_model("resnet50", stem="deep")).shape == (32, 3, 3, 3)
