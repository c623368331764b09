"""Exports are proven in their runtime; a planted wrong one leaves no file."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab.compute.turns import seconds_in_turn
from resnetlab.data.images import read_image
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.export import check, job, writers
from resnetlab.export.int8 import require_worthwhile
from resnetlab.export.job import export_network
from resnetlab.inference.deployed import Deployed
from resnetlab.inference.network import load_network
from resnetlab.inference.predictor import Predictor

NETWORK = "resnet20-cifar10"


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """Speed is not what is tested."""
    monkeypatch.setattr(
        check, "seconds_in_turn", lambda works: seconds_in_turn(works, rounds=1, seconds=0.01)
    )
    monkeypatch.setattr(job, "inference_batch_size", lambda size: 4)


@pytest.fixture
def data(samples):
    return {"dataset": "cifar10-sample", "data_dir": samples}


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch", "safetensors"])
def test_formats_are_checked_and_used_like_any_network(format, data, tmp_path):
    options = {} if format == "safetensors" else {"class_maps": True, "input": "float"}
    done = export_network(NETWORK, format=format, out=tmp_path, **options, **data)
    assert (done.check.n, done.check.differ, done.check.top1) == (100, 0, 89.0)
    assert done.check.reference_top1 == 89.0
    assert done.check.largest_difference < 1e-5
    assert {speed.n for speed in done.speeds} == {1, 4}
    card = json.loads(done.path.with_name(f"{done.path.name}.json").read_text())
    folder = done.path.with_name(f"{done.path.name}.golden")
    assert card["classes"][3] == "cat"
    assert card["check"]["differ"] == 0
    assert len(json.loads((folder / "golden.json").read_text())) == 8
    assert not list(tmp_path.glob(".export-partial*"))
    if format == "torch":
        module = torch.export.load(done.path).module()
        assert module(torch.rand(3, 3, 32, 32))[0].sum(1).tolist() == pytest.approx([1, 1, 1])
        return
    result = evaluate(done.path, **data)
    assert (result.n, result.top1) == (100, 89.0)
    predictor = Predictor(done.path, execution="plain")
    golden = json.loads((folder / "golden.json").read_text())
    for answer in golden:
        top = predictor(folder / answer["file"]).top
        assert [name for name, _ in top] == [x["class"] for x in answer["top"]]
        assert [p / 100 for _, p in top] == pytest.approx(
            [x["probability"] for x in answer["top"]], abs=1e-4
        )
    if format != "safetensors":
        images, labels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([3, 5])
        torch.testing.assert_close(
            predictor.backend.class_maps(images, labels),
            Predictor(NETWORK, execution="plain").backend.class_maps(images, labels),
            rtol=1e-4,
            atol=1e-4,
        )
        with pytest.raises(ValueError, match="is exported already"):
            export_network(done.path, out=tmp_path, **data)


@pytest.mark.parametrize("fault", ["normalisation", "temperature of logits", "frozen batch"])
def test_a_wrong_export_is_refused_and_leaves_no_file(fault, data, tmp_path, monkeypatch):
    forward = Deployed.forward

    def wrong(self, images):
        if fault == "normalisation":  # as so many exports have it: pixels not divided by 255
            self.scale.mul_(1.02)
        probabilities, logits = forward(self, images)
        return probabilities, logits / 1.01 if fault == "temperature of logits" else logits

    monkeypatch.setattr(Deployed, "forward", wrong)
    if fault == "frozen batch":
        import onnx

        convert = writers.to_onnx

        def frozen(program, card):
            model = onnx.load_from_string(convert(program, card))
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
            return model.SerializeToString()

        monkeypatch.setattr(writers, "to_onnx", frozen)
    said = "refuses 2 images at once" if fault == "frozen batch" else "logits differ from PyTorch's"
    with pytest.raises(ValueError, match=f"does not answer as the network.*{said}"):
        export_network(NETWORK, out=tmp_path / "out", **data)
    assert not (tmp_path / "out").exists()


def test_a_bundle_answers_without_torch(data, tmp_path):
    """In a fresh environment: onnxruntime, numpy and Pillow alone, and the same pixels as here."""
    bundle = export_network(NETWORK, format="bundle", out=tmp_path / "bundle", **data).path
    (tmp_path / "hide").mkdir()
    for name in ("torch", "filelock"):
        (tmp_path / "hide" / f"{name}.py").write_text("raise ImportError('not in a bundle')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "hide")}

    def run(*words):
        words = [sys.executable, *map(str, words)]
        return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path)

    done = run(bundle / "predict.py", "--check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(", as recorded") == 8
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 60, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    photo.save(tmp_path / "side.jpg", exif=exif)
    code = f"import sys; sys.path.insert(0, {str(bundle)!r}); sys.argv = ['x']\n"
    code += "import predict; from pathlib import Path; import numpy as np\n"
    code += "np.save('pixels.npy', predict.read(Path('side.jpg')))"
    assert run("-c", code).returncode == 0
    wanted = read_image(tmp_path / "side.jpg", load_network(bundle).preprocessing)
    assert np.array_equal(np.load(tmp_path / "pixels.npy")[0], wanted.numpy())
    golden = bundle / "golden" / "golden.json"
    golden.write_text(golden.read_text().replace('"file": "1.png"', '"file": "2.png"'))
    assert run(bundle / "predict.py", "--check").returncode == 1
    assert Predictor(bundle)(bundle / "golden" / "2.png").top
    with pytest.raises(ValueError, match="is not empty"):
        export_network(NETWORK, format="bundle", out=bundle, **data)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_int8(format, data, tmp_path, monkeypatch):
    """Quantised on training images; whether it pays here is judged apart."""
    monkeypatch.setattr(job, "require_worthwhile", lambda *facts: None)
    monkeypatch.setattr(job, "CALIBRATION", 32)
    done = export_network(NETWORK, format=format, int8=True, out=tmp_path, **data)
    assert done.path.name.startswith("resnet20-cifar10-int8.")
    assert done.check.top1 > 80
    assert 0 < done.check.largest_difference < 0.5
    assert done.bytes < 0.5 * 1.1e6
    assert load_network(done.path).card["precision"] == "int8"
    assert {path.suffix for path in tmp_path.iterdir()} <= {
        ".onnx",
        ".xml",
        ".bin",
        ".json",
        ".golden",
    }


def test_int8_that_does_not_pay_says_by_how_much():
    facts = {"runtime": "", "images": "", "n": 1000, "differ": 9, "largest_difference": 0.1}
    fast, slow = (check.Speed(name="OpenVINO (bf16)", n=20, rate=1, ratio=r) for r in (2.0, 1.5))
    worse = check.Check(top1=89.0, reference_top1=89.75, **facts)
    same = check.Check(top1=89.5, reference_top1=90.0, **facts)
    require_worthwhile(same, slow, fast, "x")
    with pytest.raises(ValueError, match=r"falls by 0.75 points, from 89.75 to 89.00 % of 1,000"):
        require_worthwhile(worse, slow, fast, "x")
    with pytest.raises(ValueError, match=r"0.75 times the speed of OpenVINO \(bf16\) here, 20"):
        require_worthwhile(same, fast, slow, "x")


def test_images_without_labels(tmp_path, data):
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    done = export_network(NETWORK, out=tmp_path / "out", images=[tmp_path / "red.png"])
    assert (done.check.n, done.check.top1) == (1, None)
    with pytest.raises(ValueError, match="`int8` is judged by its accuracy"):
        export_network(NETWORK, out=tmp_path, images=[tmp_path / "red.png"], int8=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "tflite"}, "`format` must be one of onnx, openvino"),
        ({"format": "torch", "int8": True}, "`int8` is for onnx, openvino and bundle, not for"),
        ({"format": "safetensors", "input": "float"}, "safetensors holds weights and no graph"),
        ({"n": 0}, "`n` must be at least 1, not 0"),
    ],
)
def test_wrong_words(options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        export_network(NETWORK, out=tmp_path, **options)
