import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnetlab.compute.execution import Execution
from resnetlab.compute.kernels.fused import _shortcut, fuse, norm_relu
from resnetlab.compute.machine import compiler
from resnetlab.models.resnet import BasicBlock, create_model

pytestmark = pytest.mark.skipif(compiler() is None, reason="fused.cpp needs a C++ compiler")


def images(*shape, dtype=torch.float32):
    x = torch.randn(shape).to(dtype)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def assert_close(ours, theirs, tolerance):
    scale = theirs.abs().max().clamp(min=1)
    assert (ours.double() - theirs.double()).abs().max() <= tolerance * scale


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 5),
    channels=st.sampled_from([1, 4, 16, 24, 32, 64, 96, 128, 192, 512]),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    shortcut=st.booleans(),
    relu=st.booleans(),
)
def test_operation_is_norm_addition_relu(n, channels, height, width, dtype, shortcut, relu):
    torch.manual_seed(n * channels + height)
    shape = (n, channels, height, width)
    x, skip = images(*shape, dtype=dtype), images(*shape, dtype=dtype) if shortcut else None
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    exact = copy.deepcopy(norm).double()
    out, twin = norm_relu(norm, x, skip, relu=relu)
    assert torch.equal(out, twin)
    gradients = [torch.randn(shape).to(dtype) for _ in range(2)]
    # Both give a gradient, as the branch and the shortcut of the next block do.
    torch.autograd.backward([out, twin], gradients)

    leaves = [t.detach().double().requires_grad_() for t in (x, skip) if t is not None]
    wanted = exact(leaves[0]) + (leaves[1] if shortcut else 0)
    tolerance = {torch.float32: 1e-4, torch.bfloat16: 3e-2}[dtype]
    assert_close(out, wanted.relu() if relu else wanted, tolerance)
    if relu:  # at its corner, within rounding, either side is right: take theirs
        wanted = wanted * (out > 0)
    wanted.backward(sum(gradient.double() for gradient in gradients))
    for ours, theirs in zip([x, skip][: len(leaves)], leaves, strict=True):
        assert_close(ours.grad, theirs.grad, 2 * tolerance)
    for ours, theirs in zip(norm.parameters(), exact.parameters(), strict=True):
        assert_close(ours.grad, theirs.grad, 2 * tolerance)
    for ours, theirs in zip(norm.buffers(), exact.buffers(), strict=True):
        assert_close(ours, theirs, 1e-4)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_is_let_through(value):
    """A training that has diverged must not look as if it had not."""
    x = images(2, 64, 4, 4).detach()
    x[0, 0, 0, 0] = value
    ours, usual = nn.BatchNorm2d(64), nn.BatchNorm2d(64)
    assert torch.equal(norm_relu(ours, x)[0].isnan(), usual(x).relu().isnan())
    for mine, other in zip(ours.buffers(), usual.buffers(), strict=True):
        assert torch.equal(mine.isnan(), other.isnan())


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_values_are_pytorchs_to_judge(n):
    norm, x = nn.BatchNorm2d(64), images(n, 64, 1, 1)
    if n:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            norm_relu(norm, x)
    else:
        assert norm_relu(norm, x)[0].shape == x.shape
        assert norm.running_mean.isfinite().all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "name", ["resnet20", "plain20", "resnet50", "resnet18d", "preresnet110", "fast_resnet8"]
)
def test_network_learns_as_without(name, precision, gradient):
    torch.manual_seed(0)
    execution = Execution.parse(f"{precision},channels_last")
    changes = {"depths": (1, 1, 1)} if name == "preresnet110" else {}
    plain = create_model(name, num_classes=10, **changes)
    execution.place(plain)
    ours, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    fuse(ours)
    x = images(8, 3, 64, 64).detach()
    wanted = gradient(exact, x.double())
    errors = [(gradient(m, x, execution) - wanted).norm() / wanted.norm() for m in (plain, ours)]
    assert errors[1] <= 1.5 * errors[0] + 1e-3
    for mine, other in zip(ours.buffers(), plain.buffers(), strict=True):
        assert_close(mine, other, {"fp32": 1e-3, "bf16": 0.2}[precision])


def test_it_is_used(operations):
    model = create_model("resnet20")
    Execution.parse("channels_last").place(model)
    fuse(model)
    names = operations(model(images(8, 3, 32, 32).detach()))
    assert "_NormReLUBackward" in names
    assert not any("NativeBatchNorm" in name or "Relu" in name for name in names)


@pytest.mark.parametrize("name", ["resnet20", "fast_resnet8"])
def test_evaluation_is_untouched(name):
    plain = create_model(name).eval()
    model = copy.deepcopy(plain)
    fuse(model)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), plain(x))
    assert list(model.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("threads", [1, 3])
def test_repeats_to_the_bit(threads, use_threads):
    use_threads(threads)
    torch.manual_seed(0)
    x, skip = images(64, 32, 16, 16), images(64, 32, 16, 16)
    results = []
    for _ in range(10):
        out, _ = norm_relu(nn.BatchNorm2d(32), x, skip)
        results.append(torch.cat((out, *torch.autograd.grad(out.square().sum(), (x, skip)))))
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1)])
def test_shortcut_without_parameters(size):
    torch.manual_seed(0)
    block = BasicBlock(16, 32, stride=2, shortcut="A")
    x, leaf = images(2, 16, *size), images(2, 16, *size)
    with torch.no_grad():
        leaf.copy_(x)
    ours, theirs = _shortcut(block, x), block.downsample(leaf)
    gradient = torch.randn(theirs.shape)
    ours.backward(gradient)
    theirs.backward(gradient)
    assert torch.equal(ours, theirs)
    assert torch.equal(x.grad, leaf.grad)
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels_last", [False, True])
def test_what_does_not_fit_is_computed_as_ever(channels_last, gradient):
    """NCHW, and channels that sixty-four values cannot be cut into."""
    torch.manual_seed(0)
    plain = create_model("resnet20", widths=(20, 40, 80) if channels_last else (16, 32, 64))
    Execution.parse("channels_last" if channels_last else "contiguous").place(plain)
    ours = copy.deepcopy(plain)
    fuse(ours)
    x = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(gradient(ours, x), gradient(plain, x))


def test_no_gradient_gives_none():
    """A layer after it may have none to give."""

    class Blind(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.clone()

        @staticmethod
        def backward(*_):
            return None

    x = images(2, 64, 4, 4)
    (Blind.apply(norm_relu(nn.BatchNorm2d(64), x)[0]).sum() + x.sum()).backward()
    assert torch.equal(x.grad, torch.ones_like(x))
