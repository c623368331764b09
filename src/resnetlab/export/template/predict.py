"""Classify images without PyTorch: onnxruntime, numpy and Pillow are all it needs.

python predict.py cat.jpg more/*.png     prints the five likeliest classes of each
python predict.py --check                reproduces the golden answers; exit code 1 if one differs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

# The very files that trained and evaluated the network: EXIF rotation, resizing, cutting, cores.
from resnetlab.compute.machine import available_cores
from resnetlab.preprocessing import Preprocessing

HERE = Path(__file__).resolve().parent
CARD = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
PREPROCESSING = Preprocessing.from_dict(CARD["preprocessing"])

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = available_cores()  # a container's quota counts
session = onnxruntime.InferenceSession(
    str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"]
)


def read(path: Path) -> np.ndarray:
    """An image of any size as the network takes it: (1, channels, size, size)."""
    pixels = np.array(PREPROCESSING.read(path)).reshape(PREPROCESSING.size, PREPROCESSING.size, -1)
    pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    return pixels.astype(np.float32) / 255 if CARD["input"]["type"] == "float" else pixels


def predict(path: Path, topk: int = 5) -> list[tuple[str, float]]:
    """(class, probability), likeliest first; after the temperature, so that it is honest."""
    (found,) = session.run(["probabilities"], {"images": read(path)})
    probabilities = np.asarray(found)[0]
    best = np.argsort(-probabilities, kind="stable")[:topk]
    return [(CARD["classes"][i], float(probabilities[i])) for i in best]


def check() -> int:
    """How many golden answers are not reproduced."""
    wrong = 0
    for golden in json.loads((HERE / "golden" / "golden.json").read_text(encoding="utf-8")):
        found = dict(predict(HERE / "golden" / golden["file"], len(CARD["classes"])))
        off = max(abs(found[top["class"]] - top["probability"]) for top in golden["top"])
        likeliest = max(found, key=found.__getitem__)
        right = off < 1e-3 and (likeliest == golden["top"][0]["class"] or off < 1e-5)
        print(f"{golden['file']}: {likeliest}, {'as' if right else 'NOT AS'} recorded ({off:.1e})")
        wrong += not right
    return wrong


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        sys.exit(bool(check()))
    if not sys.argv[1:]:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        top = predict(Path(name))
        threshold = CARD["threshold"]
        sure = threshold is None or top[0][1] >= threshold
        shown = ", ".join(f"{label} {100 * p:.1f} %" for label, p in top)
        print(f"{name}: {shown if sure else f'none of these ({shown})'}")


if __name__ == "__main__":
    main()
