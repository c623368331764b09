"""Grad-CAM against captum's."""

import pytest
import torch
from captum.attr import LayerGradCam
from PIL import Image

from resnetlab.data.catalogue import load_dataset
from resnetlab.data.images import normalize
from resnetlab.errors import UserError
from resnetlab.evaluation.explanation import explain_images, heat_maps, stage_for
from resnetlab.models.resnet import create_model
from resnetlab.weights.checkpoint import load_checkpoint


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("resnet20", 32, {}),
        ("resnet20", 28, {"in_channels": 1}),
        ("resnet50", 64, {"num_classes": 7}),
        ("resnet20", 32, {"activation": "pre"}),
        ("fast_resnet8", 32, {}),
    ],
)
def test_it_is_captums_on_every_stage(name, size, options):
    torch.manual_seed(0)
    model = create_model(name, **options).eval()
    for module in model.modules():  # statistics as after a training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    images = torch.randn(3, model.architecture.in_channels, size, size)
    classes = torch.tensor([0, 3, 5])
    for stage in model.stage_names:
        layer = model.get_submodule(stage)
        theirs = LayerGradCam(model, layer).attribute(images, classes, relu_attributions=True)
        ours = heat_maps(model, images, classes, stage=stage)
        assert ours.shape == theirs[:, 0].shape
        theirs = theirs[:, 0].detach()
        scale = max(float(theirs.max()), 1e-6)
        torch.testing.assert_close(ours / scale, theirs / scale)
    assert heat_maps(model, images, classes).equal(heat_maps(model, images, classes, stage=stage))


def test_of_the_last_stage_it_is_the_class_activation_map():
    """With pooling and a linear head, the gradient is the head's weights over the area."""
    checkpoint = load_checkpoint("resnet20-cifar10")
    model = checkpoint.build()
    images = torch.randn(2, 3, 32, 32)
    maps = heat_maps(model, images, torch.tensor([4, 9]))
    features = model.forward_features(images).detach()
    area = features.shape[2] * features.shape[3]
    weights = model.get_parameter("fc.weight")[[4, 9]].detach()
    expected = torch.einsum("nchw,nc->nhw", features, weights).relu() / area
    torch.testing.assert_close(maps, expected)


def test_a_map_of_one_pixel_has_no_places():
    model = create_model("resnet18").eval()
    stage, note = stage_for(model, 32)
    assert stage == "layer3"
    assert note == "the maps of layer4 are of 1 x 1, without places; these are of layer3"
    assert stage_for(model, 64) == ("layer4", None)
    assert stage_for(model, 32, "layer1") == ("layer1", None)
    with pytest.raises(UserError, match="layer4 has maps of 1 x 1, without places; take layer3"):
        stage_for(model, 32, "layer4")
    with pytest.raises(UserError, match="no `stage` 'layer9'; did you mean 'layer"):
        stage_for(model, 32, "layer9")
    for name in ("resnet18", "resnet20", "fast_resnet8"):
        small = create_model(name).eval()
        assert stage_for(small, small.architecture.minimum_size)[0] in small.stage_names[:-1]


def test_explanations_tell_what_predict_tells(samples):

    images, _ = load_dataset("cifar10-sample", "test", data_dir=samples).batch(torch.arange(2))
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    checkpoint = load_checkpoint("resnet20-cifar10")
    found, note = explain_images(checkpoint, pictures, top=2)
    assert note is None
    model = checkpoint.build()
    logits = model(normalize(images, checkpoint.preprocessing)).detach() / checkpoint.temperature
    for one, row in zip(found, logits.double().softmax(1), strict=True):
        best = row.topk(2)
        expected = [(checkpoint.classes[i], 100 * float(row[i])) for i in best.indices]
        assert [name for name, _ in one.top] == [name for name, _ in expected]
        assert one.top[0][1] == pytest.approx(expected[0][1], rel=1e-4)
        assert one.maps.shape == (2, 8, 8)
        assert float(one.maps.min()) >= 0
    ((named,), _) = explain_images(checkpoint, pictures[:1], classes=["Frog"])
    assert [name for name, _ in named.top] == ["frog"]
    with pytest.raises(UserError, match="no class 'frag'; did you mean 'frog'"):
        explain_images(checkpoint, pictures, classes=["frag"])
    with pytest.raises(UserError, match="`top` must be at least 1, not 0"):
        explain_images(checkpoint, pictures, top=0)
