import copy

import pytest
import torch
from torch import nn

from resnetlab.compute import machine
from resnetlab.compute.execution import PLAIN, Execution
from resnetlab.inference.backends import TorchBackend
from resnetlab.inference.prepare import (
    inference_batch_size,
    inference_execution,
    ready_for_inference,
)
from resnetlab.models.resnet import create_model
from resnetlab.preprocessing import Preprocessing

# Batch norms that stay: those after an addition, and after the stem of ResNet-D, a sequence.
NETWORKS = [
    ("resnet20", {}, 0),
    ("resnet20", {"shortcut": "B"}, 0),
    ("plain20", {}, 0),
    ("resnet18", {"shortcut": "C"}, 0),
    ("resnet50_v1", {"depths": (1, 2, 1, 1)}, 0),
    ("resnext50_32x4d", {"depths": (1, 1, 1, 1)}, 0),
    ("resnet50d", {"depths": (1, 1, 1, 1)}, 1),
    ("preresnet110", {"depths": (2, 2, 2)}, 6 + 1),
    ("fast_resnet8", {}, 3),
    ("preresnet164", {"depths": (2, 2, 2), "shortcut": "B"}, 6 + 1),
]


def trained(name, **fields):
    """A network whose batch norms have statistics and weights, as after a training."""
    torch.manual_seed(0)
    model = create_model(name, **fields)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    model(torch.randn(8, 3, 64, 64))
    return model.eval()


PREPROCESSING = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, size=64)


def pixels(n=4, size=64):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=generator)


def logits(model, execution=PLAIN):
    backend = TorchBackend(
        model=model, classes=(), preprocessing=PREPROCESSING, execution=execution
    )
    return backend.logits(pixels())


@pytest.mark.parametrize(("name", "fields", "left"), NETWORKS)
def test_a_network_that_is_ready_gives_the_same_answers(name, fields, left):
    model = trained(name, **fields)
    state, plain = copy.deepcopy(model.state_dict()), logits(model)

    ready = ready_for_inference(model, PLAIN)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in ready.modules()) == left
    torch.testing.assert_close(
        logits(ready), plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max())
    )

    assert not torch.equal(plain[0], plain[1])
    for key, value in model.state_dict().items():  # the network that was given is as it was
        assert torch.equal(value, state[key])


def test_weights_are_rounded_once_to_what_autocast_would_round_them_to():
    model, execution = trained("resnet20"), Execution.parse("bf16,channels_last")
    ready = ready_for_inference(model, execution)
    assert ready.conv1.weight.dtype == ready.fc.weight.dtype == torch.bfloat16
    folded = ready_for_inference(model, Execution.parse("channels_last"))
    fast = logits(ready, execution)
    assert fast.dtype == torch.float32
    assert torch.equal(fast, logits(folded, execution))


def test_what_stays_of_the_batch_norms_stays_in_fp32():
    ready = ready_for_inference(trained("preresnet110", depths=(1, 1, 1)), Execution.parse("bf16"))
    assert ready.bn.running_var.dtype == ready.bn.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("gpu", "bf16", "words"),
    [
        (False, True, "bf16,channels_last"),
        (False, False, "fp32,channels_last"),
        (True, True, "cuda,bf16,channels_last"),
        (True, False, "cuda,fp16,channels_last"),
    ],
)
def test_auto_takes_what_the_machine_has(monkeypatch, gpu, bf16, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    monkeypatch.setattr(machine, "has_fast_bf16", lambda: bf16)
    assert inference_execution() == inference_execution("auto") == Execution.parse(words)


def test_an_execution_may_be_a_record_or_words():
    assert inference_execution("plain") is inference_execution(PLAIN) is PLAIN
    assert inference_execution("bf16,threads=2") == Execution(precision="bf16", threads=2)
    with pytest.raises(ValueError, match="no word 'atuo'; did you mean 'auto'"):
        inference_execution("atuo")


@pytest.mark.parametrize("mode", ["fused", "winograd"])
def test_a_mode_of_training_alone_is_refused(mode):
    with pytest.raises(ValueError, match=f"{mode} is for training; take bf16,channels_last"):
        inference_execution(f"bf16,channels_last,{mode}")


def test_batches_are_large_and_fit_into_memory():
    sizes = (28, 32, 64, 96, 224, 2000)
    assert [inference_batch_size(size) for size in sizes] == [256, 256, 256, 113, 20, 1]
