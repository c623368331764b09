"""MindSpore's checkpoints; the fixtures are by fixtures/make_mindspore.py, MindSpore 2.10.0."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from resnetlab.models.resnet import create_model
from resnetlab.weights import foreign, mindspore
from resnetlab.weights.checkpoint import load_checkpoint
from resnetlab.weights.usual import IMAGENET

FIXTURES = Path(__file__).parent / "fixtures"


class Same(nn.Module):
    """What pad_mode="same" does to even sizes: zeros (or -inf) after the image, not around it."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module, self.kernel = module, module.kernel_size
        self.kernel = self.kernel if isinstance(self.kernel, int) else self.kernel[0]
        module.padding = 0

    def forward(self, x: Tensor) -> Tensor:
        total = (-(-x.shape[-1] // 2) - 1) * 2 + self.kernel - x.shape[-1]
        value = float("-inf") if isinstance(self.module, nn.MaxPool2d) else 0.0
        before, after = total // 2, total - total // 2
        return self.module(F.pad(x, (before, after, before, after), value=value))


def test_mindspore_network_computes_the_same():
    outputs = np.load(FIXTURES / "mindspore_outputs.npz")
    weights = load_checkpoint(FIXTURES / "mindspore_zoo.ckpt")
    assert weights.origin.startswith("MindSpore checkpoint, bottleneck network of depths 1-2-1-1")
    model = weights.build()
    for size in (64, 65):
        ours = model(torch.from_numpy(outputs[f"input{size}"])).detach().numpy()
        np.testing.assert_allclose(ours, outputs[f"zoo{size}"], atol=1e-5, rtol=1e-5)


def test_mindspore_same_padding_is_reported_and_agrees_at_32k_plus_1_pixels():
    outputs = np.load(FIXTURES / "mindspore_outputs.npz")
    weights = load_checkpoint(FIXTURES / "mindspore_tutorial.ckpt")
    text = "\n".join(weights.notes)
    assert "32k+1 pixels (such as 225)" in text
    assert "of MindSpore's optimizer" in text
    model = weights.build()

    def difference(size):
        ours = model(torch.from_numpy(outputs[f"input{size}"])).detach().numpy()
        return np.abs(ours - outputs[f"tutorial{size}"]).max()

    assert difference(65) < 1e-4  # outputs of up to 24
    assert difference(64) > 0.1
    for name, module in list(model.named_modules()):
        strided = isinstance(module, nn.Conv2d) and module.stride[0] == 2
        if (strided and module.kernel_size[0] > 1) or isinstance(module, nn.MaxPool2d):
            model.set_submodule(name, Same(module))
    assert difference(64) < 1e-4  # so the padding was all that differed


def test_mindspore_imagenet_network_gets_a_size_at_which_paddings_agree(tmp_path):
    state = create_model("resnet18", widths=(4, 4, 4, 4)).state_dict()
    state["bn1.gamma"] = state.pop("bn1.weight")
    safetensors.torch.save_file(state, tmp_path / "x.safetensors")
    weights = load_checkpoint(tmp_path / "x.safetensors")
    assert (weights.preprocessing.mean, weights.preprocessing.size) == (IMAGENET[0], 225)
    assert weights.origin.startswith("MindSpore checkpoint")


def _protobuf(number: int, content: bytes) -> bytes:
    size = io.BytesIO()
    rest = len(content)
    while rest > 127:
        size.write(bytes([rest & 127 | 128]))
        rest >>= 7
    return bytes([number << 3 | 2]) + size.getvalue() + bytes([rest]) + content


def _entry(tag: str, dims: bytes, kind: str, content: bytes) -> bytes:
    tensor = dims + _protobuf(2, kind.encode()) + _protobuf(3, content)
    return _protobuf(1, _protobuf(1, tag.encode()) + _protobuf(2, tensor))


def test_mindspore_reader_joins_slices_and_knows_number_types(tmp_path):
    values = np.arange(300, dtype="f4")
    dims = b"\x08\x03\x08\x64"  # 3, 100
    content = _entry("w", dims, "Float32", values[:200].tobytes())
    content += _entry("w", dims, "Float32", values[200:].tobytes())
    content += _entry("h", b"\x0a\x01\x02", "Float16", np.ones(2, "f2").tobytes())  # packed
    content += _entry("s", b"\x08\x00", "Float32", np.float32(2.5).tobytes())  # a scalar's dims
    content += _entry("text", b"", "str", b"abcd")
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    tensors = mindspore.read_checkpoint(path)
    assert list(tensors) == ["w", "h", "s"]
    assert torch.equal(tensors["w"], torch.arange(300.0).reshape(3, 100))
    assert tensors["h"].dtype == torch.float16
    assert tensors["s"] == 2.5
    path.write_bytes(_entry("w", dims, "Float32", values[:200].tobytes()))
    with pytest.raises(ValueError, match="800 bytes for a Float32 tensor"):
        mindspore.read_checkpoint(path)
    minus_one = b"\x08" + b"\xff" * 9 + b"\x01"
    path.write_bytes(_entry("w", 2 * minus_one, "Float32", values[:1].tobytes()))
    with pytest.raises(ValueError, match=r"4 bytes for a Float32 tensor of shape \[-1, -1\]"):
        mindspore.read_checkpoint(path)


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=60))
def test_mindspore_reader_survives_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.ckpt"
    path.write_bytes(b"\n" + content)
    with contextlib.suppress(ValueError):  # anything else, or no end, is a fault
        mindspore.read_checkpoint(path)


def test_mindvision_and_mindcv_names():
    """Their layouts as published: features.0/1 of one cell, head.dense; classifier."""
    state = create_model("resnet20", shortcut="B").state_dict()
    norms = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean"}
    norms["running_var"] = "moving_variance"

    def theirs(name: str, vision: bool) -> str:
        *path, layer, last = name.split(".")
        if layer == "fc":
            return f"{'head.dense' if vision else 'classifier'}.{last}"
        if layer.startswith("bn") or (path and path[-1] == "downsample" and layer == "1"):
            last = norms[last]
        if vision and layer[:-1] in ("conv", "bn"):
            layer = f"conv{layer[-1]}.features.{'0' if layer[:-1] == 'conv' else '1'}"
        joined = ".".join([*path, layer, last])
        joined = joined.replace("downsample.", "down_sample." + "features." * vision)
        return f"backbone.{joined}" if vision else joined

    kept = {k: v for k, v in state.items() if "num_batches" not in k}
    for vision in (True, False):
        translated, *_ = foreign.translate({theirs(k, vision): v for k, v in kept.items()})
        assert translated.keys() == kept.keys()
        assert all(torch.equal(translated[k], v) for k, v in kept.items())
