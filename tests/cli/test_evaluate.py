"""``resnetlab evaluate``."""

import json
import re


def test_evaluate(resnetlab, smoke):
    values = json.loads(resnetlab("evaluate", smoke.run, "--json").out)
    assert values == json.loads((smoke.run / "test.json").read_text())
    fast = json.loads(resnetlab("evaluate", smoke.run, "--execution", "bf16", "--json").out)
    assert fast["loss"] != values["loss"]
    out = resnetlab("evaluate", smoke.run, "--split", "val").out
    best = max(line["val_top1"] for line in smoke.history)
    assert out.startswith("cifar10-sample, val: 100 images\n")
    assert f"top-1 {best:.2f} %" in out
    assert re.search(r"automobile +[\d.]+ +[\d.]+ +[\d.]+ +10 ", out)
    assert re.search(r"^calibration error [\d.]+ %$", out, re.M)


def test_evaluate_draws_the_confusions(resnetlab, smoke, tmp_path, assert_png, assert_sentence):
    picture = tmp_path / "confusion.png"
    answer = resnetlab("evaluate", smoke.run, "--confusion", picture, "--json")
    assert json.loads(answer.out) == json.loads((smoke.run / "test.json").read_text())
    assert answer.err == f"{picture}\n"
    assert_png(picture)
    answer = resnetlab("evaluate", smoke.run, "--confusion", tmp_path / "x.doc")
    assert_sentence(answer, "--confusion .*x.doc: name a file that ends in .png")
