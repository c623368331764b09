"""How fast fine-tuning is: `python -m benchmarks.finetuning_speed FOLDER`, ten minutes.

1. The classifier alone, ResNet-50 at 224 on 1,000 images: the whole command, in forward passes over
   the same images, decoded and in memory, by our fastest backend; all in one process, in turn.
2. Whole networks, data included: our training from its cache, and the plain loop (torchvision's
   network, fp32, ImageFolder, RandomResizedCrop and a DataLoader of two workers), in turn.

Images are JPEGs of 400 x 300 pixels, made of CIFAR-10's.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.__main__ import COMPARED, markdown
from benchmarks.photographs import write_photographs
from benchmarks.turns import Contestant, Effort, compete, rows
from resnetlab import create_model, save_weights, train
from resnetlab.compute import distributed
from resnetlab.compute.execution import Execution
from resnetlab.data.prefetch import load_batches
from resnetlab.inference.prepare import inference_execution, ready_for_inference
from resnetlab.recipes.record import Recipe
from resnetlab.training.plan import load_data, make_plan
from resnetlab.training.start import FINETUNE
from resnetlab.training.state import State
from resnetlab.training.step import augment, train_step
from resnetlab.training.tuning import begin_epoch

ALL = "bf16,channels_last"


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.finetuning_speed", description=__doc__
    )
    arguments.add_argument("folder", type=Path, help="for images")
    arguments.add_argument("--images", type=int, default=1000)
    arguments.add_argument("--rounds", type=int, default=3)
    parts = ("classifier", "resnet18", "resnet50")
    arguments.add_argument("--parts", nargs="+", choices=parts, default=parts)
    options = arguments.parse_args()
    root = options.folder / f"photographs-{options.images}"
    if not root.exists():
        write_photographs(root, per_class=options.images // 10, size=(400, 300))
    if "classifier" in options.parts:
        print("## The classifier alone, ResNet-50 at 224 pixels\n")
        ratios = []
        for _ in range(options.rounds):
            whole, forward = head_only(root, options.images)
            ratios.append(whole / forward)
            print(f"{whole:.1f} s, {ratios[-1]:.2f} forward passes of {forward:.1f} s", flush=True)
        print(f"median: {statistics.median(ratios):.2f}\n")
    for model, mode in (("resnet18", "winograd"), ("resnet50", "fused")):
        if model in options.parts:
            print(f"## Fine-tuning all of {model} at 224 pixels, data included\n")
            found = compete(
                contestants(root, model, mode), Effort(rounds=options.rounds, seconds=10)
            )
            print(markdown(COMPARED, rows(found)), flush=True)


def contestants(root: Path, model: str, mode: str) -> list[Contestant]:
    """The plain loop and ours, on the same files."""
    common = {"model": model, "root": str(root)}
    how = {"execution": f"{ALL},{mode}"}
    return [
        Contestant(name="plain loop", function=f"{__spec__.name}:plain", arguments=common),
        Contestant(name="resnetlab", function=f"{__spec__.name}:ours", arguments=common | how),
    ]


def head_only(root: Path, images: int) -> tuple[float, float]:
    """Seconds of the whole training, and of a forward pass over as many images."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "resnet50.safetensors"
        save_weights(create_model("resnet50"), weights)
        recipe = Recipe(
            dataset=str(root),
            test_size=0,
            val_size=0.2,
            model="resnet50",
            pretrained=str(weights),
            freeze="backbone",
            image_size=224,
        )
        began = time.perf_counter()
        train(recipe, out=Path(folder) / "run")
        whole = time.perf_counter() - began
    execution = inference_execution()
    network = ready_for_inference(create_model("resnet50").eval(), execution)
    batch = torch.randn(20, 3, 224, 224).contiguous(memory_format=execution.memory_format)
    began = time.perf_counter()
    for _ in range(images // 20):
        with torch.inference_mode(), execution.autocast():
            network(batch)
    return whole, time.perf_counter() - began


def plain(*, model: str, root: str, batch_size: int = 32) -> Iterator[int]:
    """Steps of the usual fine-tuning."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    data = ImageFolder(root, transform)
    network = torchvision.models.get_model(model)
    network.fc = nn.Linear(network.fc.in_features, len(data.classes))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    loader = torch.utils.data.DataLoader(
        data, batch_size, shuffle=True, num_workers=2, drop_last=True
    )
    network.train()
    for images, labels in itertools.chain.from_iterable(itertools.repeat(loader)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        yield len(images)


def ours(*, model: str, root: str, execution: str, batch_size: int = 32) -> Iterator[int]:
    """Steps of `resnetlab finetune` on all layers, from the second epoch on."""
    recipe = replace(
        FINETUNE,
        dataset=root,
        test_size=0,
        val_size=0,
        model=model,
        image_size=224,
        batch_size=batch_size,
        resized_crop=0.08,
        crop_padding=0,
        unfreeze_share=0.0,
        execution=execution,
    )
    with distributed.start():
        plan = make_plan(recipe, *load_data(recipe))
        plan = plan.with_execution(Execution.parse(execution))
        plan.execution.set_up()
        for indices in torch.arange(len(plan.data)).split(64):  # the first epoch fills the cache
            plan.augmentation.load(plan.data, indices, epoch=0)
        state = State.create(plan)
        state.accelerate(plan.execution)
        begin_epoch(recipe, state.model, 0)
        for epoch in itertools.count(1):
            views = _views(plan, epoch)
            batches = load_batches(plan.data, plan.batches(epoch), views)
            for step, (indices, batch) in enumerate(batches):
                inputs, targets = augment(plan, indices, *batch, epoch=epoch, step=step)
                train_step(plan, state, state.model, inputs, targets)
                yield len(indices)


def _views(plan, epoch):
    return lambda indices: plan.augmentation.load(plan.data, indices, epoch=epoch)


if __name__ == "__main__":
    main()
