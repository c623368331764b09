import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.compute.execution import PLAIN, Execution
from resnetlab.models.resnet import create_model

executions = st.builds(
    Execution,
    precision=st.sampled_from(["fp32", "bf16"]),
    layout=st.sampled_from(["contiguous", "channels_last"]),
    mode=st.sampled_from(["eager", "compile"]),
    threads=st.integers(0, 64),
) | st.builds(Execution, device=st.just("cuda"), precision=st.sampled_from(["fp32", "fp16"]))


@given(executions)
def test_parse_is_the_inverse_of_str(execution):
    assert Execution.parse(str(execution)) == execution


def test_words_may_be_left_out_and_come_in_any_order():
    wanted = Execution(precision="bf16", layout="channels_last", threads=2)
    assert Execution.parse("threads=2, channels_last,bf16") == wanted
    assert Execution.parse("plain") == Execution.parse("") == PLAIN


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("bf61", "no word 'bf61'; did you mean 'bf16'"),
        ("plain,threads=1", "plain stands alone"),
        ("bf16,channels_last,fp32", "two of precision, bf16 and fp32; take one"),
        ("channels-last", "did you mean 'channels_last'"),
        ("threads=two", "no word 'threads=two'; did you mean 'threads=N'"),
        ("fp16", "needs a GPU; take bf16"),
        ("winograd", "multiplies in bf16; take bf16,channels_last,winograd"),
        ("fp32,fused", "needs channels_last; take fp32,channels_last,fused"),
        ("cuda,bf16,channels_last,winograd", "is for the CPU; take compile"),
    ],
)
def test_a_wrong_word_names_the_nearest(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        Execution.parse(text)


@pytest.mark.parametrize("text", ["plain", "channels_last", "bf16,channels_last"])
def test_every_way_computes_the_same_network(text):
    execution = Execution.parse(text)
    torch.manual_seed(0)
    model = create_model("resnet20").eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        plain = model(images)
    execution.place(model)
    assert model.conv1.weight.dtype == torch.float32
    images = images.contiguous(memory_format=execution.memory_format)
    with torch.inference_mode(), execution.autocast():
        logits = model(images)
    assert logits.dtype == (torch.bfloat16 if "bf16" in text else torch.float32)
    close = 0.05 * plain.abs().max().item() if "bf16" in text else 1e-4
    assert math.isclose((logits.float() - plain).abs().max().item(), 0, abs_tol=close)


def test_a_gpu_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no GPU here"):
        Execution(device="cuda").place(torch.nn.Linear(1, 1))


def test_threads_are_those_of_the_process():
    before = torch.get_num_threads()
    try:
        Execution(threads=3).place(torch.nn.Linear(1, 1))
        assert torch.get_num_threads() == before  # a network is placed; the process stays
        Execution(threads=3).set_up()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
