import time

import pytest

from resnetlab.training.progress import PLAIN_SECONDS, TrainingProgress, clock

LINE = {
    "epoch": 2,
    "step": 6,
    "lr": 0.05,
    "train_loss": 2.25,
    "train_top1": 12.5,
    "val_loss": 2.125,
    "val_top1": 25.0,
    "images_per_second": 1234.5,
}


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still until the test moves it."""
    moments = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: moments[0])
    return moments


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_seconds_left_count_steps_and_validations(now):
    progress = TrainingProgress(total_steps=8, steps_per_epoch=3, enabled=False)
    for step in range(1, 4):
        progress.count_step(step, 2.0)
    progress.count_validation(7.0)
    # five steps, and the validations of the second and of the broken third epoch
    assert progress.seconds_left() == pytest.approx(5 * 2 + 2 * 7)


def test_nothing_is_left_at_the_end_of_a_fraction_of_an_epoch(now):
    progress = TrainingProgress(25, 10, enabled=False)
    for epoch_end in (10, 20, 25):
        progress.count_step(epoch_end, 1.0)
        progress.count_validation(30.0)
    assert progress.seconds_left() == 0


def test_early_steps_are_cheaper(now):
    progress = TrainingProgress(10, 5, enabled=False, early_steps=4, early_cost=0.25)
    progress.count_step(1, 1.0)
    progress.count_step(2, 1.0)
    # two of a second each and six of four seconds
    assert progress.seconds_left() == pytest.approx(2 + 6 * 4)
    for step in (3, 4, 5):
        progress.count_step(step, 1.0 if step < 5 else 4.0)
    assert progress.seconds_left() == pytest.approx(5 * 4)


def test_a_slow_first_epoch_is_soon_forgotten(now):
    progress = TrainingProgress(total_steps=50, steps_per_epoch=10, enabled=False)
    for step in range(1, 31):
        progress.count_step(step, 9.0 if step <= 10 else 1.0)
        if step in (10, 11):
            assert progress.seconds_left() > 150
    assert progress.seconds_left() == pytest.approx(20, rel=0.3)


def test_a_resumed_session_counts_its_own_pace_alone(now):
    progress = TrainingProgress(total_steps=100, steps_per_epoch=10, enabled=False)
    progress.count_step(91, 3.0)
    progress.count_step(92, 5.0)
    assert progress.seconds_left() == pytest.approx(8 * 4.0)


def test_plain_lines_where_there_is_no_terminal(now, capsys):
    with TrainingProgress(total_steps=6, steps_per_epoch=3, enabled=True) as progress:
        assert not progress.due()
        progress.count_step(4, 1.5)
        now[0] += PLAIN_SECONDS
        assert progress.due()
        progress.show_step(2.5, 100.0)
        assert not progress.due()
        progress.count_step(6, 1.5)
        progress.show_epoch(LINE)
        progress.show_epoch(LINE | {"val_loss": None, "val_top1": None})
        progress.say("[data] 5")
    assert capsys.readouterr().err.splitlines() == [
        "epoch 2/2  step 1/3  loss 2.500  100 images/s  0:03 left",
        "epoch 2/2  lr 0.0500  train loss 2.250 top-1 12.50 %  val loss 2.125 top-1 25.00 %  "
        "1,234 images/s  0:00 left",
        "epoch 2/2  lr 0.0500  train loss 2.250 top-1 12.50 %  1,234 images/s  0:00 left",
        "[data] 5",
    ]


def test_a_live_line_on_a_terminal(now, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TrainingProgress(total_steps=6, steps_per_epoch=3, enabled=True) as progress:
        progress.count_step(4, 1.5)
        now[0] += 0.25
        assert progress.due()
        progress.show_step(2.5, 100.0)
    assert "epoch 2/2  step 1/3" in capsys.readouterr().err


def test_other_ranks_are_silent(now, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TrainingProgress(total_steps=6, steps_per_epoch=3, enabled=False) as progress:
        progress.count_step(6, 1.0)
        progress.show_step(2.5, 100.0)
        progress.show_epoch(LINE)
    assert capsys.readouterr().err == ""
