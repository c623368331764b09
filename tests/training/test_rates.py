import pytest

from resnetlab.training.rates import _smoothed, lr_find


@pytest.fixture
def small(samples, tmp_path):
    return {
        "model_overrides": {"depths": (1, 1, 1), "widths": (4, 8, 8)},
        "data_dir": str(samples),
        "execution": "plain",
        "batch_size": 32,
        "out": tmp_path / "lr.png",
        "warmup_epochs": 0,
    }


def test_the_rate_rises_until_the_loss_diverges(small, assert_png):
    found = lr_find("smoke", steps=60, lr=0.05, **small)
    assert found.rates == sorted(found.rates)
    assert found.rates[0] == pytest.approx(0.05 / 1000)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= 60
    assert found.rates[1] / found.rates[0] == pytest.approx(1000 ** (2 / 59))
    lowest = found.rates[found.smoothed.index(min(found.smoothed))]
    assert found.suggestion == pytest.approx(lowest / 10, rel=0.06)  # two digits
    assert min(found.smoothed) < found.smoothed[0]
    assert found.changes == {"lr": found.suggestion}
    assert_png(small["out"])


def test_all_rates_of_a_recipe_rise_together(small):
    rates = {"optimizer": "muon", "lr": 0.2, "muon_lr": 0.04, "head_lr": 0.4}
    changes = lr_find("smoke", steps=20, **rates, **small).changes
    assert set(changes) == {"lr", "muon_lr", "head_lr"}
    assert changes["muon_lr"] / changes["lr"] == pytest.approx(0.2, rel=0.1)


def test_what_cannot_be_tested_is_a_sentence(small):
    with pytest.raises(ValueError, match="`freeze` backbone fits the classifier without"):
        lr_find("smoke", freeze="backbone", **small)
    with pytest.raises(ValueError, match="`steps` must be at least 20"):
        lr_find("smoke", steps=3, **small)


def test_the_average_starts_at_the_first_loss():
    assert _smoothed([2.0, 2.0]) == pytest.approx([2.0, 2.0])
    assert _smoothed([1.0, 3.0])[1] == pytest.approx((0.9 * 1 + 3) / 1.9)


def test_the_command_says_what_to_train_with(resnetlab, small):
    words = ("--data-dir", small["data_dir"], "--execution", "plain", "--out", small["out"])
    words += ("--steps", 20, "--batch-size", 32, "--model-overrides", "depths", "1,1,1")
    answer = resnetlab("lr-find", "smoke", *words)
    assert answer.code == 0, answer.err
    picture, says, command = answer.out.splitlines()
    assert picture == str(small["out"])
    assert "the recipe's lr is 0.05; this test suggests" in says
    assert command.startswith("  resnetlab train smoke --lr ")
