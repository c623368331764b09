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
    "evaluate RUN --out x": "there are: --split, --dataset, --data-dir, --model, --execution, "
    "--tta, --confusion, --json.",
    "predict RUN x.png --json": "did you mean '--format json'?",
    "predict RUN x.png --jsn": "did you mean '--format json'?",
    "predict RUN x.png --csv": "did you mean '--format csv'?",
    "predict RUN x.png --fromat=csv": "did you mean '--format'?",
    "predict RUN x.png --top-k 3": "did you mean '--topk'?",
    "predict RUN x.png --tta flip": "there are: --topk, --format, --model, --execution.",
    "predict RUN x.png --out y": "there are: --topk, --format, --model, --execution.",
    "resume RUN --epochs 3": "resnetlab resume has none.",
    "resume RUN --lr": "resnetlab resume has none.",
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
    "--dataset, --out, and more in `resnetlab train smoke --help`.",
}
OTHER = {
    "trian smoke": "there is no command 'trian'; did you mean 'train'?",
    "data fech": "there is no command 'fech'; did you mean 'fetch'?",
    "smoke": "there is no command 'smoke'; there are: data, models, show, train, ",
    "data": "name a command: resnetlab data COMMAND ...; there are: fetch, stats, show.",
    "train --lr 1": "name a recipe before --lr: resnetlab train RECIPE ...",
    "train resnet20": "there is no recipe 'resnet20'; did you mean 'cifar10-resnet20'?",
    "train smoke --optimizer sdg": "'sdg' is no choice of --optimizer; did you mean 'sgd'?",
    "train smoke --optimizer": "--optimizer needs sgd, nesterov or muon: ",
    "train smoke --epochs": "--epochs needs a number: passes over the training set",
    "train smoke --epochs --seed 1": "--epochs needs a number: passes over the training set",
    "train smoke --seed 0.5": "--seed takes a whole number, not '0.5'.",
    "train smoke --lr fast": "--lr takes a number, not 'fast'.",
    "train smoke --mean 0.1 x": "--mean takes a number, not 'x'.",
    "train smoke --epochs 1 2": "'2' is one word too many; usage: resnetlab train smoke [options]",
    "train smoke --model-overrides stem": "--model-overrides takes names with a value each",
    "evaluate": "evaluate needs a run folder, .*: resnetlab evaluate RUN [options]",
    "evaluate RUN --data-dir": "--data-dir needs a value (DIR): folder",
    "predict RUN": "predict needs an image file .*: resnetlab predict RUN PATH ... [options]",
    "data fetch": "data fetch needs cifar10 or fashion-mnist: resnetlab data fetch NAME [options]",
    "models a b": "'b' is one word too many; usage: resnetlab models [PATTERN] [options]",
    "models --verify=yes": "--verify takes no value, not even 'yes'.",
}


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
    for command in ("models", "evaluate RUN", "predict RUN x", "train smoke", "benchmark data"):
        found, _ = PROGRAM.find(command.split())
        flags = [option.flag for option in found.options if option.role == "option"]
        typed = [flag[:-2] + flag[-1] for flag in flags] + [flag + "s" for flag in flags]
        typed += [f"--{name}" for name in _OF_OTHER_TOOLS]
        for word in set(typed) - set(flags):
            sentence = unknown_option(word, found.name, found.options)
            near = re.search(r"did you mean '(\S+)( \S+)?'", sentence)
            listed = re.findall(r"--[a-z-]+", sentence.split(";")[1])
            assert near or "--help" in listed or listed == flags, sentence
            assert near is None or near[1] in flags


def test_names_of_other_tools_lead_to_an_option_of_some_command():
    commands = ("evaluate", "predict", "show", "data stats", *(f"train {name}" for name in RECIPES))
    found = [PROGRAM.find(command.split())[0] for command in commands]
    flags = {option.flag for command in found for option in command.options}
    assert {f"--{name.split()[0]}" for name in _OF_OTHER_TOOLS.values()} <= flags
