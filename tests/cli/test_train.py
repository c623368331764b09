"""``resnetlab train`` and ``resume``."""

import json

from resnetlab.training import job
from resnetlab.weights.checkpoint import load_checkpoint


def test_train_reports_and_resume_goes_on(resnetlab, smoke, samples, tmp_path):
    run = tmp_path / "run"
    words = ["--epochs", 2, "--warmup-epochs", 1, "--data-dir", samples, "--execution", "plain"]
    narrow = ["--model-overrides", "widths", "4,4,8", "width_per_group", 64]
    answer = resnetlab("train", "smoke", "--out", run, *words, *narrow)
    assert answer.code == 0, answer.err
    said = json.loads((run / "test.json").read_text())
    assert answer.out.startswith(f"test accuracy {said['top1']:.2f} % on 100 images\n")
    for name in ("best.pt", "test.json", "metrics.jsonl", "curves.png", "last.pt", "report.html"):
        assert f"{run / name}" in answer.out
        assert (run / name).exists()
    assert load_checkpoint(run).architecture.widths == (4, 4, 8)
    (run / "test.json").unlink()  # as if it had been killed at the very end
    again = resnetlab("resume", run)
    assert (again.code, again.out) == (0, answer.out)
    assert json.loads((run / "test.json").read_text()) == said


def test_resume_takes_what_may_be_changed(resnetlab, monkeypatch, tmp_path):
    given = {}

    def resume(run, **options):
        given.update(options, run=run)
        return job.Training(run=run, history=[], test=None)

    monkeypatch.setattr(job, "resume", resume)
    words = ["--epochs", 20, "--lr", 0.01, "--norm-lr", 0.1, "--muon-lr", 0.02, "--clip-norm", 1]
    words += ["--warmup-share", 0.1, "--accumulate", 2, "--execution", "plain"]
    words += ["--data-dir", "data", "--accept-changes"]
    assert resnetlab("resume", tmp_path, *words).code == 0
    wanted = {"epochs": 20, "lr": 0.01, "norm_lr": 0.1, "muon_lr": 0.02, "clip_norm": 1}
    wanted |= {"warmup_share": 0.1, "accumulate": 2, "execution": "plain", "accept_changes": True}
    assert given == wanted | {"run": tmp_path, "data_dir": "data"}
    given.clear()
    assert resnetlab("resume", tmp_path).code == 0
    assert given == {"run": tmp_path}
