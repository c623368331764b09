"""``resnetlab train`` and ``resume``."""

import json

from resnetlab.weights.checkpoint import load_checkpoint


def test_train_reports_and_resume_goes_on(resnetlab, smoke, samples, tmp_path):
    run = tmp_path / "run"
    words = ["--epochs", 2, "--warmup-epochs", 1, "--data-dir", samples, "--execution", "plain"]
    narrow = ["--model-overrides", "widths", "4,4,8", "width_per_group", 64]
    answer = resnetlab("train", "smoke", "--out", run, *words, *narrow)
    assert answer.code == 0, answer.err
    said = json.loads((run / "test.json").read_text())
    assert answer.out.startswith(f"test accuracy {said['top1']:.2f} % on 100 images\n")
    for name in ("best.pt", "test.json", "metrics.jsonl", "curves.png", "last.pt"):
        assert f"{run / name}" in answer.out
        assert (run / name).exists()
    assert load_checkpoint(run).architecture.widths == (4, 4, 8)
    (run / "test.json").unlink()  # as if it had been killed at the very end
    again = resnetlab("resume", run)
    assert (again.code, again.out) == (0, answer.out)
    assert json.loads((run / "test.json").read_text()) == said
