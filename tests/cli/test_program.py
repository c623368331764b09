"""What the program answers: one sentence and exit code 2 for what the user can mend."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resnetlab.cli import program
from resnetlab.errors import UserError

WRONG = {
    "": "name a command: .*train",
    "trian smoke": "there is no command 'trian'; did you mean 'train'",
    "data fech cifar10": "there is no command 'fech'; did you mean 'fetch'",
    "train": "name a recipe: .*cifar10-quick",
    "train smok": "there is no recipe 'smok'; did you mean 'smoke'",
    "train smok --epochs 2 --lr 1": "there is no recipe 'smok'; did you mean 'smoke'",
    "train smoke smoke": "smoke",
    "train smoke --lrr 1": "there is no option '--lrr'; did you mean '--lr'",
    "train smoke --lr -1": "lr must be greater than 0, not -1",
    "train smoke --lr=-0.1": "lr must be greater than 0, not -0.1",
    "train smoke --lr nan": "lr must be finite",
    "train smoke --lr fast": "--lr.*fast",
    "train smoke --epochs inf": "epochs must be finite, not inf",
    "train smoke --epochs 0": "epochs must be greater than 0",
    "train smoke --batch-size 0": "--batch-size must be greater than 0",
    "train smoke --batch-size 1.5": "--batch-size.*'1.5'",
    "train smoke --optimizer adam": "adam.*--optimizer.*nesterov",
    "train smoke --model resnet21": "no model 'resnet21'; did you mean 'resnet",
    "train smoke --model-overrides depthz 3": "no field 'depthz'; did you mean 'depths'",
    "train smoke --model-overrides in_channels 1 {data}": r"\(n, 1, height, width\)",
    "train smoke --model resnet50 --image-size 16 {data}": "16 x 16 pixels are too small",
    "train smoke --dataset cifar11": "no data set 'cifar11'",
    "train smoke --val-size 300 {data}": "--val-size 300 does not fit 300 training images",
    "train smoke --data-dir {tmp}": "{tmp} holds no CIFAR-10",
    "train smoke --execution bf61 {data}": "no word 'bf61'; did you mean 'bf16'",
    "train smoke --out {run} {data}": "already holds a run.*resnetlab resume {run}",
    "train smoke --out {file}/below {data}": "cannot write to --out {file}/below: Not a directory",
    "resume {tmp}": "{tmp} holds no recipe.json",
    "resume {run}": "{run} is finished",
    "evaluate": "RUN",
    "evaluate {tmp}": "{tmp}",
    "evaluate {tmp}/nothing": "{tmp}/nothing",
    "evaluate {file}": "{file}",
    "evaluate {run} --split tset": "tset.*test",
    "evaluate {run} --dataset fashion-mnist-sample --data-dir {samples}": "3-channel images",
    "evaluate {run} --dataset cifar10 --data-dir {tmp}": "{tmp} holds no CIFAR-10",
    "predict {run}": "needs IMAGES: an image",
    "predict {run} {tmp}/empty": "{tmp}/empty holds no images",
    "predict {run} {file} --topk 0": "--topk must be at least 1",
    "predict {run} {file} --execution bf61": "no word 'bf61'; did you mean 'bf16'",
    "evaluate {run} --execution bf61": "no word 'bf61'; did you mean 'bf16'",
    "visualize {run} --execution bf61": "no word 'bf61'; did you mean 'bf16'",
    "plot {tmp}": "{tmp} holds no metrics.jsonl",
    "plot {run} --out {tmp}/x.doc": "ends in .png",
    "visualize {run} --n 0": "--n",
    "visualize {tmp}": "{tmp}",
    "models x*": "no model matches 'x*'",
    "show resnet21": "no model 'resnet21'",
    "show resnet50 --image-size 16": "16 x 16 pixels are too small",
    "show resnet20 --override depths 2,x,2": "depths must be a positive whole number, not 'x'",
    "show resnet20 --override stem cifa": "cifar, cifar-pool, whitening, not 'cifa'",
    "data fetch cifar11": "cifar11",
    "data stats cifar10 --data-dir {tmp}": "{tmp} holds no CIFAR-10",
    "data show cifar10 --data-dir {tmp}": "{tmp} holds no CIFAR-10",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_input_is_one_sentence(
    assert_sentence, resnetlab, words, smoke, samples, tmp_path, empty_cache, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    places = {"tmp": tmp_path, "run": smoke.run, "file": tmp_path / "file", "samples": samples}
    filled = words.format(**places, data=f"--data-dir {samples}")
    if words.startswith("train ") and "--execution" not in words:
        filled += " --execution plain"  # should it start after all
    wanted = WRONG[words]
    for name, place in places.items():
        wanted = wanted.replace(f"{{{name}}}", re.escape(str(place)))
    assert_sentence(resnetlab(*filled.split()), wanted.replace("'x*'", r"'x\*'"))
    # nothing is written for what was wrong from the start
    assert {path.name for path in tmp_path.iterdir()} <= {"empty", "file", "cache"}


def test_a_training_that_cannot_go_on_is_one_sentence(resnetlab, samples, tmp_path):
    run = tmp_path / "run"
    words = ["train", "smoke", "--out", run, "--data-dir", samples, "--execution", "plain"]
    answer = resnetlab(*words, "--lr", 1e20)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    wanted = "resnetlab: the loss is not finite in step .*epoch 1, .*lower --lr"
    assert re.search(wanted, answer.err)


@pytest.mark.parametrize("name", ["best.pt", "metrics.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff", None])
def test_a_damaged_run_is_one_sentence(assert_sentence, resnetlab, smoke, tmp_path, name, content):
    run = shutil.copytree(smoke.run, tmp_path / "run")
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[:-10] if content is None else content)
    command = "evaluate" if name == "best.pt" else "plot"
    wanted = name if content or content is None or name == "best.pt" else "no finished epoch"
    assert_sentence(resnetlab(command, run), wanted)


def test_a_damaged_cache_is_one_sentence(assert_sentence, resnetlab, samples, tmp_path):
    """A folder in the cache's layout whose file is truncated, as by a broken copy."""
    folder = shutil.copytree(samples, tmp_path / "data")
    path = folder / "cifar10-sample" / "train.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert_sentence(
        resnetlab("train", "smoke", "--data-dir", folder, "--out", tmp_path / "run"),
        re.escape(str(path)),
    )


def test_a_closed_folder_is_one_sentence(assert_sentence, resnetlab, smoke, tmp_path):
    """Below a file even root cannot write."""
    (tmp_path / "file").touch()
    for command in ("plot", "visualize"):
        answer = resnetlab(command, smoke.run, "--out", tmp_path / "file" / "x.png")
        assert_sentence(answer, f"cannot write {tmp_path}/file/x.png: ")


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("taken", [0, 250_000, 299_000])
def test_a_full_disk_is_one_sentence(resnetlab, samples, small_disk, taken):
    (small_disk / "ballast").write_bytes(b"x" * taken)
    run = small_disk / "run"
    answer = resnetlab(
        *("train", "smoke", "--out", run, "--data-dir", samples, "--execution", "plain"),
    )
    assert answer.code == 2
    assert "Traceback" not in answer.err
    last = answer.err.splitlines()[-1]
    assert re.fullmatch(rf"resnetlab: cannot write (to --out )?{run}.*(space|another).*", last)


def test_ctrl_c_is_one_sentence(assert_sentence, resnetlab, monkeypatch):
    for text in ("stopped.", ""):
        error = KeyboardInterrupt(*[text] * bool(text))
        monkeypatch.setattr(program, "_run", lambda *_, error=error: _raise(error))
        assert_sentence(resnetlab("models"), "^resnetlab: stopped\\.", code=130)


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("x"), RuntimeError("x"), FileNotFoundError(2, "no such", "x")],
)
def test_a_fault_of_ours_shows_its_traceback(resnetlab, monkeypatch, error):
    monkeypatch.setattr(program, "_run", lambda *_: _raise(error))
    with pytest.raises(type(error)):
        resnetlab("models")


@pytest.mark.parametrize(
    ("words", "sentence", "said"),
    [
        (
            "train smoke",
            "`val_size` 3 is wrong; take `seed` 1.",
            "--val-size 3 is wrong; take --seed 1.",
        ),
        (
            "resume RUN",
            "`val_size` 3 in `run`; see `resnetlab x`",
            "`val_size` 3 in RUN; see `resnetlab x`",
        ),
        ("data", "`val_size`", "`val_size`"),
    ],
)
def test_parameters_of_the_command_are_said_as_they_are_typed(
    resnetlab, assert_sentence, monkeypatch, words, sentence, said
):
    monkeypatch.setattr(program, "_run", lambda *_: _raise(UserError(sentence)))
    assert_sentence(
        resnetlab(*words.split(), *["--help"] * (words == "data")),
        f"^resnetlab: {re.escape(said)}\n$",
    )


PARSED: list[tuple[str, dict[str, Any]]] = [
    ("predict a x", {}),
    ("predict a x --topk 2", {"topk": 2}),
    ("predict --topk=2 a x", {"topk": 2}),
    ("predict a x --topk 1 --topk 3", {"topk": 3}),
    ("predict a --topk 3 x y", {"topk": 3, "images": ("x", "y")}),
    ("predict a x --topk 3 y", {"topk": 3, "images": ("x", "y")}),
    (
        "predict a --topk 3 x --format csv y z",
        {"topk": 3, "format": "csv", "images": ("x", "y", "z")},
    ),
    ("predict --format csv a x y", {"format": "csv", "images": ("x", "y")}),
    ("predict a -- --topk -x", {"images": ("--topk", "-x")}),
    ("predict a none --model none", {"images": ("none",), "model": "none"}),
    ("train smoke --lr -1e-3", {"lr": -1e-3}),
    ("train smoke --lr -inf", {"lr": float("-inf")}),
    ("train smoke --val_size 5", {"val_size": 5.0}),
    ("train smoke --seed +3", {"seed": 3}),
    ("train smoke --mean 1 2 -3 --seed 1", {"mean": (1.0, 2.0, -3.0), "seed": 1}),
    ("train smoke --mean=1 2", {"mean": (1.0, 2.0)}),
    ("train smoke --milestones 1 --milestones 2", {"milestones": (1.0, 2.0)}),
    ("train --out a smoke --lr 1", {"out": Path("a"), "lr": 1.0}),
    (
        "train smoke --model-overrides stem cifar width_per_group 3 depths 2,2",
        {"model_overrides": {"stem": "cifar", "width_per_group": 3, "depths": "2,2"}},
    ),
    ("benchmark training --models a b --json", {"models": ("a", "b"), "json": True}),
    ("benchmark training --batch-sizes 1 2", {"batch_sizes": (1, 2)}),
    ("models --json --no-json", {"json": False}),
]


@pytest.mark.parametrize(("words", "values"), PARSED)
def test_words_become_arguments(words, values):
    _, bound, _ = program.PROGRAM.parse_args(program._in_order(words.split()))
    given = bound.arguments
    if words.startswith("predict"):
        values = {"run": "a", "images": ("x",)} | values
    assert given == values
    assert [type(given[name]) for name in values] == [type(value) for value in values.values()]


def test_a_former_name_of_a_recipe(capsys):
    former = ("train", "--lr", "1", "cifar10-resnet50-finetune-textbook")
    assert program._in_order(list(former)) == ["train", "cifar10-resnet50-textbook", "--lr", "1"]
    assert "is called cifar10-resnet50-textbook now" in capsys.readouterr().err


def _raise(error):
    raise error


def run_shell(script, **options):
    program = f"'{sys.executable}' -c 'from resnetlab.cli import main; main()'"
    return subprocess.run(
        ["bash", "-c", f'resnetlab() {{ {program} "$@"; }}; {script}'],
        capture_output=True,
        text=True,
        **options,
    )


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_of_any_encoding_is_told(encoding):
    script = "resnetlab data fech; resnetlab train smoke --lrr 1; resnetlab train smök"
    done = run_shell(script, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert (done.stdout, done.stderr.splitlines()[:2]) == (
        "",
        [
            "resnetlab: there is no command 'fech'; did you mean 'fetch'?",
            "resnetlab: there is no option '--lrr'; did you mean '--lr'?",
        ],
    )
    assert re.search("no recipe 'sm[ö?]+k'; did you mean 'smoke'", done.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_output_that_cannot_be_written_is_one_sentence():
    done = run_shell("resnetlab --help > /dev/full")
    assert (done.returncode, done.stderr) == (
        2,
        "resnetlab: cannot write the output: No space left on device.\n",
    )


def test_closed_streams_are_no_mistake():
    done = run_shell("resnetlab --help >&-; echo $?; resnetlab nothing 2>&-; echo $?")
    assert (done.stdout, done.stderr) == ("0\n2\n", "")


def test_a_reader_that_goes_away_is_no_mistake():
    done = run_shell("(sleep 0.1; resnetlab --help; echo $? >&2) | true")
    assert done.stderr == "1\n"


LONG = "x" * 300  # longer than a file's name can be
WITHOUT_RIGHTS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")  # as root, too
ONE_AFTER_THE_OTHER = """
import sys
from resnetlab.cli import main
for words in sys.argv[1:]:
    sys.argv[1:] = words.split()
    try:
        main()
        print(words, "was done", file=sys.stderr)
    except SystemExit as stop:
        assert stop.code in (1, 2)
"""
CLOSED = ["evaluate {closed}/run", "evaluate {closed}/w.pt", "plot {closed}/run"]
CLOSED += ["resume {closed}/run", "predict {run} {closed}/x.png --format json"]
CLOSED += ["data stats cifar10 --data-dir {closed}", "train smoke --out {closed}/x {data}"]
CLOSED += ["train smoke --pretrained {closed}/w.pt {data}", "plot {run} --out {closed}/x.png"]


@pytest.mark.parametrize(
    "words",
    [
        *(f"evaluate {LONG}", f"plot {LONG}", f"resume {LONG}", f"predict {{run}} {LONG}"),
        *(f"train smoke --out {LONG} {{data}}", f"data stats cifar10 --data-dir {LONG}"),
        *(f"train smoke --pretrained {LONG} {{data}}", f"plot {{run}} --out {LONG}.png"),
        f"benchmark inference --folder {LONG}",
    ],
)
def test_a_path_that_cannot_be_is_one_sentence(resnetlab, assert_sentence, smoke, samples, words):
    filled = words.format(run=smoke.run, data=f"--data-dir {samples} --execution plain")
    assert_sentence(resnetlab(*filled.split()), f"{LONG[:100]}.*too long")


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs util-linux")
def test_a_path_that_is_closed_is_one_sentence(smoke, samples, tmp_path):
    closed = tmp_path / "closed"
    shutil.copytree(smoke.run, closed / "run")
    shutil.copy(smoke.run / "best.pt", closed / "w.pt")
    (closed / "x.png").touch()
    for path in (*closed.rglob("*"), closed):
        path.chmod(0 if path.is_file() else 0o500)
    (closed / "cifar10").mkdir(mode=0)
    data = f"--data-dir {samples} --execution plain"
    filled = [words.format(closed=closed, run=smoke.run, data=data) for words in CLOSED]
    program = [*WITHOUT_RIGHTS, sys.executable, "-c", ONE_AFTER_THE_OTHER, *filled]
    done = subprocess.run(program, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert len(lines) == len(CLOSED), done.stderr
    for line in lines:
        assert re.search(rf"cannot [^\n]*{closed}[^\n]*: Permission", line)
