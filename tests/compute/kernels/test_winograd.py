import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from resnetlab.compute import compiled
from resnetlab.compute.execution import Execution
from resnetlab.compute.kernels.fused import fuse
from resnetlab.compute.kernels.winograd import convolve, use_winograd
from resnetlab.compute.machine import compiler, has_fast_bf16
from resnetlab.models.resnet import create_model

pytestmark = pytest.mark.skipif(
    compiler() is None or not has_fast_bf16(),
    reason="winograd.cpp needs a C++ compiler and AVX-512 BF16",
)


def channels_last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last)


def images(*shape):
    return channels_last(torch.randn(shape).bfloat16()).requires_grad_()


def convolution(inputs, outputs, stride=1):
    return channels_last_(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False))


def channels_last_(module):
    return module.to(memory_format=torch.channels_last)


def error(ours, exact):
    return ((ours.double() - exact).norm() / exact.norm()).item()


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 30),
    inputs=st.sampled_from([16, 24, 32, 48, 64, 96, 128]),
    outputs=st.sampled_from([16, 32, 48, 64, 96, 192]),
    height=st.integers(1, 11),
    width=st.one_of(st.integers(1, 23), st.sampled_from([97, 130])),
    reduction=st.sampled_from(["none", "pool", "stride"]),
)
def test_it_is_the_convolution_and_its_gradients(n, inputs, outputs, height, width, reduction):
    pool = reduction == "pool"
    assume(not pool or min(height, width) > 1)
    torch.manual_seed(n * inputs + height)
    layer = convolution(inputs, outputs, 2 if reduction == "stride" else 1)
    exact = copy.deepcopy(layer).double()
    x = images(n, inputs, height, width)
    leaf = x.detach().double().requires_grad_()

    out, wanted = convolve(layer, x, pool=pool), exact(leaf)
    if pool:  # where two are nearly the same, either may win: take ours
        full = convolve(layer, x)
        assert torch.equal(out, nn.functional.max_pool2d(full, 2))
        winners = nn.functional.max_pool2d(full.float(), 2, return_indices=True)[1]
        wanted = wanted.flatten(2).gather(2, winners.flatten(2)).view(out.shape)
    direct = max(height, width) <= 2 and reduction != "stride"
    node = out.grad_fn.next_functions[0][0] if direct and pool else out.grad_fn
    assert type(node).__name__ == ("PermuteBackward0" if direct else "_ConvolutionBackward")
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(out.shape).bfloat16()
    out.backward(gradient)
    wanted.backward(gradient.double())
    # With direct products bf16's own, 0.0023; random data of so few values scatter about 0.012.
    most = 0.01 if direct else 0.03
    assert error(out, wanted) < most
    assert error(x.grad, leaf.grad) < most
    assert error(layer.weight.grad, exact.weight.grad) < most


@pytest.mark.parametrize(("n", "channels", "size"), [(65, 16, 32), (33, 192, 16)])
def test_gradient_of_filters_in_several_chunks(n, channels, size):
    torch.manual_seed(0)
    layer, x = convolution(channels, channels), images(n, channels, size, size).detach()
    gradient = torch.randn(x.shape).bfloat16()
    convolve(layer, x).backward(gradient)
    exact = torch.ops.aten.convolution_backward(
        gradient.float(), x.float(), layer.weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1,
        [False, True, False],
    )[1]  # fmt: skip
    assert error(layer.weight.grad, exact.double()) < 0.013


def test_pooling_after_a_stride_is_pytorchs():
    layer, x = convolution(32, 32, 2), images(2, 32, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert convolve(layer, x, pool=True).shape == (2, 32, 2, 2)


def test_the_error_is_that_of_its_points():
    """Lavin's 0, 1, -1, 2, -2 would give 0.02; bf16 alone 0.0023."""
    torch.manual_seed(0)
    layer, x = convolution(64, 64), images(32, 64, 16, 16)
    exact = nn.functional.conv2d(x.double(), layer.weight.double(), padding=1)
    assert 0.0023 < error(convolve(layer, x), exact) < 0.013


def test_an_image_is_moved_by_each_place_of_the_filter():
    """A filter of a single one: nothing may be turned or exchanged."""
    x = images(2, 32, 9, 13)
    for row in range(3):
        for column in range(3):
            layer = convolution(32, 32)
            nn.init.zeros_(layer.weight)
            with torch.no_grad():
                layer.weight[:, :, row, column] = torch.eye(32).flip(0)
            wanted = nn.functional.conv2d(x.float(), layer.weight, padding=1).double()
            assert error(convolve(layer, x), wanted) < 0.03


@pytest.mark.parametrize(
    ("name", "convolutions"),
    [
        ("resnet20", 18),
        ("resnet18", 13 - 3),  # whose last planes are 2x2, which one product computes
        ("resnet50", 13 - 2),
        ("fast_resnet8", 6),
        ("preresnet110", 6),
    ],
)
def test_network_learns_as_without(name, convolutions, gradient, operations):
    """As a training computes: norms fused, then this."""
    torch.manual_seed(0)
    execution = Execution.parse("bf16,channels_last,winograd")
    changes = {"depths": (1, 1, 1), "block": "basic"} if name == "preresnet110" else {}
    plain = create_model(name, num_classes=10, **changes)
    execution.place(plain)
    ours, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    fuse(ours)
    use_winograd(ours)
    x = channels_last(torch.randn(16, 3, 64, 64))
    with execution.autocast():
        used = operations(copy.deepcopy(ours)(x))
    assert used["_ConvolutionBackward"] == convolutions
    assert "MaxPool2DWithIndicesBackward0" not in used or name.startswith(("resnet18", "resnet50"))
    wanted = gradient(exact, x.double())
    errors = [(gradient(m, x, execution) - wanted).norm() / wanted.norm() for m in (plain, ours)]
    assert errors[1] <= 3 * errors[0]
    assert list(ours.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("name", ["resnet18", "fast_resnet8"])
def test_evaluation_is_untouched(name):
    plain = channels_last_(create_model(name).eval())
    model = copy.deepcopy(plain)
    use_winograd(model)
    x = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert torch.equal(model(x), plain(x))


def test_pooling_nothing_and_no_images_are_pytorchs_to_judge():
    layer = convolution(32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError, match="too small"):
            convolve(layer, images(2, 32, 1, 5), pool=True)
        convolve(layer, images(0, 32, 5, 5)).sum().backward()
    assert not layer.weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_does_not_fit_is_computed_as_ever(dtype):
    """fp32, or NCHW."""
    layer = nn.Conv2d(32, 32, 3, padding=1, bias=False).to(dtype)
    x = torch.randn(2, 32, 8, 8, dtype=dtype)
    usual = nn.Conv2d.forward(layer, x)
    assert torch.equal(convolve(layer, x), usual)
    assert torch.equal(convolve(layer, x, pool=True), nn.functional.max_pool2d(usual, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": 2, "in_channels": 64},
        {"stride": 3},
        {"stride": (1, 2)},
        {"kernel_size": 1, "padding": 0},
        {"padding": 0},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
        {"bias": True},
        {"in_channels": 12},
        {"out_channels": 40},
        {"padding_mode": "reflect"},
    ],
)
def test_other_convolutions_stay(changes):
    usual = {"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 1, "bias": False}
    model = nn.Sequential(nn.Conv2d(**usual | changes), nn.Conv2d(**usual))
    use_winograd(model)
    assert ["forward" in vars(layer) for layer in model] == [False, True]


@pytest.mark.parametrize(("threads", "channels"), [(1, 64), (3, 64), (3, 192)])
def test_repeats_to_the_bit(threads, channels, use_threads):
    use_threads(threads)
    torch.manual_seed(0)
    layer, x = convolution(channels, channels), images(32, channels, 16, 16)
    results = []
    for _ in range(5):
        out = convolve(layer, x)
        parts = (out, *torch.autograd.grad(out.square().sum(), (x, layer.weight)))
        results.append(torch.cat([part.flatten().float() for part in parts]))
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("channels", [32, 192])
def test_the_number_of_threads_is_as_good_as_nothing(channels, use_threads):
    """Few channels are summed by each thread alone; of six, some have nothing to do."""
    torch.manual_seed(0)
    layer, x = convolution(channels, channels), images(1, channels, 7, 9)
    results = []
    for threads in (1, 2, 6):
        use_threads(threads)
        out = convolve(layer, x)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, layer.weight))))
    for out, dx, dweight in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(dx, results[0][1])
        torch.testing.assert_close(dweight, results[0][2], rtol=1e-4, atol=1e-4)


def test_a_processor_without_its_instruction_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "_FLAGS", [*compiled._FLAGS, "-mno-avx512bf16"])
    with pytest.raises(ValueError, match=r"^execution winograd: .*AVX-512 BF16.*; take eager\.$"):
        compiled.compiled.__wrapped__("winograd")
    assert not list(tmp_path.iterdir())
