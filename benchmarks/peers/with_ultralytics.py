"""Ultralytics' classify on a folder of classes, run by the Python of its own environment.

Prints one line of JSON; see ``__main__``. Its own argument ``time`` ends the training.
"""

import argparse
import json
import sys
import time

import ultralytics
from ultralytics import YOLO

NETWORK = "yolo26n-cls"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder")
    arguments.add_argument("seconds", type=float)
    arguments.add_argument("--tuned", action="store_true")
    arguments.add_argument("--size", type=int, default=32, help="side in pixels")
    options = arguments.parse_args()
    sys.stdout, stdout = sys.stderr, sys.stdout
    settings = {"batch": 128, "auto_augment": None, "erasing": 0.0, "scale": 0.2, "cache": "ram"}
    settings |= {"optimizer": "AdamW", "lr0": 3e-3, "warmup_epochs": 1, "cos_lr": True}
    seen = 0

    def count(trainer):
        nonlocal seen
        seen += trainer.args.batch

    network = YOLO(f"{NETWORK}.yaml")
    network.add_callback("on_train_batch_end", count)
    network.train(
        data=options.folder,
        time=options.seconds / 3600,
        imgsz=options.size,
        device="cpu",
        pretrained=False,
        plots=False,
        verbose=False,
        project="runs",
        **(settings if options.tuned else {}),
    )
    ended = time.time()
    found = network.val(
        data=options.folder, split="test", imgsz=options.size, device="cpu", plots=False
    )
    values = {
        "top1": 100 * float(found.top1),
        "images": seen,
        "ended": ended,
        "network": f"{NETWORK}, {options.size} pixels",
        "version": ultralytics.__version__,
    }
    print(json.dumps(values), file=stdout)


if __name__ == "__main__":
    main()
