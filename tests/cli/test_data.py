"""``resnetlab data``."""

import json


def test_data(resnetlab, samples):
    words = ("cifar10-sample", "--data-dir", samples)
    assert resnetlab("data", "fetch", *words).out == f"{samples / 'cifar10-sample'}\n"
    values = json.loads(resnetlab("data", "stats", *words, "--json").out)
    assert (values["n"], len(values["mean"]), len(values["std"])) == (300, 3, 3)
    assert f"mean {values['mean'][0]:.8f}" in resnetlab("data", "stats", *words).out
