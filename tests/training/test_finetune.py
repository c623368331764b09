import re
import shutil

import pytest
import torch
from PIL import Image

from resnetlab.data.catalogue import load_dataset
from resnetlab.models.architecture import ARCHITECTURES, get_architecture
from resnetlab.runs import Run
from resnetlab.training import finetune as module
from resnetlab.training import start
from resnetlab.training.finetune import choose, finetune
from resnetlab.weights.checkpoint import load_checkpoint
from resnetlab.weights.recognition import named


@pytest.fixture(scope="module")
def photos(samples, tmp_path_factory):
    """Real images as files in class folders, enlarged where a test wants photographs."""

    def write(*, per_class=(12, 12, 12), size=32):
        root = tmp_path_factory.mktemp("photos")
        data = load_dataset("cifar10-sample", "train+val", data_dir=samples)
        for label, count in enumerate(per_class):
            folder = root / data.classes[label]
            folder.mkdir()
            indices = torch.nonzero(data.labels == label).flatten()[:count]
            for index, image in zip(indices, data.batch(indices)[0], strict=True):
                pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
                pixels.resize((size, size)).save(folder / f"{int(index)}.png")
        return root

    return write


@pytest.fixture
def quick(monkeypatch):
    """A machine whose speed is known: seconds of a step and of a forward pass for an image."""

    def set_speed(step, forward=0.0):
        monkeypatch.setattr(module, "seconds_an_image", lambda *_: (step, forward))

    set_speed(0.001)
    return set_speed


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_an_architecture_has_its_name_and_changes(name):
    for changes in ({}, {"stem": "cifar-pool"} if "fast" not in name else {"depths": (2, 1, 1)}):
        record = get_architecture(name, **changes)
        model, overrides = named(record)
        found = get_architecture(model, **overrides)
        sizes = {"num_classes": record.num_classes}
        assert get_architecture(model, **overrides | sizes) == record or found == record


def test_small_images_start_from_the_bundled_network(photos, quick):
    choice = choose(photos(), budget="1m")
    recipe = choice.recipe
    assert (recipe.pretrained, recipe.model, recipe.image_size) == (
        "resnet20-cifar10",
        "resnet20",
        32,
    )
    assert recipe.head == "fitted"
    assert recipe.freeze == "none"
    assert len(choice.lines) == 4
    assert [line.split(":")[0] for line in choice.lines] == [
        *("data", "network", "images", "training")
    ]
    assert "36" not in choice.lines[0]  # a tenth is for the test
    assert choose(photos(), budget="1m", lr=0.5, head_views=2).recipe.lr == 0.5


def test_from_scratch_small_images_have_the_network_that_learns_fastest(photos, quick):
    recipe = choose(photos(), pretrained="none", budget="1m").recipe
    assert (recipe.pretrained, recipe.model, recipe.head) == (None, "fast_resnet8", "random")
    assert recipe.patience == 0  # its best weights are its last
    assert recipe.early_size == 17
    assert choose(photos(), pretrained="none", model="resnet20", budget="1m").recipe.lr == 0.1


def test_with_little_time_the_classifier_alone_is_fitted(photos, quick):
    quick(10.0, 0.01)
    choice = choose(photos(), budget="1m")
    assert choice.recipe.freeze == "backbone"
    assert "the classifier alone" in choice.lines[3]
    assert choose(photos(), budget="1m", epochs=2).recipe.freeze == "none"  # as asked for


def test_a_few_epochs_take_the_time_to_a_tenth_of_one(photos, quick):
    quick(2.0)
    root, costs = photos(), {}
    for seconds in (200, 300, 400):
        choice = choose(root, pretrained="none", budget=f"{seconds}s", val_size=0)
        assert choice.lines[3] == f"training: {choice.recipe.epochs:g} epochs, what the time allows"
        costs[seconds] = seconds / choice.recipe.epochs
        assert 2 < choice.recipe.epochs < 10
    assert max(costs.values()) < 1.1 * min(costs.values())  # of whole epochs: up to 1.5 times
    asked = choose(root, pretrained="none", budget="1m", epochs=7)
    assert asked.lines[3] == "training: 7 epochs, as asked for"


def test_with_more_time_images_are_larger(photos, quick, monkeypatch):
    monkeypatch.setattr(start, "torchvision_answers", lambda *_: False)
    root = photos(size=300)
    found = []
    for budget in ("10s", "30s", "1h"):
        quick(0.02)
        choice = choose(root, budget=budget)
        assert choice.recipe.pretrained is None
        assert "from scratch: torchvision's weights" in choice.lines[1]
        found.append(choice.recipe.image_size)
    assert found == sorted(found)
    assert found[0] < found[-1] == 224


def test_a_class_of_one_image_is_refused_and_a_rare_one_named(photos, quick):
    with pytest.raises(ValueError, match="of bird there is one training image"):
        choose(photos(per_class=(12, 12, 1)), budget="1m", test_size=0)
    choice = choose(photos(per_class=(20, 20, 3)), budget="1m", test_size=0)
    assert "'bird' has 3" in choice.lines[0]


def test_from_a_folder_to_a_run_that_predicts(resnetlab, photos, tmp_path):
    root, out = photos(), tmp_path / "run"
    options = ("--epochs", 1, "--execution", "plain", "--head-views", 2, "--patience", 0)
    answer = resnetlab("finetune", root, "--budget", "1m", "--out", out, *options)
    assert answer.code == 0, answer.err
    assert re.search(r"test accuracy \d+\.\d\d % on \d+ images", answer.out)
    assert len(re.findall("^(?:data|network|images|training): ", answer.err, re.M)) == 4
    run = Run(out)
    assert [line["epoch"] for line in run.metrics] == [0, 1]
    assert run.recipe.pretrained == "resnet20-cifar10"
    checkpoint = load_checkpoint(out)
    assert checkpoint.classes == ("airplane", "automobile", "bird")
    said = resnetlab("predict", out, next((root / "bird").iterdir()))
    assert said.code == 0, said.err
    assert resnetlab("resume", out).code == 2  # it is finished


def test_wrong_options_are_a_sentence(resnetlab, photos, tmp_path):
    root = photos()
    answer = resnetlab("finetune", root, "--budget", "soon")
    assert (answer.code, answer.out) == (2, "")
    assert "--budget must be a time such as 90s" in answer.err
    answer = resnetlab("finetune", tmp_path / "nowhere")
    assert answer.code == 2
    assert "nowhere" in answer.err
    with pytest.raises(ValueError, match="has no field 'learning_rate'"):
        finetune(root, learning_rate=1)
    shutil.rmtree(root)
