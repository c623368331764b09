"""``resnetlab plot`` and ``visualize``, and the grid of ``data show``."""

from PIL import Image


def test_pictures(resnetlab, smoke, samples, tmp_path):
    for words in (
        ("plot", smoke.run),
        ("visualize", smoke.run, "--n", 4, "--data-dir", samples),
        ("data", "show", "cifar10-sample", "--data-dir", samples),
    ):
        out = tmp_path / f"{words[0]}.png"
        answer = resnetlab(*words, "--out", out)
        assert (answer.code, answer.out) == (0, f"{out}\n")
        with Image.open(out) as image:
            image.load()
