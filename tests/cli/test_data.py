"""``resnetlab data``."""

import json

import numpy as np

from resnetlab.data.cache import Cache


def test_data(resnetlab, samples):
    words = ("cifar10-sample", "--data-dir", samples)
    assert resnetlab("data", "fetch", *words).out == f"{samples / 'cifar10-sample'}\n"
    values = json.loads(resnetlab("data", "stats", *words, "--json").out)
    assert (values["n"], len(values["mean"]), len(values["std"])) == (300, 3, 3)
    assert f"mean {values['mean'][0]:.8f}" in resnetlab("data", "stats", *words).out


def test_clean_says_what_it_has_removed_and_from_where(resnetlab, tmp_path, empty_cache):
    for folder in (empty_cache, tmp_path):
        store = Cache("abc", folder / "pixels").store({"channels": 3}, n=1, slot=3_000_000)
        store.put(0, np.zeros((1000, 1000, 3), np.uint8))
    answer = resnetlab("data", "clean")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"removed 3 MB of decoded images from {empty_cache / 'pixels'}\n"
    assert not (empty_cache / "pixels").exists()
    answer = resnetlab("data", "clean", "--cache", tmp_path)
    assert answer.out == f"removed 3 MB of decoded images from {tmp_path / 'pixels'}\n"
