"""``resnetlab predict``."""

import json

from PIL import Image

from resnetlab.data.catalogue import load_dataset


def test_predict(resnetlab, smoke, samples, tmp_path):
    data = load_dataset("cifar10-sample", "test", data_dir=samples)
    for i in range(3):
        Image.fromarray(data.images[i].permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    words = ("predict", smoke.run, tmp_path, "--format", "json", "--topk", 2)
    answer = resnetlab(*words, "--execution", "plain")
    assert answer.code == 0
    rows = json.loads(answer.out)
    assert json.loads(resnetlab(*words, "--execution", "bf16").out) != rows
    assert [row["image"] for row in rows] == [str(tmp_path / f"{i}.png") for i in range(3)]
    assert all(len(row["predictions"]) == 2 for row in rows)
    (tmp_path / "1.png").write_text("text")
    answer = resnetlab("predict", smoke.run, tmp_path, "--format", "csv", "--topk", 1)
    assert answer.code == 1
    assert len(answer.out.splitlines()) == 1 + 2
    assert answer.err.splitlines()[-1].startswith(f"cannot read {tmp_path / '1.png'}: not an image")
