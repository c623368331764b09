import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.evaluation.metrics import CALIBRATION_BINS, Scores, tally


def batch(n, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=generator)
    return logits, torch.randint(classes, (n,), generator=generator)


def scores(logits, labels, size):
    counted = Scores(logits.size(1))
    for i in range(0, len(labels), size):
        counted.add(logits[i : i + size], labels[i : i + size])
    return counted.result()


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 1000), st.integers(1, 60))
def test_batches_add_up(n, classes, seed, size):
    logits, labels = batch(n, classes, seed)
    whole, parts = scores(logits, labels, n), scores(logits, labels, size)
    for name, value in whole.items():
        if name in ("loss", "calibration_error"):
            assert parts[name] == pytest.approx(value, rel=1e-5, abs=1e-5)
        else:
            assert torch.equal(torch.as_tensor(parts[name]), torch.as_tensor(value)), name


@given(st.integers(1, 80), st.integers(2, 6), st.integers(0, 1000))
def test_calibration_error_is_the_weighted_gap_of_confidence_and_accuracy(n, classes, seed):
    logits, labels = batch(n, classes, seed)
    confidence, predicted = logits.double().softmax(1).max(1)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for c, right in zip(confidence.tolist(), (predicted == labels).tolist(), strict=True):
        bins.setdefault(int(c * CALIBRATION_BINS), []).append((c, right))
    gaps = [abs(sum(c - right for c, right in members)) for members in bins.values()]
    assert scores(logits, labels, n)["calibration_error"] == pytest.approx(
        100 * sum(gaps) / n, abs=1e-3
    )


def test_a_sure_network_that_is_half_right_is_half_off():
    logits = torch.tensor([[40.0, 0.0], [40.0, 0.0]])
    assert scores(logits, torch.tensor([0, 1]), 2)["calibration_error"] == pytest.approx(50)


def test_probabilities_are_not_taken_for_logits():
    """Logits within 0..1, which torchmetrics would take for probabilities."""
    logits, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    confidence = logits.softmax(1).max().item()
    found = scores(logits, labels, 1)["calibration_error"]
    assert found == pytest.approx(100 * (1 - confidence), abs=1e-4)


def test_only_two_floats_an_image_are_kept():
    counted = Scores(1000)
    counted.add(*batch(64, 1000, 0))
    metrics = [*counted._of_logits.values(), counted._calibration]
    first = sum(_numbers(metric) for metric in metrics)
    counted.add(*batch(64, 1000, 1))
    assert sum(_numbers(metric) for metric in metrics) - first == 2 * 64


def _numbers(metric):
    states = [getattr(metric, name) for name in metric._defaults]
    return sum(
        state.numel() if isinstance(state, torch.Tensor) else sum(part.numel() for part in state)
        for state in states
    )


def test_tally_sums_what_the_loop_divides():
    logits, labels = batch(10, 4, 0)
    loss, right, n = tally(logits, labels).tolist()
    one_by_one = -logits.double().log_softmax(1)[torch.arange(10), labels]
    assert loss == pytest.approx(one_by_one.sum().item())
    assert (right, n) == (int((logits.argmax(1) == labels).sum()), 10)
