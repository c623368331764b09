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
