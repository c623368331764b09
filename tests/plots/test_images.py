import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from resnetlab.data.catalogue import load_dataset
from resnetlab.data.images import normalize
from resnetlab.evaluation.evaluate import logit_batches
from resnetlab.inference.backends import TorchBackend
from resnetlab.models.resnet import create_model
from resnetlab.plots import images
from resnetlab.plots.images import plot_predictions, plot_samples, visualize
from resnetlab.plots.style import BLUE, ORANGE
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint

SAMPLES = Path(__file__).parents[1] / "data" / "samples"


def sample(name="cifar10-sample"):
    return load_dataset(name, "test", data_dir=SAMPLES)


@pytest.mark.parametrize("name", ["cifar10-sample", "fashion-mnist-sample"])
def test_samples_have_a_named_row_for_each_class(
    name, tmp_path, drawn, assert_png, assert_readable
):
    dataset = sample(name)
    assert_png(plot_samples(dataset, tmp_path / "samples.png", per_class=4))
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(dataset.classes)
    picture = axes.get_images()[0].get_array()
    size = dataset.preprocessing.size
    gap = max(1, size // 16)
    assert picture.shape == (10 * (size + gap), 4 * (size + gap), 3)
    # The first image of row i is, pixel for pixel, one of the images of class i.
    for i, top in enumerate(range(0, picture.shape[0], size + gap)):
        shown = torch.from_numpy(np.array(picture[top : top + size, :size])).permute(2, 0, 1)
        of_class = dataset.images[dataset.labels == i]
        assert (of_class == shown[: dataset.preprocessing.channels]).flatten(1).all(1).any()
        assert abs(axes.get_yticks()[i] - (top + size / 2)) <= gap
    assert_readable(drawn[0])


def test_samples_of_many_classes_stand_in_columns(tmp_path, drawn, assert_png, assert_readable):
    dataset = sample()
    names = tuple(f"a long class name {i}" for i in range(110))
    many = replace(dataset, classes=names, labels=torch.arange(100))
    assert_png(plot_samples(many, tmp_path / "samples.png", per_class=3))
    (figure,) = drawn
    assert len(figure.axes) == 4
    shown = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert (shown[0], shown[99]) == ("a long clas…ame 0", "a long clas…me 99")
    assert len(shown) == 100
    assert figure._suptitle.get_text().endswith("100 images, 100 of 110 classes")
    assert_readable(figure)


def test_samples_need_at_least_one_a_class(tmp_path):
    with pytest.raises(ValueError, match="per_class"):
        plot_samples(sample(), tmp_path / "samples.png", per_class=0)


def logits_for(predicted, confidence=0.75, classes=10):
    """Logits whose softmax gives `confidence` to the predicted classes."""
    logits = torch.full((len(predicted), classes), math.log((1 - confidence) / (classes - 1)))
    logits[torch.arange(len(predicted)), predicted] = math.log(confidence)
    return logits


@pytest.mark.parametrize("name", ["cifar10-sample", "fashion-mnist-sample"])
def test_predictions_are_blue_and_ticked_or_orange_and_crossed(
    name, tmp_path, drawn, assert_png, assert_readable
):
    dataset = sample(name)
    images, labels = dataset.images[:7], dataset.labels[:7]
    predicted = labels.clone()
    predicted[2], predicted[5] = (labels[2] + 1) % 10, (labels[5] + 3) % 10
    out = plot_predictions(
        images, labels, logits_for(predicted), dataset.classes, tmp_path / "p.png", title="net"
    )
    assert_png(out)
    (figure,) = drawn
    assert len(figure.axes) == 7
    assert figure._suptitle.get_text() == "net: 5 ✓ right, 2 ✗ wrong"
    for i, axes in enumerate(figure.axes):
        right = i not in (2, 5)
        assert axes.title.get_text() == (
            f"{'✓' if right else '✗'} {dataset.classes[predicted[i]]} 75 %"
        )
        assert axes.get_xlabel() == f"true: {dataset.classes[labels[i]]}"
        for color in (axes.title.get_color(), to_hex(axes.spines["top"].get_edgecolor())):
            assert color.upper() == (BLUE if right else ORANGE)
        shown = torch.from_numpy(np.array(axes.get_images()[0].get_array())).permute(2, 0, 1)
        assert torch.equal(shown, images[i].expand(3, -1, -1))
        assert axes.get_images()[0].get_interpolation() == "nearest"
    assert_readable(figure)


@pytest.mark.parametrize("n", [1, 24])
def test_long_names_and_single_images_fit(n, tmp_path, drawn, assert_readable):
    dataset = sample("fashion-mnist-sample")
    names = ["Ankle boot of $leather$ and $wool$", *["T-shirt/top"] * 9]
    labels = torch.zeros(n, dtype=torch.int64)
    for predicted in (labels, labels + 1):
        logits = logits_for(predicted, confidence=0.9999)
        out = tmp_path / "p.png"
        plot_predictions(dataset.images[:n], labels, logits, names, out, title="resnet110 on it")
        assert_readable(drawn[-1])
    assert drawn[0].axes[0].title.get_text() == "✓ Ankle b…ol$ 100 %"
    assert drawn[1].axes[0].title.get_text() == "✗ T-shirt/top 100 %"


@pytest.fixture
def run(tmp_path):
    """A run folder with an untrained network, whose answers differ between images."""
    torch.manual_seed(0)
    dataset = sample()
    model = create_model("resnet20")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1
    model(normalize(dataset.images, dataset.preprocessing))  # sets the running statistics
    Checkpoint(
        architecture=model.architecture,
        weights=model.state_dict(),
        classes=dataset.classes,
        preprocessing=dataset.preprocessing,
        dataset=dataset.name,
        recipe={"model": "resnet20", "val_size": 50},
    ).save(tmp_path / "run" / "best.pt")
    return tmp_path / "run"


def test_visualize_draws_what_it_is_asked_for_and_the_same_again(run, drawn, assert_png):
    network, dataset = load_checkpoint(run).build(), sample()
    backend = TorchBackend(
        model=network, classes=dataset.classes, preprocessing=dataset.preprocessing
    )
    (logits, labels) = next(logit_batches(backend, dataset, batch_size=100))
    right = int((logits.argmax(1) == labels).sum())
    assert 0 < right < 100

    assert visualize(run, n=6, data_dir=SAMPLES) == run / "predictions.png"
    first = (run / "predictions.png").read_bytes()
    visualize(run / "best.pt", n=6, data_dir=SAMPLES)
    assert (run / "predictions.png").read_bytes() == first
    visualize(run, n=6, seed=1, data_dir=SAMPLES)
    assert (run / "predictions.png").read_bytes() != first
    assert [len(figure.axes) for figure in drawn] == [6, 6, 6]
    assert drawn[0]._suptitle.get_text().startswith("resnet20 on cifar10-sample, test: ")

    drawn.clear()
    for only, mark, count in (("wrong", "✗", 9), ("right", "✓", right)):
        n = 9 if only == "wrong" else 100  # more than there are
        visualize(run, n=n, only=only, data_dir=SAMPLES, out=run / f"{only}.png")
        assert_png(run / f"{only}.png")
        titles = [axes.title.get_text() for axes in drawn[-1].axes]
        assert len(titles) == count
        assert all(title.startswith(mark) for title in titles)


def test_visualize_can_draw_the_validation_set(run, drawn):
    visualize(run, n=60, split="val", data_dir=SAMPLES)
    assert len(drawn[0].axes) == 50
    assert "val" in drawn[0]._suptitle.get_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "`n` must be at least 1, not 0"),
        ({"only": "best"}, "`only` must be one of all, right, wrong, not 'best'"),
    ],
)
def test_visualize_refuses_the_impossible(options, message, run):
    with pytest.raises(ValueError, match=message):
        visualize(run, data_dir=SAMPLES, **options)


def test_visualize_says_when_nothing_is_wrong(run, monkeypatch):
    labels = sample().labels.flip(0)
    perfect = logits_for(labels).flip(0)
    monkeypatch.setattr(
        images, "progress_batches", lambda backend, dataset: iter([(perfect, dataset.labels)])
    )
    monkeypatch.setattr(images.torch, "randperm", lambda n, generator: torch.arange(n))
    with pytest.raises(ValueError, match="none of the 100 test images wrong"):
        visualize(run, only="wrong", data_dir=SAMPLES)


def test_words_of_all_kinds_stay_apart(tmp_path, drawn, assert_readable):
    dataset = sample()
    words = (
        "Donaudampfschifffahrtsgesellschaft",
        "\x1b[31mred",
        "猫",
        "$x^2$",
        "_",
        "🐈",
        "m" * 30,
        "猫" * 20,
    )
    dataset = replace(dataset, classes=(*words, "American Staffordshire terrier", "W" * 9))
    plot_samples(dataset, tmp_path / "s.png")
    labels = torch.arange(10)
    for predicted in (labels, labels.flip(0)):
        images, logits = dataset.images[:10], logits_for(predicted, confidence=0.9999)
        plot_predictions(images, labels, logits, dataset.classes, tmp_path / "p.png")
    for figure in drawn:
        assert_readable(figure)
