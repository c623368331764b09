"""Images a second: of training steps, of inference, of the data; beside what the machine can do.

Every network is measured in a process of its own, so that its peak of memory, its threads and its
allocator settings are its own. Pixels are random: no step is faster or slower for it.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from resnetlab.data.augment import cutout, random_crop, random_flip
from resnetlab.data.datasets import Dataset, load_dataset
from resnetlab.data.images import normalize, read_image
from resnetlab.data.loaders import epoch_batches, steps_per_epoch
from resnetlab.data.sources import print_to_stderr
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.resnet import ResNet
from resnetlab.models.summary import default_image_size, summarize
from resnetlab.prediction import Predictor, find_images
from resnetlab.runs import Checkpoint
from resnetlab.training.distributed import World
from resnetlab.training.execution import Execution, has_fast_bf16
from resnetlab.training.probe import choose_execution
from resnetlab.training.recipe import Recipe, get_recipe
from resnetlab.training.state import State
from resnetlab.training.step import make_batch, train_step


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Images a second over several repetitions of one batch."""

    batch_size: int
    images_per_second: float
    """median"""
    low: float
    """images/s, lower quartile"""
    high: float
    """images/s, upper quartile"""
    ms_per_step: float
    """median"""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def cells(self) -> dict[str, str]:
        """Heading -> cell of a table; the heading of a number ends in ``*``."""
        return {
            "batch*": f"{self.batch_size:,}",
            "images/s*": _short(self.images_per_second),
            "quartiles*": f"{_short(self.low)} to {_short(self.high)}",
            "ms a step*": _short(self.ms_per_step),
        }


@dataclass(frozen=True, kw_only=True)
class NetworkRate(Rate):
    """The speed of one network in training or inference, and how near the machine's limit it is."""

    job: Literal["training", "inference"]
    model: str
    image_size: int
    execution: str
    parameters: int
    multiply_adds: int
    """of the forward pass of one image"""
    gflops: float
    """reached, counting two operations a multiply-add, and three forward passes a training step"""
    matrix_product_gflops: float
    """that a large product reached just after, in bf16 where the machine has it, else in fp32"""
    convolution_gflops: float
    """that a large 3x3 convolution reached, likewise"""
    peak_memory_mb: float
    """of the process, or of the GPU"""

    @property
    def share_of_matrix_product(self) -> float:
        """%"""
        return 100 * self.gflops / self.matrix_product_gflops

    @property
    def share_of_convolution(self) -> float:
        """%"""
        return 100 * self.gflops / self.convolution_gflops

    def to_dict(self) -> dict[str, Any]:
        shares = ("share_of_matrix_product", "share_of_convolution")
        return super().to_dict() | {name: getattr(self, name) for name in shares}

    def cells(self) -> dict[str, str]:
        return {
            "network": self.model,
            "pixels*": str(self.image_size),
            "execution": self.execution,
            **super().cells(),
            "parameters*": f"{self.parameters:,}",
            "multiply-adds*": f"{self.multiply_adds:,}",
            "GFLOP/s*": _short(self.gflops),
            "of a product*": f"{self.share_of_matrix_product:.0f} %",
            "of a convolution*": f"{self.share_of_convolution:.0f} %",
            "peak MB*": f"{self.peak_memory_mb:,.0f}",
        }


@dataclass(frozen=True, kw_only=True)
class FolderRate(Rate):
    """The speed of predictions for image files; ``ms_per_step`` is that of a batch."""

    model: str
    image_size: int
    execution: str
    images: int
    """files that were read in each round"""
    decoder_images_per_second: float
    """reading and decoding alone, in all threads"""
    network_images_per_second: float
    """the network alone, on decoded images"""

    @property
    def limit(self) -> Literal["decoder", "network"]:
        """The slower of the two."""
        slower = self.decoder_images_per_second < self.network_images_per_second
        return "decoder" if slower else "network"

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"limit": self.limit}

    def cells(self) -> dict[str, str]:
        return {
            "network": self.model,
            "pixels*": str(self.image_size),
            "execution": self.execution,
            "files*": f"{self.images:,}",
            **super().cells(),
            "decoder alone*": _short(self.decoder_images_per_second),
            "network alone*": _short(self.network_images_per_second),
            "limit": self.limit,
        }


@dataclass(frozen=True, kw_only=True)
class DataRate(Rate):
    """The speed of one thing that is done to images before a network sees them."""

    what: str

    def cells(self) -> dict[str, str]:
        return {"what": self.what, **super().cells()}


Row = NetworkRate | FolderRate | DataRate


def benchmark_training(
    models: Sequence[str] = ("resnet20",),
    batch_sizes: Sequence[int] = (128,),
    *,
    execution: str = "auto",
    overrides: Mapping[str, str | int] | None = None,
    recipe: str | Recipe = "cifar10-quick",
    steps: int = 20,
    seconds: float = 20.0,
) -> list[NetworkRate]:
    """The training loop's own steps, augmentation included, for each network and batch size.

    ``overrides`` are fields of every architecture to change, ``recipe`` gives optimizer and
    augmentation. Each row takes ``steps`` steps, fewer (but three) if they last longer than
    ``seconds``. Raises ValueError, one sentence, for a name or value that cannot work.
    """
    _require_positive(steps=steps, seconds=seconds)
    work = {"repeats": steps, "seconds": seconds}
    rows = []
    for model, batch_size in itertools.product(models, batch_sizes):
        changes = {"model": model, "model_overrides": overrides or {}, "batch_size": batch_size}
        asked = get_recipe(recipe, **changes, execution=execution, accumulate=1)
        if execution == "auto":
            chosen = _in_own_process("choose", recipe=asked.to_dict())
            asked = replace(asked, execution=chosen["execution"])
        else:
            Execution.parse(execution)
        rows.append(_row(_in_own_process("training", recipe=asked.to_dict(), **work)))
    return rows


def benchmark_inference(
    models: Sequence[str] = ("resnet20",),
    batch_sizes: Sequence[int] = (1, 16),
    *,
    execution: str = "auto",
    overrides: Mapping[str, str | int] | None = None,
    image_size: int | None = None,
    folder: str | Path | None = None,
    repeats: int = 30,
    seconds: float = 10.0,
) -> list[NetworkRate] | list[FolderRate]:
    """``Predictor`` from decoded pixels to logits, for each network and batch size.

    With ``folder``, the images in it instead: decoder alone, network alone and both together, in
    turn, three times and on at most eight batches, so that the limit can be named. ``image_size``
    is the paper's unless given. Raises ValueError, one sentence, for what cannot work.
    """
    _require_positive(repeats=repeats, seconds=seconds, image_size=image_size)
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder}.")
    how = inference_execution() if execution == "auto" else Execution.parse(execution)
    rows = []
    for model, batch_size in itertools.product(models, batch_sizes):
        _require_positive(batch_size=batch_size)
        architecture = get_architecture(model, **overrides or {})
        work = {"folder": str(folder)} if folder else {"repeats": repeats, "seconds": seconds}
        answer = _in_own_process(
            "folder" if folder else "inference",
            model=model,
            architecture=architecture.to_dict(),
            batch_size=batch_size,
            image_size=image_size or default_image_size(architecture),
            execution=str(how),
            **work,
        )
        rows.append(_row(answer))
    return rows


def inference_execution() -> Execution:
    """The fastest that is sound everywhere: no compiler, bf16 where the machine has it."""
    cuda = torch.cuda.is_available()
    return Execution(
        device="cuda" if cuda else "cpu",
        precision="bf16" if cuda or has_fast_bf16() else "fp32",
        layout="channels_last",
    )


def benchmark_data(
    dataset: str = "cifar10",
    batch_sizes: Sequence[int] = (128,),
    *,
    recipe: str | Recipe = "cifar10-quick",
    data_dir: str | Path | None = None,
    repeats: int = 50,
    seconds: float = 2.0,
) -> list[DataRate]:
    """Loading a data set from the cache, making training batches of it, decoding JPEG files.

    Each row takes ``repeats`` repetitions, fewer (but three) if they last longer than ``seconds``.
    Raises ValueError, one sentence, for a name or value that cannot work.
    """
    _require_positive(repeats=repeats, seconds=seconds)
    recipe = get_recipe(recipe)
    load = partial(
        load_dataset, dataset, "train+val", data_dir=Path(data_dir) if data_dir else None
    )
    data = load()

    def row(what: str, work: Callable[[], Any], batch_size: int, repeats: int) -> DataRate:
        times = _times(work, repeats=repeats, seconds=seconds)
        return DataRate(what=what, **_summary(times, batch_size))

    rows = [row(f"load {dataset} from the cache", load, len(data), min(repeats, 3))]
    for batch_size in batch_sizes:
        _require_positive(batch_size=batch_size)
        jobs = _batch_jobs(data, recipe, batch_size) | _decode_jobs(batch_size)
        rows += [row(what, work, batch_size, repeats) for what, work in jobs.items()]
    return rows


def _batch_jobs(data: Dataset, recipe: Recipe, batch_size: int) -> dict[str, Callable[[], Any]]:
    """The parts of a training batch, each on its own, and the whole."""
    layout = Execution(layout="channels_last")
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(len(data), (batch_size,), generator=generator)
    images, _ = data.batch(indices)
    return {
        "pick a batch": partial(data.batch, indices),
        "crop": partial(random_crop, images, 4, generator),
        "flip": partial(random_flip, images, generator),
        "cutout": partial(cutout, images, data.image_size // 2, generator),
        "normalise": partial(
            normalize, images, data.mean, data.std, memory_format=layout.memory_format
        ),
        f"whole batch of {recipe.name}": partial(
            make_batch, data, indices, recipe, layout, epoch=0, step=0
        ),
    }


def _decode_jobs(batch_size: int) -> dict[str, Callable[[], Any]]:
    """JPEG of 500 x 375 pixels, the usual size in ImageNet, to 224: one thread and all threads."""
    photo = random_jpeg(500, 375)
    threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)

    def decode(_: int) -> Tensor:
        return read_image(photo, channels=3, size=224)

    return {
        "decode JPEG, 1 thread": lambda: list(map(decode, range(batch_size))),
        f"decode JPEG, {threads} threads": lambda: list(pool.map(decode, range(batch_size))),
    }


def random_jpeg(width: int, height: int) -> bytes:
    """A JPEG file of a picture about as busy as a photograph."""
    pixels = torch.rand(1, 3, height // 16, width // 16, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(pixels, (height, width), mode="bilinear")[0]
    noise = 0.1 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    image = (255 * (smooth + noise).clamp(0, 1)).byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return file.getvalue()


def random_dataset(architecture: Architecture, image_size: int, n: int) -> Dataset:
    """Random pixels and labels that fit a network."""
    generator = torch.Generator().manual_seed(0)
    channels, classes = architecture.in_channels, architecture.num_classes
    shape = (n, image_size, image_size, channels)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return Dataset(
        name="random",
        split="train",
        images=pixels.permute(0, 3, 1, 2),
        labels=torch.randint(classes, (n,), generator=generator),
        classes=tuple(map(str, range(classes))),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


def training_steps(
    recipe: Recipe, data: Dataset, *, state: State | None = None, world: World | None = None
) -> Iterator[int]:
    """The loop's own steps without end; yields this process's images after each.

    ``recipe.execution`` must be explicit. ``state`` may hold another network than the recipe's.
    """
    execution = Execution.parse(recipe.execution)
    world = world or World()
    if state is None:
        architecture = get_architecture(recipe.model, **recipe.model_overrides)
        steps = steps_per_epoch(len(data), recipe.batch_size)
        state = State.create(recipe, architecture, execution, steps)
    if execution.mode == "compile":
        state.model.compile()
    network = DistributedDataParallel(state.model) if world.size > 1 else state.model
    state.model.train()
    for epoch in itertools.count():
        batches = epoch_batches(
            len(data),
            recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            rank=world.rank,
            world_size=world.size,
        )
        for step, indices in enumerate(batches):
            inputs, targets = make_batch(
                data, indices, recipe, execution, epoch=epoch, step=step, rank=world.rank
            )
            state.sums += train_step(state, network, inputs, targets, recipe, execution)
            _wait_for(execution)
            yield len(inputs)


def random_predictor(
    architecture: Architecture, image_size: int, execution: Execution
) -> Predictor:
    """A predictor with an untrained network."""
    checkpoint = Checkpoint(
        model=ResNet(architecture).eval(),
        classes=tuple(map(str, range(architecture.num_classes))),
        mean=(0.5,) * architecture.in_channels,
        std=(0.25,) * architecture.in_channels,
        image_size=image_size,
    )
    predictor = Predictor(checkpoint, execution=execution)
    if execution.mode == "compile":
        predictor.model.compile()
    return predictor


def fitting_execution(recipe: Recipe) -> Execution:
    """What ``train`` would choose for this recipe, were its data set as large as CIFAR-10."""
    architecture = get_architecture(recipe.model, **recipe.model_overrides)
    data = _random_training_set(recipe)
    recipe = replace(recipe, epochs=recipe.epochs * 50_000 / len(data))
    return choose_execution(recipe, architecture, data, report=print_to_stderr)


def measure_training(recipe: Recipe, *, repeats: int, seconds: float) -> NetworkRate:
    """A row of ``benchmark_training``, measured in this process."""
    execution = Execution.parse(recipe.execution)
    architecture = get_architecture(recipe.model, **recipe.model_overrides)
    data = _random_training_set(recipe)
    steps = training_steps(recipe, data)
    times = _times(partial(next, steps), repeats=repeats, seconds=seconds)
    return _network_rate(
        "training", recipe.model, architecture, data.image_size, execution, times, recipe.batch_size
    )


def _random_training_set(recipe: Recipe) -> Dataset:
    architecture = get_architecture(recipe.model, **recipe.model_overrides)
    size = recipe.image_size or default_image_size(architecture)
    return random_dataset(architecture, size, max(4 * recipe.batch_size, 1000))


def measure_inference(
    model: str,
    architecture: Architecture,
    *,
    batch_size: int,
    image_size: int,
    execution: Execution,
    repeats: int,
    seconds: float,
) -> NetworkRate:
    """A row of ``benchmark_inference``, measured in this process."""
    predictor = random_predictor(architecture, image_size, execution)
    images = random_dataset(architecture, image_size, batch_size).images
    times = _times(partial(predictor.logits, images), repeats=repeats, seconds=seconds)
    return _network_rate("inference", model, architecture, image_size, execution, times, batch_size)


def measure_folder(
    model: str,
    architecture: Architecture,
    *,
    batch_size: int,
    image_size: int,
    execution: Execution,
    folder: str | Path,
) -> FolderRate:
    """A row of ``benchmark_inference`` with a folder, measured in this process."""
    predictor = random_predictor(architecture, image_size, execution)
    paths = find_images([folder])[: 8 * batch_size]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = torch.stack(list(pool.map(predictor.read, paths)))
        jobs: list[Callable[[], Any]] = [
            lambda: list(pool.map(predictor.read, paths)),
            lambda: [predictor.logits(images) for images in decoded.split(batch_size)],
            lambda: list(predictor.predict(paths, batch_size=batch_size)),
        ]
        rounds = [[_time(job) for job in jobs] for _ in range(4)][1:]  # the first warms up
    decoder, network, _ = (
        len(paths) / statistics.median(column) for column in zip(*rounds, strict=True)
    )
    share = batch_size / len(paths)
    return FolderRate(
        model=model,
        image_size=image_size,
        execution=str(execution),
        images=len(paths),
        decoder_images_per_second=decoder,
        network_images_per_second=network,
        **_summary([share * both for _, _, both in rounds], batch_size),
    )


def measure_limits(execution: Execution, *, repeats: int = 8) -> tuple[float, float]:
    """GFLOP/s of a large matrix product and of a large 3x3 convolution: the best of ``repeats``.

    In bf16 where the machine multiplies it in hardware, else in fp32, whatever the execution's
    number type: what the machine could do, not what this execution could.
    """
    device = execution.device
    fast = device == "cuda" or has_fast_bf16()
    options: Any = {"device": device, "dtype": torch.bfloat16 if fast else torch.float32}
    n, channels, size, batch = 2048, 256, 28, 16
    a, b = torch.rand(n, n, **options), torch.rand(n, n, **options)
    images = torch.rand(batch, channels, size, size, **options)
    weight = torch.rand(channels, channels, 3, 3, **options)
    images, weight = (x.to(memory_format=torch.channels_last) for x in (images, weight))
    jobs = {
        lambda: torch.mm(a, b): 2 * n**3,
        lambda: F.conv2d(images, weight, padding=1): 18 * batch * (size * channels) ** 2,
    }

    def work(job: Callable[[], Tensor]) -> None:
        job()
        _wait_for(execution)

    with torch.inference_mode():
        product, convolution = (
            operations / min(_times(partial(work, job), repeats=repeats, seconds=1.0)) / 1e9
            for job, operations in jobs.items()
        )
    return product, convolution


def machine() -> dict[str, Any]:
    """What the figures were measured on: processor, cores, threads, versions."""
    packages = ("torch", "torchvision", "resnetlab")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "fast_bf16": has_fast_bf16(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def describe(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows and machine as plain values for JSON."""
    return {"machine": machine(), "rows": [row.to_dict() for row in rows]}


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings, those of numbers with a ``*`` at the end, and cells; rows must be of one kind."""
    cells = [row.cells() for row in rows]
    return list(cells[0]) if cells else [], [list(row.values()) for row in cells]


def _network_rate(
    job: Literal["training", "inference"],
    model: str,
    architecture: Architecture,
    image_size: int,
    execution: Execution,
    times: list[float],
    batch_size: int,
) -> NetworkRate:
    peak = _peak_memory_mb(execution)  # before the limits, whose tensors are large
    layers = summarize(architecture, image_size)
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    rates = _summary(times, batch_size)
    passes = 3 if job == "training" else 1
    product, convolution = measure_limits(execution)
    return NetworkRate(
        job=job,
        model=model,
        image_size=image_size,
        execution=str(execution),
        parameters=sum(layer.parameters for layer in layers),
        multiply_adds=multiply_adds,
        gflops=2e-9 * multiply_adds * passes * rates["images_per_second"],
        matrix_product_gflops=product,
        convolution_gflops=convolution,
        peak_memory_mb=peak,
        **rates,
    )


def _time(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _times(work: Callable[[], Any], *, repeats: int, seconds: float) -> list[float]:
    """Seconds of each repetition, after two that warm up; see ``benchmark_training``."""
    for _ in range(2):
        work()
    times: list[float] = []
    while len(times) < repeats and (len(times) < 3 or sum(times) < seconds):
        times.append(_time(work))
    return times


def _summary(times: Sequence[float], batch_size: int) -> dict[str, Any]:
    """The fields of ``Rate``."""
    slow, median, fast = _quartiles([batch_size / t for t in times])
    return {
        "batch_size": batch_size,
        "images_per_second": median,
        "low": slow,
        "high": fast,
        "ms_per_step": 1e3 * statistics.median(times),
    }


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def _wait_for(execution: Execution) -> None:
    if execution.device == "cuda":
        torch.cuda.synchronize()


def _peak_memory_mb(execution: Execution) -> float:
    if execution.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent had before it started this process.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on macOS


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _require_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be greater than 0, not {value}.")


def _short(value: float) -> str:
    """Three digits of a positive number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _in_own_process(job: str, **arguments: Any) -> dict[str, Any]:
    """What ``_answer`` returns in a new process."""
    command = [sys.executable, "-m", "resnetlab.benchmark"]
    task = json.dumps({"job": job, **arguments})
    process = subprocess.run(command, input=task, stdout=subprocess.PIPE, text=True)
    if process.returncode == -signal.SIGKILL:
        raise ValueError("the measurement was killed, so memory is short; take a smaller batch.")
    process.check_returncode()
    return json.loads(process.stdout.splitlines()[-1])


def _row(values: dict[str, Any]) -> Any:
    kind = NetworkRate if "job" in values else FolderRate
    return kind(**{field.name: values[field.name] for field in fields(kind)})


def _answer(job: str, **arguments: Any) -> dict[str, Any]:
    if job in ("choose", "training"):
        recipe = Recipe.from_dict(arguments.pop("recipe"))
        if job == "choose":
            return {"execution": str(fitting_execution(recipe))}
        return measure_training(recipe, **arguments).to_dict()
    arguments["architecture"] = Architecture.from_dict(arguments["architecture"])
    arguments["execution"] = Execution.parse(arguments["execution"])
    measure = measure_folder if job == "folder" else measure_inference
    return measure(**arguments).to_dict()


if __name__ == "__main__":
    print(json.dumps(_answer(**json.load(sys.stdin))))
