"""What is measured, never how fast it was."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from resnetlab import benchmark, cli
from resnetlab.benchmark import (
    DataRate,
    FileRate,
    NetworkRate,
    benchmark_data,
    benchmark_files,
    benchmark_inference,
    benchmark_training,
    describe,
    measure,
    measure_files,
    measure_inference,
    measure_training,
    networks,
    random_dataset,
    random_file,
    table,
    training_steps,
)
from resnetlab.compute.execution import PLAIN
from resnetlab.models.architecture import get_architecture
from resnetlab.recipes.record import Recipe

ARCHITECTURE = get_architecture("resnet20")
TINY = get_architecture("resnet18", depths=(1, 1, 1, 1), widths=(4, 8, 8, 8))


@pytest.fixture
def limits(monkeypatch):
    """The machine's limits, known."""
    monkeypatch.setattr(measure, "measure_limits", lambda execution: (200.0, 100.0))


def assert_complete(row):
    assert 0 < row.low <= row.images_per_second <= row.high
    assert row.ms_per_step > 0
    values = json.loads(json.dumps(row.to_dict()))
    fields = {name: values.pop(name) for name in type(row).__dataclass_fields__}
    assert type(row)(**fields) == row
    headings, (cells,) = table([row])
    assert len(headings) == len(cells)
    assert all(cells)


def test_a_row_of_training_from_a_process_of_its_own():
    (row,) = benchmark_training(["resnet20"], [4], execution="plain", steps=3)
    assert_complete(row)
    assert (row.job, row.model, row.batch_size, row.image_size) == ("training", "resnet20", 4, 32)
    assert row.execution == "cpu,fp32,contiguous,eager"
    assert row.parameters == 269_722
    assert row.matrix_product_gflops > 0
    assert row.convolution_gflops > 0
    assert row.peak_memory_mb > 50


def test_operations_of_a_training_step_are_three_times_those_of_inference(limits):
    recipe = Recipe(batch_size=4, execution="plain")
    trained = measure_training(recipe, repeats=3, seconds=1)
    inferred = measure_inference(
        *("resnet20", ARCHITECTURE),
        batch_size=2,
        image_size=32,
        execution=PLAIN,
        repeats=3,
        seconds=1,
    )
    for row, passes in ((trained, 3), (inferred, 1)):
        assert_complete(row)
        operations = 2 * passes * 40_551_040
        assert row.gflops == pytest.approx(operations * row.images_per_second / 1e9)
        assert row.share_of_matrix_product == pytest.approx(row.gflops / 2)
        assert row.share_of_convolution == pytest.approx(row.gflops)


def test_a_row_of_files_names_the_limit(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(random_file(64, 48))
    options = {"image_size": 256, "execution": PLAIN, "seconds": 0.1}
    row = measure_files("tiny", TINY, folder=tmp_path, **options)
    assert_complete(row)
    assert (row.job, row.files, row.batch_size) == ("files", tmp_path.name, 16)
    slower = min(row.decoder_images_per_second, row.network_images_per_second)
    assert slower == getattr(row, f"{row.limit}_images_per_second")

    (tmp_path / "1.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"cannot read .*1\.jpg: not an image"):
        measure_files("tiny", TINY, folder=tmp_path, **options)


def test_a_row_of_files_from_a_process_of_its_own(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(random_file(64, 48))
    (row,) = benchmark_files(
        ["resnet20"], execution="plain", image_size=512, folder=tmp_path, seconds=0.1
    )
    assert_complete(row)
    assert (row.model, row.image_size, row.files) == ("resnet20", 512, tmp_path.name)
    assert row.execution == "cpu,fp32,contiguous,eager"


def test_a_mistake_that_only_the_measuring_process_sees_is_a_sentence(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.png: not an image"):
        benchmark_files(["resnet20"], folder=tmp_path)


def test_names_are_checked_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(networks, "_in_own_process", lambda *_, **__: pytest.fail("measured"))
    for call in (benchmark_training, benchmark_inference, benchmark_files):
        with pytest.raises(ValueError, match="no model 'resnet99'"):
            call(["resnet20", "resnet99"])


def test_without_a_folder_a_photograph_and_the_networks_own_size_are_read(monkeypatch):
    asked = []

    def answer(job, **task):
        folder = Path(task["folder"])
        (file,) = folder.iterdir()
        with Image.open(file) as image:
            asked.append((job, folder.name, image.format, image.size))
        rate = dict.fromkeys(FileRate.__dataclass_fields__, 1)
        return rate | {"job": job, "files": folder.name}

    monkeypatch.setattr(networks, "_in_own_process", answer)
    rows = benchmark_files(["resnet20"])
    assert asked == [
        ("files", "JPEG of 500 x 375", "JPEG", (500, 375)),
        ("files", "PNG of 32 x 32", "PNG", (32, 32)),
    ]
    assert [row.files for row in rows] == [files for _, files, *_ in asked]


def test_rows_of_the_data():
    rows = benchmark_data("cifar10-sample", [8, 16], repeats=3)
    for row in rows:
        assert_complete(row)
    assert [row.batch_size for row in rows[1:]] == len(rows[1:]) // 2 * [8] + len(rows[1:]) // 2 * [
        16
    ]
    assert len({row.what for row in rows}) == 1 + len(rows[1:]) // 2
    described = describe(rows)
    assert json.loads(json.dumps(described)) == described
    assert described["machine"]["cores"] > 0


def test_the_steps_are_those_of_the_loop():
    recipe = Recipe(batch_size=4, execution="plain")
    steps = training_steps(recipe, random_dataset(ARCHITECTURE, 32, 10))
    assert [next(steps) for _ in range(3)] == [4, 4, 4]  # an epoch has two


def test_the_steps_see_images_of_full_size(monkeypatch):
    shapes = []

    def step(plan, state, network, inputs, *_):
        shapes.append(tuple(inputs.shape))
        return torch.zeros(3)

    monkeypatch.setattr(measure, "train_step", step)
    recipe = Recipe(batch_size=4, execution="plain", early_size=16, early_share=0.5)
    next(training_steps(recipe, random_dataset(ARCHITECTURE, 32, 10)))
    assert shapes == [(4, 3, 32, 32)]


def test_a_table_of_nothing():
    assert table([]) == ([], [])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: benchmark_training(["resnet21"]), "no model 'resnet21'"),
        (lambda: benchmark_training(batch_sizes=[0]), "`?batch_size`? must be greater than 0"),
        (lambda: benchmark_training(steps=0), "steps must be greater than 0"),
        (lambda: benchmark_training(execution="fast"), "`execution` has no word 'fast'"),
        (lambda: benchmark_inference(["resnet21"]), "no model 'resnet21'"),
        (lambda: benchmark_inference(batch_sizes=[0]), "`?batch_size`? must be greater than 0"),
        (lambda: benchmark_inference(image_size=0), "`?image_size`? must be greater than 0"),
        (lambda: benchmark_inference(execution="fast"), "`execution` has no word 'fast'"),
        (lambda: benchmark_files(["resnet21"]), "no model 'resnet21'"),
        (lambda: benchmark_inference(execution="bf16,channels_last,winograd"), "is for training"),
        (lambda: benchmark_files(folder="nowhere"), "there is no folder nowhere"),
        (lambda: benchmark_data("cifar11"), "no data set 'cifar11'"),
    ],
)
def test_what_cannot_be_measured_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_every_kind_of_row_has_its_own_columns():
    assert {kind.__name__ for kind in (NetworkRate, FileRate, DataRate)} == {
        kind.__name__ for kind in benchmark.Rate.__subclasses__()
    }


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["resnetlab", "benchmark", *words])
    cli.main()
    return capsys.readouterr().out


@pytest.fixture
def measured_inference(monkeypatch):
    """Rows of inference that are known; what was asked for comes back as a dictionary."""
    asked = {}
    rates = {"batch_size": 2, "images_per_second": 1, "low": 1, "high": 1, "ms_per_step": 2}
    common = rates | {"model": "resnet20", "image_size": 32, "execution": "bf16"}
    numbers = dict.fromkeys(("parameters", "multiply_adds", "gflops", "peak_memory_mb"), 3)
    limits = {"matrix_product_gflops": 3, "convolution_gflops": 3}
    pixels = NetworkRate(job="inference", **common, **numbers, **limits)
    alone = {"decoder_images_per_second": 900, "network_images_per_second": 4500}
    files = FileRate(files="JPEG of 500 x 375", **common, **alone)

    def answer(row):
        def measured(*arguments, **options):
            asked[row.job] = (arguments, options)
            return [row]

        return measured

    monkeypatch.setattr(benchmark, "benchmark_inference", answer(pixels))
    monkeypatch.setattr(benchmark, "benchmark_files", answer(files))
    return asked


def test_the_command_line_says_which_is_the_limit(monkeypatch, capsys, measured_inference):
    words = "inference --batch-sizes 2 --execution plain --folder photos --image-size 32"
    out = run(monkeypatch, capsys, *words.split())
    assert re.search(r"network .*images/s .*of a convolution", out)
    assert re.search(r"limit .*decoder alone .*network alone .*files", out)
    assert "resnet20, JPEG of 500 x 375: limit: decoder (decoder alone 900 images/s, " in out
    how = {"execution": "plain", "overrides": {}, "image_size": 32}
    assert measured_inference == {
        "inference": ((("resnet20",), (2,)), how | {"repeats": 30}),
        "files": ((("resnet20",),), how | {"folder": Path("photos")}),
    }


def test_json_holds_pixels_and_files(monkeypatch, capsys, measured_inference):
    rows = json.loads(run(monkeypatch, capsys, "inference", "--json"))["rows"]
    assert [row["job"] for row in rows] == ["inference", "files"]
    assert rows[1]["limit"] == "decoder"


def test_the_command_line_hands_every_option_on(monkeypatch, capsys):
    asked = {}

    def measured(*arguments, **options):
        asked.update(options, arguments=arguments)
        return []

    monkeypatch.setattr(benchmark, "benchmark_training", measured)
    words = "--models resnet20 resnet32 --batch-sizes 8 16 --execution plain --steps 3"
    out = run(monkeypatch, capsys, "training", *words.split(), *["--override", "stem", "cifar"])
    assert asked.pop("arguments") == (("resnet20", "resnet32"), (8, 16))
    assert asked == {
        "execution": "plain",
        "overrides": {"stem": "cifar"},
        "recipe": "cifar10-quick",
        "steps": 3,
    }
    assert not out.strip()


def test_the_command_line_prints_the_data_as_a_table_or_json(monkeypatch, capsys):
    words = ("data", "cifar10-sample", "--batch-sizes", "4", "--repeats", "3")
    assert re.search(r"what .*images/s", run(monkeypatch, capsys, *words))
    values = json.loads(run(monkeypatch, capsys, *words, "--json"))
    assert set(values) == {"machine", "rows"}
