"""What is measured, never how fast it was."""

import json
import re
import sys

import pytest

from resnetlab import benchmark, cli
from resnetlab.benchmark import (
    DataRate,
    FolderRate,
    NetworkRate,
    benchmark_data,
    benchmark_inference,
    benchmark_training,
    describe,
    measure,
    measure_folder,
    measure_inference,
    measure_training,
    random_dataset,
    random_jpeg,
    table,
    training_steps,
)
from resnetlab.models.architecture import get_architecture
from resnetlab.training.execution import PLAIN
from resnetlab.training.recipe import Recipe

ARCHITECTURE = get_architecture("resnet20")


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


def test_a_row_of_a_folder_names_the_limit(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(random_jpeg(64, 48))
    row = measure_folder(
        *("resnet20", ARCHITECTURE), batch_size=2, image_size=32, execution=PLAIN, folder=tmp_path
    )
    assert_complete(row)
    assert row.images == 3
    slower = min(row.decoder_images_per_second, row.network_images_per_second)
    assert slower == getattr(row, f"{row.limit}_images_per_second")


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


def test_a_table_of_nothing():
    assert table([]) == ([], [])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: benchmark_training(["resnet21"]), "no model 'resnet21'"),
        (lambda: benchmark_training(batch_sizes=[0]), "batch_size must be greater than 0"),
        (lambda: benchmark_training(steps=0), "steps must be greater than 0"),
        (lambda: benchmark_training(execution="fast"), "--execution has no word 'fast'"),
        (lambda: benchmark_inference(["resnet21"]), "no model 'resnet21'"),
        (lambda: benchmark_inference(batch_sizes=[0]), "batch_size must be greater than 0"),
        (lambda: benchmark_inference(image_size=0), "image_size must be greater than 0"),
        (lambda: benchmark_inference(folder="nowhere"), "there is no folder nowhere"),
        (lambda: benchmark_data("cifar11"), "unknown data set 'cifar11'"),
    ],
)
def test_what_cannot_be_measured_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_every_kind_of_row_has_its_own_columns():
    assert {kind.__name__ for kind in (NetworkRate, FolderRate, DataRate)} == {
        kind.__name__ for kind in benchmark.Rate.__subclasses__()
    }


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["resnetlab", "benchmark", *words])
    cli.main()
    return capsys.readouterr().out


def test_the_command_line_says_which_is_the_limit(monkeypatch, capsys, tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(random_jpeg(64, 48))
    options = ("--batch-sizes", "2", "--execution", "plain")
    out = run(monkeypatch, capsys, "inference", *options, "--folder", str(tmp_path))
    assert "decoder alone" in out
    assert re.search(r"resnet20, batch 2: the (decoder|network) is the limit \(alone, ", out)


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
