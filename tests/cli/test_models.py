"""``resnetlab models`` and ``show``."""

import json
import re


def test_models(resnetlab):
    rows = json.loads(resnetlab("models", "resnet*", "--json").out)
    by_name = {row["name"]: row for row in rows}
    assert by_name["resnet50"]["parameters"] == 25_557_032
    table = resnetlab("models", "resnet20").out
    assert re.search(r"resnet20 +20 +269,722 +[\d,]+ +32 px +8.75 %", table)


def test_show(resnetlab):
    words = ["show", "resnet50", "--image-size", 64]
    rows = json.loads(resnetlab(*words, "--json").out)
    assert rows[-1]["output"] == [1000]
    assert sum(row["parameters"] for row in rows) == 25_557_032
    assert re.search(r"layer4 +3 x Bottleneck +2048 x 2 x 2 ", resnetlab(*words).out)
    fields = ["--override", "depths", "1,1,1", "widths", "8,16,32", "shortcut", "B"]
    small = json.loads(resnetlab("show", "resnet20", "--in-channels", 1, *fields, "--json").out)
    assert [row["output"][0] for row in small if row["name"].startswith("layer")] == [8, 16, 32]
