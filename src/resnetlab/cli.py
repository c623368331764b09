"""The command line: each command is a function here that calls the function of its job.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json as json_module
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import tyro
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional, arg

from resnetlab.records import did_you_mean
from resnetlab.training.recipe import ABOUT, RECIPES, Recipe

F = TypeVar("F", bound=Callable[..., None])

app = tyro.extras.SubcommandApp()
data = tyro.extras.SubcommandApp()
app.command(data, name="data", help="Fetch a data set, look at it, measure it.")
benchmark = tyro.extras.SubcommandApp()
app.command(benchmark, name="benchmark", help="Measure images a second of each part.")


def _registered_in(group: tyro.extras.SubcommandApp) -> Callable[..., Any]:
    """A decorator factory: tyro only binds the arguments; ``main`` calls the command after that.

    Otherwise tyro would take a ValueError from within the command for one of its own.
    """

    def register(name: str | None = None) -> Callable[[F], F]:
        def decorate(function: F) -> F:
            @functools.wraps(function)
            def bind(*args: Any, **kwargs: Any) -> Callable[[], None]:
                return functools.partial(function, *args, **kwargs)

            group.command(name=name or function.__name__)(bind)
            return function

        return decorate

    return register


command, data_command = _registered_in(app), _registered_in(data)
benchmark_command = _registered_in(benchmark)


def _default(value: str) -> str:
    """What stands after the help of an option that may be absent."""
    return "" if value == "None" else f"(default: {value})"


optional = functools.partial(arg, help_behavior_hint=_default)
for _name, _hint in get_type_hints(Recipe).items():
    if type(None) in get_args(_hint):
        Recipe.__annotations__[_name] = Annotated[_hint, optional(metavar=_name.upper())]

# One subcommand for each recipe, so that its --help shows its own values.
AnyRecipe = tyro.extras.subcommand_type_from_defaults(RECIPES, ABOUT)
Run = Annotated[Path, arg(metavar="RUN", help="run folder")]
Network = Annotated[
    str, arg(metavar="RUN", help="run folder, a file of weights of any origin, or a hub name")
]
Model = Annotated[
    str | None, optional(metavar="NAME", help="architecture, where a foreign file cannot tell it")
]
Out = Annotated[Path | None, optional(metavar="PNG", help="file to draw to")]
DataDir = Annotated[
    Path | None, optional(metavar="DIR", help="folder that holds the data set already")
]
Json = Annotated[bool, arg(help="print JSON for machines")]
Models = Annotated[tuple[str, ...], arg(metavar="NAME ...", help="names of `resnetlab models`")]
BatchSizes = Annotated[tuple[int, ...], arg(metavar="N ...", help="images at once, a row for each")]
HowToCompute = Annotated[
    str, arg(metavar="WORDS", help="auto, plain, or words such as `bf16,channels_last,threads=2`")
]
HowToJudge = Annotated[
    str,
    arg(
        metavar="WORDS",
        help="channels_last is in fp32, so that the number does not depend on the machine; auto "
        "takes bf16 where the CPU has it: about twice as fast, a few of 1,000 answers may change",
    ),
]
Overrides = Annotated[
    dict[str, int | str],
    arg(help="fields of the architecture to change, e.g. `stem cifar depths 2,2,2,2`"),
]


@command()
def models(
    pattern: Positional[str] = "*",
    verify: Annotated[bool, arg(help="prove them instead, against paper and torchvision")] = False,
    json: Json = False,
) -> None:
    """List the networks: layers, parameters, multiply-adds, the paper's error.

    Args:
        pattern: names to list, such as "resnet*"
    """
    if verify:
        _verify(pattern, json)
        return
    from resnetlab.models.summary import describe_models

    rows = describe_models(pattern)
    if json:
        _print_json(rows)
        return
    table = _table("name", "layers*", "parameters*", "multiply-adds*", "at*", "paper's error*")
    for row in rows:
        error = "" if row["paper_error"] is None else f"{row['paper_error']:.2f} %"
        numbers = [str(row["layers"]), f"{row['parameters']:,}", f"{row['multiply_adds']:,}"]
        table.add_row(row["name"], *numbers, f"{row['image_size']} px", error)
    _print_table(table)
    print("Error: top-1; CIFAR-10 test set at 32 px, ImageNet validation (10 crops) at 224 px.")


def _verify(pattern: str, json: bool) -> None:
    from dataclasses import asdict

    from resnetlab.models.architecture import list_models
    from resnetlab.models.verification import verify_model

    proofs = []
    for name in track(
        list_models(pattern), "Verifying", console=Console(stderr=True), transient=True
    ):
        proofs.append(verify_model(name))
    if json:
        _print_json([asdict(proof) | {"holds": proof.holds} for proof in proofs])
    else:
        table = _table("name", "parameters*", "paper*", "torchvision*", "compared with")
        table.add_column("difference", justify="right")
        table.add_column("verdict")
        for proof in proofs:
            counts = (proof.parameters, proof.paper_parameters, proof.torchvision_parameters)
            cells = ["-" if count is None else f"{count:,}" for count in counts]
            verdict = "proven" if proof.holds else "DIFFERS"
            cells += [proof.reference, f"{proof.output_difference:.1e}", verdict]
            table.add_row(proof.name, *cells)
        _print_table(table)
    if not all(proof.holds for proof in proofs):
        raise SystemExit(1)


@command()
def show(
    name: Positional[str],
    image_size: Annotated[
        int | None, optional(metavar="N", help="pixels; default: the paper's")
    ] = None,
    in_channels: Annotated[int | None, optional(metavar="N", help="default: 3")] = None,
    num_classes: Annotated[int | None, optional(metavar="N", help="default: the paper's")] = None,
    override: Overrides = {},  # noqa: B006
    json: Json = False,
) -> None:
    """Walk through a network: the output shape and the size of each of its parts.

    Args:
        name: a name of `resnetlab models`
    """
    from dataclasses import asdict

    from resnetlab.models.architecture import get_architecture
    from resnetlab.models.summary import default_image_size, summarize

    given = {"in_channels": in_channels, "num_classes": num_classes}
    changes = {key: value for key, value in given.items() if value is not None}
    architecture = get_architecture(name, **changes, **override)
    size = default_image_size(architecture) if image_size is None else image_size
    layers = summarize(architecture, size)
    if json:
        _print_json([asdict(layer) for layer in layers])
        return
    table = _table("part", "what", "output*", "parameters*", "multiply-adds*")
    table.add_row("input", "", f"{architecture.in_channels} x {size} x {size}", "", "")
    for layer in layers:
        shape = " x ".join(map(str, layer.output))
        counts = [f"{n:,}" if n else "" for n in (layer.parameters, layer.multiply_adds)]
        table.add_row(layer.name, layer.kind, shape, *counts)
    table.add_section()
    totals = [sum(getattr(x, key) for x in layers) for key in ("parameters", "multiply_adds")]
    table.add_row(
        "total", f"{architecture.num_layers} weighted layers", "", *(f"{n:,}" for n in totals)
    )
    _print_table(table)


@command()
def train(
    recipe: OmitArgPrefixes[AnyRecipe],  # type: ignore[valid-type]
    out: Annotated[
        Path | None, optional(metavar="RUN", help="run folder; default: runs/NAME")
    ] = None,
) -> None:
    """Train a network and judge it on the test set at the end.

    Args:
        recipe: what to train
    """
    from resnetlab.training.loop import train

    _report(train(recipe, out=out))


@command()
def resume(run: Positional[Run]) -> None:
    """Go on with a run that was interrupted, as if it had not been."""
    from resnetlab.training.loop import resume

    _report(resume(run))


def _report(training: Any) -> None:
    if training.test is None:
        return
    print(f"test accuracy {training.test.top1:.2f} % on {training.test.n:,} images")
    if training.test_tta is not None:
        result = training.test_tta
        print(f"with test-time augmentation ({result.tta}) {result.top1:.2f} %")
    validated = training.history[-1]["val_top1"] is not None
    chosen = "best on the validation images" if validated else "as it was at the end"
    for name, what in (
        ("best.pt", f"the network, {chosen}"),
        ("test.json", "its result on the test set"),
        ("metrics.jsonl", "every epoch"),
        ("curves.png", "the same as a picture"),
        ("last.pt", "the last state"),
        ("tensorboard", "events for TensorBoard"),
    ):
        print(f"  {training.run / name}  {what}")


@command()
def evaluate(
    run: Positional[Network],
    split: Annotated[Literal["test", "val"], arg(help="images to judge by")] = "test",
    dataset: Annotated[str | None, optional(metavar="NAME", help="default: the run's own")] = None,
    data_dir: DataDir = None,
    model: Model = None,
    execution: HowToJudge = "channels_last",
    tta: Annotated[
        Literal["none", "flip", "flip-shift"],
        arg(help="average the answers to an image, its mirror image, and both shifted by a pixel"),
    ] = "none",
    json: Json = False,
) -> None:
    """Judge a trained network: accuracy, loss, and a table of the classes."""
    from resnetlab.evaluation import evaluate
    from resnetlab.runs import load_model

    checkpoint = load_model(run, model=model)
    _say_origin(checkpoint)
    result = evaluate(
        checkpoint, split=split, dataset=dataset, data_dir=data_dir, execution=execution, tta=tta
    )
    if json:
        _print_json(result.to_dict())
        return
    print(f"{result.dataset}, {result.split}: {result.n:,} images")
    print(f"top-1 {result.top1:.2f} %   top-5 {result.top5:.2f} %   loss {result.loss:.4f}")
    table = _table("class", "precision %*", "recall %*", "F1 %*", "images*")
    for row in result.per_class():
        scores = [f"{row[key]:.2f}" for key in ("precision", "recall", "f1")]
        table.add_row(row["class"], *scores, f"{row['n']:,}")
    _print_table(table)


@command()
def predict(
    run: Positional[Network],
    images: Positional[
        Annotated[
            tuple[Path, ...],
            arg(
                metavar="PATH ...",
                help="files and folders",
                help_behavior_hint="(one at the least)",
            ),
        ]
    ],
    topk: Annotated[int, arg(metavar="N", help="classes to name for each image")] = 5,
    format: Annotated[Literal["table", "json", "csv"], arg(help="how to print them")] = "table",
    model: Model = None,
    execution: HowToCompute = "auto",
) -> None:
    """Name what is in image files, or in all images of folders."""
    from resnetlab.prediction import predict, print_predictions
    from resnetlab.runs import load_model

    if not images:
        raise ValueError("predict needs an image or a folder after the run.")
    checkpoint = load_model(run, model=model)
    _say_origin(checkpoint)
    predictions = predict(checkpoint, images, topk=topk, execution=execution)
    print_predictions(predictions, format)
    if any(prediction.error for prediction in predictions):
        raise SystemExit(1)


@command()
def compare(
    network: Positional[
        Annotated[str, arg(metavar="FILE:NAME", help="class or factory; .py, .ipynb or .txt")]
    ],
    to: Annotated[
        str | None, optional(metavar="NAME", help="reference; default: the closest")
    ] = None,
    image_size: Annotated[int | None, optional(metavar="N", help="pixels")] = None,
    in_channels: Annotated[int | None, optional(metavar="N", help="channels of the image")] = None,
    num_classes: Annotated[
        int | None, optional(metavar="N", help="classes that are expected")
    ] = None,
    all: Annotated[
        bool, arg(help="every difference, also of a network that is none of the papers'")
    ] = False,
    diagram: Annotated[
        Path | None, optional(metavar="FILE.svg", help="draw both networks side by side")
    ] = None,
    json: Json = False,
) -> None:
    """Say how a ResNet differs from the reference. Runs its code.

    FILE:NAME may have literal arguments: net.py:Net(depth=20). Exit code 0 if it is identical or
    equivalent up to names, 1 if it differs.
    """
    print(f"resnetlab: running the code in {network.partition(':')[0] or network}", file=sys.stderr)
    from resnetlab.comparison import compare_models, draw, load_target, render

    with contextlib.redirect_stdout(sys.stderr):  # the candidate's prints are not our answer
        candidate = load_target(network, num_classes=num_classes, in_channels=in_channels)
        comparison = compare_models(
            candidate, to, image_size=image_size, in_channels=in_channels, num_classes=num_classes
        )
    if diagram is not None:
        diagram.expanduser().write_text(draw(comparison), encoding="utf-8")
    if json:
        _print_json(comparison.to_dict())
    else:
        print(render(comparison, everything=all))
    if comparison.verdict == "different":
        raise SystemExit(1)


@command()
def plot(run: Positional[Run], out: Out = None) -> None:
    """Draw a run's loss, accuracy and learning rate over its epochs."""
    from resnetlab.plots import plot_curves

    print(plot_curves(run, out))


@command()
def visualize(
    run: Positional[Run],
    n: Annotated[int, arg(help="images")] = 24,
    only: Annotated[Literal["all", "right", "wrong"], arg(help="which answers")] = "all",
    split: Annotated[Literal["test", "val"], arg(help="images to take")] = "test",
    out: Out = None,
    data_dir: DataDir = None,
    execution: HowToJudge = "channels_last",
) -> None:
    """Draw images with what the network says: blue and a tick if right, red and a cross if not."""
    from resnetlab.image_plots import visualize

    options = {"n": n, "only": only, "split": split, "out": out, "data_dir": data_dir}
    print(visualize(run, **options, execution=execution))


DatasetName = Positional[Annotated[str, arg(metavar="NAME", help="cifar10 or fashion-mnist")]]


@data_command()
def fetch(name: DatasetName, data_dir: DataDir = None) -> None:
    """Bring a data set into the cache, from the first source that answers, and check it."""
    from resnetlab.data.sources import fetch

    print(fetch(name, data_dir=data_dir))


@data_command()
def stats(name: DatasetName, data_dir: DataDir = None, json: Json = False) -> None:
    """Compute mean and standard deviation of each channel from the training pixels."""
    from resnetlab.data.datasets import dataset_statistics, load_dataset

    dataset = load_dataset(name, "train+val", data_dir=data_dir)
    mean, std = dataset_statistics(dataset)
    if json:
        _print_json({"dataset": name, "n": len(dataset), "mean": mean, "std": std})
        return
    print(f"{name}: {len(dataset):,} training images, pixels scaled to 0..1")
    print("mean", *(f"{value:.8f}" for value in mean))
    print("std ", *(f"{value:.8f}" for value in std))


@data_command("show")
def show_data(
    name: DatasetName,
    out: Annotated[Path, arg(metavar="PNG", help="file to draw to")] = Path("samples.png"),
    split: Annotated[Literal["train", "test"], arg(help="images to draw from")] = "train",
    data_dir: DataDir = None,
) -> None:
    """Draw a labelled grid of images, a row for each class."""
    from resnetlab.data.datasets import load_dataset
    from resnetlab.image_plots import plot_samples

    whole = "train+val" if split == "train" else split
    print(plot_samples(load_dataset(name, whole, data_dir=data_dir), out))


@benchmark_command("training")
def benchmark_training(
    models: Models = ("resnet20",),
    batch_sizes: BatchSizes = (128,),
    execution: HowToCompute = "auto",
    recipe: Annotated[str, arg(help="its optimizer and augmentation")] = "cifar10-quick",
    override: Overrides = {},  # noqa: B006
    steps: Annotated[int, arg(help="of each row; fewer if they last over 20 s")] = 20,
    json: Json = False,
) -> None:
    """Measure the training loop's own steps, beside what the machine can do.

    The share is of the operations that the network's definition needs: execution winograd does
    fewer, and may pass 100 %.
    """
    from resnetlab.benchmark import benchmark_training

    rows = benchmark_training(
        *(models, batch_sizes),
        execution=execution,
        overrides=override,
        recipe=recipe,
        steps=steps,
    )
    _print_rows(rows, json)


@benchmark_command("inference")
def benchmark_inference(
    models: Models = ("resnet20",),
    batch_sizes: BatchSizes = (1, 16),
    execution: HowToCompute = "auto",
    image_size: Annotated[
        int | None, optional(metavar="N", help="pixels; default: the paper's")
    ] = None,
    folder: Annotated[
        Path | None, optional(metavar="DIR", help="images to read; default: some are made")
    ] = None,
    override: Overrides = {},  # noqa: B006
    repeats: Annotated[int, arg(help="of each row; fewer if they last over 10 s")] = 30,
    json: Json = False,
) -> None:
    """Measure inference on pixels, and on files: is the decoder or the network the limit?"""
    from resnetlab.benchmark import benchmark_files, benchmark_inference

    how: dict[str, Any] = {"execution": execution, "overrides": override}
    how["image_size"] = image_size
    rows = benchmark_inference(models, batch_sizes, **how, repeats=repeats)
    files = benchmark_files(models, **how, folder=folder)
    if json:
        _print_rows([*rows, *files], json)
        return
    _print_rows(rows, json)
    _print_rows(files, json)
    for row in files:
        print(
            f"{row.model}, {row.files}: limit: {row.limit} "
            f"(decoder alone {row.decoder_images_per_second:,.0f} images/s, "
            f"network alone {row.network_images_per_second:,.0f}, "
            f"together {row.images_per_second:,.0f})"
        )


@benchmark_command("data")
def benchmark_data(
    name: Positional[Annotated[str, arg(metavar="NAME", help="data set")]] = "cifar10",
    batch_sizes: BatchSizes = (128,),
    recipe: Annotated[str, arg(help="its augmentation")] = "cifar10-quick",
    repeats: Annotated[int, arg(help="of each row; fewer if they last over 2 s")] = 50,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Measure loading a data set, making batches of it, decoding JPEG files."""
    from resnetlab.benchmark import benchmark_data

    rows = benchmark_data(name, batch_sizes, recipe=recipe, data_dir=data_dir, repeats=repeats)
    _print_rows(rows, json)


def _print_rows(rows: Any, json: bool) -> None:
    from resnetlab.benchmark import describe, table

    if json:
        _print_json(describe(rows))
        return
    headings, cells = table(rows)
    printed = _table(*headings)
    for row in cells:
        printed.add_row(*row)
    _print_table(printed)


def main() -> None:
    """Run a command; a mistake of the user's is one sentence and exit code 2, Ctrl-C is 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a name cannot be written, ? stands for it
    try:
        try:
            _parse(sys.argv[1:])()
        finally:
            sys.stdout.flush()
    except ValueError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt as error:
        _fail(str(error) or "stopped.", 130)
    except OSError as error:
        # Python flushes once more at its end, and must not complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # our reader went away, as in `... | head`
            sys.exit(1)
        _fail(str(error), 2)


def _parse(words: list[str]) -> Callable[[], None]:
    """The command that the words ask for, its arguments bound; ValueError if they ask for none."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return app.cli(
                prog="resnetlab",
                description="Train, evaluate and use residual networks.",
                args=words,
                config=(tyro.conf.CascadeSubcommandArgs,),
            )
    except SystemExit as stop:
        if stop.code:
            raise ValueError(_one_sentence(complaint.getvalue(), words)) from None
        raise


def _one_sentence(complaint: str, words: list[str]) -> str:
    """tyro's box of advice as one sentence; the nearest name instead of all that there are."""
    lines = [line.strip(" │╭╮╰╯") for line in complaint.splitlines()][1:]
    rules = [set(line) <= set("-─") for line in lines]  # tyro draws in ASCII where it must
    if rules[0]:
        lines, rules = lines[1:], rules[1:]
    first = " ".join(lines[: rules.index(True)])
    first = re.sub(r"^Error parsing recipe: ", "", re.sub(r"\s+", " ", first))
    unknown = re.match(r"Unrecognized (?:or misplaced )?options: ([^\s,]+)", first)
    if not unknown:
        return first
    word = unknown[1]
    if word.startswith("-"):
        options = re.findall(r"(?<=\s)--[a-z-]+(?=\s)", complaint)
        return f"there is no option {word!r}{did_you_mean(word, dict.fromkeys(options))}"
    if words[0] == "train" and word not in RECIPES:
        return f"there is no recipe {word!r}{did_you_mean(word, RECIPES)}"
    known = re.search(r"Available subcommands: (.*?)[-─]{3}", " ".join(lines))
    if known and word in words[:2]:
        names = known[1].replace(" ", "").split(",")
        return f"there is no command {word!r}{did_you_mean(word, names)}"
    return first


def _fail(sentence: str, code: int) -> None:
    if os.environ.get("LOCAL_RANK", "0") != "0":
        if code == 130:
            sys.exit(code)
        time.sleep(10)  # torchrun's processes fail alike: the first one says it and ends the others
    print(f"resnetlab: {sentence}", file=sys.stderr)
    sys.exit(code)


def _say_origin(checkpoint: Any) -> None:
    """Of a network that we did not train, on stderr: what it is, and what had to be assumed."""
    if not checkpoint.recipe:
        for line in (checkpoint.origin, *checkpoint.notes):
            print(f"resnetlab: {line}", file=sys.stderr)


def _table(*columns: str) -> Table:
    """A table; a column whose name ends in * holds numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column.rstrip("*"), justify="right" if column.endswith("*") else "left")
    return table


def _print_table(table: Table) -> None:
    console = Console(markup=False)  # a class may be called [bold]
    if not console.is_terminal:  # a pipe or a file has no width to fit
        console.width = 200
    console.print(table)


def _print_json(value: Any) -> None:
    print(json_module.dumps(value, indent=2))
