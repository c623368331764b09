import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from resnetlab.compute.execution import Execution
from resnetlab.data.catalogue import load_dataset
from resnetlab.data.find import find_images
from resnetlab.data.images import normalize
from resnetlab.errors import UserError
from resnetlab.inference.predictor import Predictor, predict
from resnetlab.models.resnet import create_model
from resnetlab.weights.checkpoint import Checkpoint

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
DATASETS = ("cifar10-sample", "fashion-mnist-sample")


def sample(name="cifar10-sample"):
    return load_dataset(name, "test", data_dir=SAMPLES)


def checkpoint(name="cifar10-sample"):
    """An untrained network whose answers differ between images."""
    torch.manual_seed(0)
    dataset = sample(name)
    model = create_model("resnet20", in_channels=dataset.preprocessing.channels)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1
    model(normalize(dataset.images, dataset.preprocessing))  # sets the running statistics
    return Checkpoint(
        architecture=model.architecture,
        weights=model.state_dict(),
        classes=dataset.classes,
        preprocessing=dataset.preprocessing,
        dataset=name,
    )


def save_pngs(images, folder):
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:03}.png" for i in range(len(images))]
    for pixels, path in zip(images, paths, strict=True):
        pixels = pixels.permute(1, 2, 0).squeeze(2).numpy()
        Image.fromarray(pixels).save(path)
    return paths


@pytest.mark.parametrize("name", DATASETS)
def test_files_give_the_pixels_and_logits_of_what_is_stored(name, tmp_path):
    dataset, network = sample(name), checkpoint(name)
    paths = save_pngs(dataset.images[:7], tmp_path)
    predictor = Predictor(network, execution="plain")

    pixels = torch.stack([predictor.read(path) for path in paths])
    assert torch.equal(pixels, dataset.images[:7])
    with torch.no_grad():
        plain = network.build()(normalize(dataset.images[:7], dataset.preprocessing))
    torch.testing.assert_close(predictor.logits(pixels), plain, rtol=1e-4, atol=1e-5)

    percent = 100 * plain.double().softmax(1)
    for prediction, row in zip(predictor.predict(paths), percent, strict=True):
        best = row.topk(5)
        assert [name for name, _ in prediction.top] == [dataset.classes[i] for i in best.indices]
        assert [p for _, p in prediction.top] == pytest.approx(best.values.tolist(), rel=1e-4)


def test_order_is_kept_whatever_the_batches_and_the_speed_of_decoding(tmp_path, monkeypatch):
    paths = save_pngs(sample().images[:20], tmp_path)
    expected = predict(checkpoint(), paths, topk=10, execution="plain")
    assert [prediction.path for prediction in expected] == [str(path) for path in paths]
    assert len({prediction.top[0][0] for prediction in expected}) > 1

    later, read = threading.Event(), Predictor.read

    def slow_first(self, image):
        if image == paths[0]:  # waits until another file is decoded: needs a second thread
            assert later.wait(10)
        later.set()
        return read(self, image)

    monkeypatch.setattr(Predictor, "read", slow_first)
    monkeypatch.setattr("resnetlab.inference.predictor.available_cores", lambda: 2)
    for batch_size in (1, 3, 64):
        later.clear()
        result = predict(checkpoint(), paths, topk=10, batch_size=batch_size, execution="plain")
        assert [p.path for p in result] == [p.path for p in expected]
        for one, other in zip(result, expected, strict=True):
            assert [p for _, p in one.top] == pytest.approx([p for _, p in other.top], abs=1e-3)


def test_decoding_runs_ahead_of_the_network_but_not_far(tmp_path, monkeypatch):
    paths = save_pngs(sample().images[:40], tmp_path)
    taken = []

    def source():
        for path in paths:
            taken.append(path)
            yield path

    predictions = Predictor(checkpoint()).predict(source(), batch_size=5)
    next(predictions)
    assert 5 < len(taken) <= 10
    predictions.close()


def test_the_next_batch_is_decoded_while_the_network_computes(tmp_path, monkeypatch):
    paths = save_pngs(sample().images[:6], tmp_path)
    predictor, decoded = Predictor(checkpoint()), threading.Event()
    read, logits = predictor.read, predictor.logits

    def note(image):
        if image == paths[3]:
            decoded.set()
        return read(image)

    def wait_for_the_next(images):
        assert decoded.wait(10)
        return logits(images)

    monkeypatch.setattr(predictor, "read", note)
    monkeypatch.setattr(predictor, "logits", wait_for_the_next)
    assert len(list(predictor.predict(paths, batch_size=3))) == 6


def test_unreadable_files_are_named_and_the_others_predicted(tmp_path):
    paths = save_pngs(sample().images[:3], tmp_path / "images")
    broken, missing = tmp_path / "notes.png", tmp_path / "nowhere" / "missing.png"
    broken.write_text("not an image")
    truncated = tmp_path / "half.png"
    truncated.write_bytes(paths[0].read_bytes()[:300])
    result = predict(checkpoint(), [broken, tmp_path / "images", missing, truncated], batch_size=2)

    assert [p.path for p in result] == [str(p) for p in (broken, *paths, missing, truncated)]
    assert [bool(p.error) for p in result] == [True, False, False, False, True, True]
    for prediction in result:
        assert bool(prediction.top) != bool(prediction.error)
        if prediction.error:
            assert f"cannot read {prediction.path}: " in prediction.error
    assert "No such file" in str(result[4].error)


def test_a_batch_of_unreadable_files_alone(tmp_path):
    (tmp_path / "a.png").write_text("")
    (result,) = predict(checkpoint(), tmp_path)
    assert result.error


def test_folders_are_searched_in_depth_sorted_by_suffix_and_named_files_always_tried(tmp_path):
    names = ("b.png", "a/z.JPG", "a/a.webp", "c.txt", ".hidden.png", ".cache/x.png", "._b.png")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = find_images([tmp_path / "c.txt", tmp_path])
    assert [str(p.relative_to(tmp_path)) for p in found] == [
        "c.txt",
        "a/a.webp",
        "a/z.JPG",
        "b.png",
    ]

    (pixels,) = save_pngs(sample().images[:1], tmp_path / "pixels")
    image = pixels.rename(tmp_path / "image.dat")
    assert predict(checkpoint(), image)[0].top


def test_images_below_a_hidden_folder_that_is_named_are_found(tmp_path):
    save_pngs(sample().images[:2], tmp_path / ".hidden")
    assert len(find_images([tmp_path / ".hidden"])) == 2


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"holds no images: .*\.png"):
        predict(checkpoint(), [tmp_path])


@pytest.mark.parametrize("option", ["topk", "batch_size"])
def test_impossible_numbers_are_errors_at_once(option):
    with pytest.raises(ValueError, match=f"`{option}` must be at least 1, not 0"):
        Predictor(checkpoint()).predict([], **{option: 0})


def test_topk_is_limited_to_the_classes(tmp_path):
    paths = save_pngs(sample().images[:2], tmp_path)
    for prediction in predict(checkpoint(), paths, topk=99):
        assert len({name for name, _ in prediction.top}) == 10
        assert sum(p for _, p in prediction.top) == pytest.approx(100)
        probabilities = [p for _, p in prediction.top]
        assert probabilities == sorted(probabilities, reverse=True)


def test_bytes_pillow_images_and_a_run_folder(tmp_path):
    dataset, network = sample(), checkpoint()
    network.save(tmp_path / "run" / "best.pt")
    (path,) = save_pngs(dataset.images[:1], tmp_path)
    predictor = Predictor(tmp_path / "run")
    with Image.open(path) as image:
        results = list(predictor.predict([path, path.read_bytes(), image, b"nonsense"]))
    assert [r.path for r in results] == [str(path), "image 2", "image 3", "image 4"]
    assert results[0].top == results[1].top == results[2].top
    assert predictor(path.read_bytes(), topk=2).top[1][0] == results[0].top[1][0]
    with pytest.raises(ValueError, match="cannot read the image"):
        predictor(b"nonsense")


def test_predict_takes_whatever_holds_an_image(tmp_path):
    """A path, a folder, bytes, a Pillow image, or a list of these."""
    (path,) = save_pngs(sample().images[:1], tmp_path / "folder")
    (wanted,) = predict(checkpoint(), path)
    with Image.open(path) as image:
        for source in (str(path), tmp_path / "folder", path.read_bytes(), image):
            (one,) = predict(checkpoint(), source)
            assert one.top == wanted.top
        mixed = predict(checkpoint(), [image, tmp_path / "folder", path.read_bytes()])
    assert [p.path for p in mixed] == ["image 1", str(path), "image 3"]
    assert [p.top for p in mixed] == [wanted.top] * 3


class Dark:
    """A backend that is no network: sure of "dark" where the first pixel is."""

    name = "by hand"
    classes = ("light", "dark")
    preprocessing = sample().preprocessing
    temperature = 1.0
    threshold = None

    def logits(self, images):
        dark = 1 - images[:, 0, 0, 0] / 255
        return torch.stack([torch.zeros(len(images)), 9 * dark], 1)


def test_the_backend_is_the_only_door(tmp_path):
    black, white = (Image.new("RGB", (9, 5), color) for color in ("black", "white"))
    dark, light = predict(Dark(), [black, white], topk=1)
    assert dark.top[0] == ("dark", pytest.approx(100 / (1 + math.exp(-9))))
    assert light.top[0][1] == 50


def test_fast_execution_changes_the_numbers_little(tmp_path):
    images = sample().images[:8]
    plain = Predictor(checkpoint(), execution="plain").logits(images)
    fast = Predictor(checkpoint(), execution="bf16,channels_last")
    assert fast.backend.execution == Execution(precision="bf16", layout="channels_last")
    assert fast.logits(images).dtype == torch.float32
    assert not torch.equal(fast.logits(images), plain)
    assert torch.allclose(fast.logits(images), plain, atol=0.05 * plain.abs().max().item())


def test_the_checkpoint_that_is_given_stays_as_it_is():
    network = checkpoint()
    before = {key: value.clone() for key, value in network.weights.items()}
    Predictor(network, execution="bf16,channels_last").logits(sample().images[:2])
    after = network.weights
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert network.weights["conv1.weight"].is_contiguous()


def test_confidence_is_that_of_the_checkpoints_temperature():
    network, images = checkpoint(), sample().images[:5]
    plain, cool = (
        Predictor(replace(network, temperature=t), execution="plain") for t in (1.0, 2.5)
    )
    logits = plain.backend.logits(images)
    wanted = 100 * (logits.double() / 2.5).softmax(1).max(1).values
    found = [top[0][1] for top in cool.name_top(cool.backend.logits(images))]
    assert found == pytest.approx(wanted.tolist())


def test_an_unsure_answer_is_none_of_these():
    grey = [Image.new("L", (8, 8), 250), Image.new("L", (8, 8), 0)]
    unsure, sure = (answer.top[0][1] for answer in Predictor(Dark()).predict(grey))
    assert 50 < unsure < 60
    assert sure > 99

    def found(backend, **options):
        return [p.none_of_these for p in Predictor(backend, **options).predict(grey)]

    assert found(Dark()) == [False, False]
    assert found(Dark(), min_confidence=60) == [True, False]
    own = Dark()
    own.threshold = 0.6
    assert found(own) == [True, False]
    assert found(own, min_confidence=0) == [False, False]
    assert found(own, min_confidence=100) == [True, True]
    with pytest.raises(UserError, match="`min_confidence` must be from 0 to 100 %, not 101"):
        Predictor(own, min_confidence=101)
