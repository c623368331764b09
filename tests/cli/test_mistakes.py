"""What is answered to a mistyped option, from the command's own options."""

import re

import pytest

from resnetlab.cli.mistakes import _OF_OTHER_TOOLS, unknown_option
from resnetlab.cli.program import PROGRAM
from resnetlab.recipes.table import RECIPES

NO_OPTION = {
    "models --verfy": "did you mean '--verify'?",
    "models --jsn": "did you mean '--json'?",
    "evaluate RUN --jsn": "did you mean '--json'?",
    "evaluate RUN --spilt=val": "did you mean '--split'?",
    "evaluate RUN --out x": "there are: --split, --dataset, --data-dir, --split-file, --backend, "
    "--execution, --tta, --per-image, --corruptions, --corruption-images, --confusion, --figures, "
    "--json, and more in `resnetlab evaluate --help`.",
    "predict RUN x.png --json": "did you mean '--format json'?",
    "predict RUN x.png --jsn": "did you mean '--format json'?",
    "predict RUN x.png --csv": "did you mean '--format csv'?",
    "predict RUN x.png --fromat=csv": "did you mean '--format'?",
    "predict RUN x.png --top-k 3": "did you mean '--topk'?",
    "predict RUN x.png --tta flip": "there are: --topk, --format, --out, --min-confidence, "
    "--backend, --execution, and more in `resnetlab predict --help`.",
    "resume RUN --epoch 3": "did you mean '--epochs'?",
    "resume RUN --seed 3": "there are: --epochs, --lr, --norm-lr, --muon-lr, --warmup-share, ",
    "plot RUN --format svg": "there are: --out.",
    "data stats cifar10 --out x.png": "there are: --data-dir, --json.",
    "train smoke --lrr 1": "did you mean '--lr'?",
    "train smoke --lrr=1": "did you mean '--lr'?",
    "train smoke -lr 1": "did you mean '--lr'?",
    "train smoke --LR 1": "did you mean '--lr'?",
    "train smoke --batch_sizes 1": "did you mean '--batch-size'?",
    "train smoke --epoch 1": "did you mean '--epochs'?",
    "train smoke --learning-rate 1": "did you mean '--lr'?",
    "train smoke --learning_rate=1": "did you mean '--lr'?",
    "train smoke --gpu": "did you mean '--execution'?",
    "train smoke --device cuda": "did you mean '--execution'?",
    "train smoke --threads 2": "did you mean '--execution threads=1'?",
    "train smoke --wd 1e-4": "did you mean '--weight-decay'?",
    "train smoke --output x": "did you mean '--out'?",
    "train smoke --workers 4": "there are: --epochs, --seed, --lr, --batch-size, --model, "
    "--dataset, --out, --resume-if-exists, and more in `resnetlab train smoke --help`.",
}
OTHER = {
    "trian smoke": "there is no command 'trian'; did you mean 'train'?",
    "data fech": "there is no command 'fech'; did you mean 'fetch'?",
    "smoke": "there is no command 'smoke'; there are: data, models, show, train, ",
    "data": "name a command: resnetlab data COMMAND ...; there are: fetch, stats, show, check, "
    "clean.",
    "train --lr 1": "name a recipe before --lr: resnetlab train RECIPE ...",
    "train resnet20": "there is no recipe 'resnet20'; did you mean 'cifar10-resnet20'?",
    "train smoke --optimizer sdg": 'for --optimizer. Choose from: .* Did you mean "sgd"?',
    "train smoke --optimizer": "--optimizer needs a value (sgd, nesterov, muon): ",
    "train smoke --epochs": "--epochs needs a value: passes over the training set",
    "train smoke --epochs --seed 1": "--epochs needs a value: passes over the training set",
    "train smoke --seed 0.5": "for --seed: '0.5' is not a whole number.",
    "train smoke --seed 1.0": "for --seed: '1.0' is not a whole number.",
    "train smoke --lr fast": 'for --lr: unable to convert "fast" into float.',
    "train smoke --mean 0.1 x": 'for --mean: unable to convert "x" into float.',
    "train smoke --mean": "--mean needs a value: mean of the pixels",
    "train smoke --epochs 1 2": "'2' is one word too many; see `resnetlab train smoke --help`.",
    "train smoke --model-overrides stem": "for --model-overrides: 'stem' stands alone; give names",
    "train smoke --model-overrides stem cifar x": "for --model-overrides: 'x' stands alone;",
    "benchmark training --batch-sizes 1 x": "for --batch-sizes: 'x' is not a whole number.",
    "evaluate": "evaluate needs RUN: a run folder, .*; see `resnetlab evaluate --help`.",
    "evaluate RUN --data-dir": "--data-dir needs a value: folder",
    "predict RUN": "predict needs IMAGES: an image file .*; see `resnetlab predict --help`.",
    "data fetch": "data fetch needs NAME: cifar10, cifar100, cifar100-coarse, mnist or "
    "fashion-mnist; see `resnetlab data fetch",
    "models a b": "'b' is one word too many; see `resnetlab models --help`.",
    "models --verify=maybe": 'for --verify: unable to convert "maybe" into bool.',
    "--help trian": 'Unknown command "trian". Did you mean "train"?',
}


def options_of(command):
    _, (*_, app), _ = PROGRAM.parse_commands(command)
    return app.assemble_argument_collection()


@pytest.mark.parametrize("words", [*NO_OPTION, *OTHER])
def test_a_mistake_is_answered(resnetlab, assert_sentence, words):
    if words in NO_OPTION:
        typed = re.search(r" (-[\w-]+)", words)[1]
        wanted = f"there is no option '{typed}'; {NO_OPTION[words]}"
    else:
        wanted = OTHER[words]
    assert_sentence(resnetlab(*words.split()), re.escape(wanted).replace(r"\.\*", ".*"))


def test_what_is_proposed_is_an_option():
    """Of the command itself, and never what was refused."""
    for command in ("models", "evaluate", "predict", "train smoke", "benchmark data"):
        options = options_of(command)
        flags = [option.name for option in options if option.name.startswith("--")]
        typed = [flag[:-2] + flag[-1] for flag in flags] + [flag + "s" for flag in flags]
        typed += [f"--{name}" for name in _OF_OTHER_TOOLS]
        for word in set(typed) - set(flags):
            said = unknown_option(word, command, options)
            near = re.search(r"did you mean '(\S+)( \S+)?'", said)
            listed = re.findall(r"--[a-z-]+", said.split(";")[1])
            assert near or "--help" in listed or listed == flags, said
            assert near is None or near[1] in flags


def test_names_of_other_tools_lead_to_an_option_of_some_command():
    commands = ("evaluate", "predict", "show", "data stats", *(f"train {name}" for name in RECIPES))
    flags = {option.name for command in commands for option in options_of(command)}
    assert {f"--{name.split()[0]}" for name in _OF_OTHER_TOOLS.values()} <= flags
