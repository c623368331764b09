"""Weights in PyTorch, ONNX Runtime and OpenVINO, and the choice among them."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from resnetlab.inference import choice
from resnetlab.inference.choice import BySize, open_backend
from resnetlab.inference.deployed import converted, export_program, to_onnx
from resnetlab.inference.network import load_network
from resnetlab.inference.predictor import Predictor
from resnetlab.weights.checkpoint import load_checkpoint


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A cache of its own, shared by this file's tests: each conversion takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNETLAB_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def network():
    return load_checkpoint("resnet20-cifar10")


@pytest.fixture(scope="module")
def reference(network):
    return open_backend(network, "torch", "plain")


def pixels(n, channels=3, size=32):
    generator = torch.Generator().manual_seed(n)
    return torch.randint(256, (n, channels, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_runtime_gives_pytorchs_logits_and_maps(network, reference, runtime):
    backend = open_backend(network, runtime, "plain")
    for n in (1, 2, 3, 16):
        torch.testing.assert_close(
            backend.logits(pixels(n)), reference.logits(pixels(n)), rtol=1e-4, atol=1e-4
        )
    labels = torch.tensor([5, 0, 9])
    torch.testing.assert_close(
        backend.class_maps(pixels(3), labels), reference.class_maps(pixels(3), labels)
    )
    for fact in ("classes", "preprocessing", "temperature", "threshold"):
        assert getattr(backend, fact) == getattr(network, fact)
    channels_last = pixels(4).contiguous(memory_format=torch.channels_last)
    assert torch.equal(backend.logits(channels_last), backend.logits(pixels(4)))


def test_a_signal_finds_its_stack_after_openvino_is_gone():
    """What a measurement of ``auto`` leaves behind: two backends, freed as they were made."""
    script = (
        "import signal, torch\n"
        "from resnetlab.inference.choice import open_backend\n"
        "from resnetlab.weights.checkpoint import load_checkpoint\n"
        "network = load_checkpoint('resnet20-cifar10')\n"
        "backends = [open_backend(network, 'openvino', 'plain') for _ in range(2)]\n"
        "[each.logits(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)) for each in backends]\n"
        "del backends[0], backends[0]\n"
        "signal.signal(signal.SIGINT, lambda *_: print('answered', flush=True))\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr


def test_openvino_answers_the_same_when_a_size_comes_often(network, reference):
    backend = open_backend(network, "openvino", "plain")
    for _ in range(9):
        for n in (2, 5, 7):
            torch.testing.assert_close(
                backend.logits(pixels(n)), reference.logits(pixels(n)), rtol=1e-4, atol=1e-4
            )


def test_precision_and_threads_are_the_executions(network, reference):
    backend = open_backend(network, "openvino", "bf16,threads=1")
    assert backend.name == "OpenVINO (bf16, threads=1)"
    difference = (backend.logits(pixels(16)) - reference.logits(pixels(16))).abs().max()
    assert 1e-3 < difference < 0.5
    assert open_backend(network, "onnx", "threads=1").name == "ONNX Runtime (fp32, threads=1)"


def test_threads_respect_the_quota(network, monkeypatch, use_threads):
    use_threads(8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("resnetlab.compute.machine.available_cores", lambda: 2)
    for runtime in ("onnx", "openvino"):
        assert "threads=2" in open_backend(network, runtime, "plain").name


def test_the_fastest_is_measured_once(network, monkeypatch, use_threads):
    """For single images and for batches; what is remembered is not measured again."""
    measured = []

    def rates(backends, preprocessing, n):
        measured.append(n)
        best = "onnx" if n == 1 else "openvino, fp32"
        return {name: 2.0 if name == best else 1.0 for name in backends}

    monkeypatch.setattr(choice, "_rates", rates)
    said = []
    backend = open_backend(network, "auto", "channels_last", report=said.append)
    assert isinstance(backend, BySize)
    assert backend.name.startswith("OpenVINO (fp32")
    assert "single images: ONNX Runtime" in backend.name
    assert measured == [1, 256]
    assert "256 at once: torch, fp32 1.0, onnx 1.0, openvino, fp32 2.0" in said[-1]
    again = open_backend(network, "auto", "channels_last", report=said.append)
    assert (again.name, len(measured), len(said)) == (backend.name, 2, 3)
    open_backend(network, "auto", "channels_last,threads=2", report=said.append)
    assert len(measured) == 4


def test_real_rates_choose_one_of_the_candidates(network, reference, monkeypatch):
    monkeypatch.setattr(choice, "seconds_in_turn", _briefly(choice.seconds_in_turn))
    monkeypatch.setattr(choice, "inference_batch_size", lambda size: 2)
    backend = open_backend(network, "auto", "plain", report=lambda line: None)
    torch.testing.assert_close(
        backend.logits(pixels(2)), reference.logits(pixels(2)), rtol=1e-4, atol=1e-4
    )


def _briefly(measure):
    return lambda works, rounds: measure(works, rounds=1, seconds=0.01)


def test_the_memory_may_be_damaged(network, monkeypatch, tmp_path):
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "_candidates", lambda network, how: [_TORCH])
    monkeypatch.setattr(
        choice, "_rates", lambda backends, preprocessing, n: dict.fromkeys(backends, 1.0)
    )
    _TORCH = choice._Candidate(name="torch", execution=choice.inference_execution("plain"))
    (tmp_path / "backends.json").write_text("[1")
    assert open_backend(network, "auto", "plain", report=print).name.startswith("PyTorch")
    assert len(json.loads((tmp_path / "backends.json").read_text())) == 1


def test_a_conversion_is_kept_and_a_damaged_one_is_made_again(network, monkeypatch, tmp_path):
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path))
    calls = []

    def convert(program, card):
        calls.append(card)
        return b"converted"

    monkeypatch.setattr("resnetlab.inference.deployed.export_program", lambda checkpoint: None)
    monkeypatch.setattr("resnetlab.inference.deployed.to_onnx", convert)
    assert converted(network) == converted(network) == b"converted"
    assert len(calls) == 1
    (file,) = (tmp_path / "converted").iterdir()
    file.write_bytes(b"x" + file.read_bytes()[1:])
    assert converted(network) == b"converted"
    assert len(calls) == 2
    other = replace(network, weights={k: v + 1 for k, v in network.weights.items()})
    converted(other)
    assert len(calls) == 3


def test_wrong_words(network):
    with pytest.raises(ValueError, match="`backend` must be one of auto, torch, onnx, openvino"):
        Predictor(network, backend="tensorrt")
    with pytest.raises(ValueError, match="`backend` is for a network that is yet to be loaded"):
        Predictor(open_backend(network), backend="onnx")


def test_what_is_not_installed_is_said(network, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"onnxruntime: pip install 'resnetlab\[export\]'"):
        open_backend(network, "onnx")


def test_a_foreign_onnx_file_is_refused(network, tmp_path):
    import onnx

    model = onnx.load_from_string(converted(network))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="has no record of its classes and preprocessing"):
        load_network(tmp_path / "foreign.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"broken.onnx cannot be loaded"):
        load_network(tmp_path / "broken.onnx")


@pytest.mark.parametrize("name", ["fast_resnet8"])
def test_a_network_that_pools_by_the_maximum(network, name):
    from resnetlab.models.resnet import create_model

    torch.manual_seed(0)
    model = create_model(name, in_channels=1).eval()
    other = replace(
        network,
        architecture=model.architecture,
        weights=model.state_dict(),
        preprocessing=replace(network.preprocessing, mean=(0.3,), std=(0.2,), size=28),
        temperature=1.7,
    )
    program = export_program(other, input="float", class_maps=True)
    assert b"class_maps" in to_onnx(program, {})
    images = pixels(3, 1, 28)
    probabilities, logits, maps = program.module()(images / 255)
    reference = open_backend(other, "torch", "plain")
    wanted = reference.logits(images)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(probabilities, (wanted / 1.7).softmax(1), rtol=1e-4, atol=1e-5)
    labels = torch.tensor([1, 2, 3])
    torch.testing.assert_close(
        maps[range(3), labels], reference.class_maps(images, labels), rtol=1e-4, atol=1e-4
    )
