"""Writes every published figure of the recipes into the documents: `make figures`.

README.md and benchmarks/README.md hold sections between `<!-- figures:begin NAME -->` and
`<!-- figures:end -->`; they are written from resnetlab.recipes.measured and the records beside
this file. The pictures in docs/ are drawn from a run of cifar10-quick, which is trained first if
there is none. docs/degradation.png and .csv are those that `resnetlab study degradation` writes
to its folder, copied.
"""

from __future__ import annotations

import argparse
import csv
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from resnetlab.recipes.measured import MEASURED, PROGRAMS, RUNS, TIMINGS, Duration, Score
from resnetlab.recipes.table import NETWORKS, RECIPES

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
PAPER_IMAGES = 64_000 * 128
"""The paper's training of CIFAR-10 (He et al. 2015, section 4.2)."""


def main() -> None:
    name = "python -m benchmarks.figures"
    arguments = argparse.ArgumentParser(prog=name, description=__doc__)
    arguments.add_argument(
        "run", nargs="?", type=Path, default=ROOT / "runs" / "cifar10-quick", help="to draw from"
    )
    run = arguments.parse_args().run
    for document in DOCUMENTS:
        document.write_text(written(document.read_text(encoding="utf-8")), encoding="utf-8")
        print(document)
    draw(run, ROOT / "docs")


def draw(run: Path, folder: Path) -> None:
    """curves.png and predictions.png into the folder, from a run that is trained if need be."""
    from resnetlab import plot_curves, train, visualize

    if not (run / "test.json").exists():
        train("cifar10-quick", out=run)
    print(plot_curves(run, folder / "curves.png"))
    print(visualize(run, n=24, out=folder / "predictions.png"))


def written(document: str) -> str:
    """The document with all of its sections as they are to be; KeyError for an unknown name."""
    return re.sub(
        r"(<!-- figures:begin (\S+) -->\n).*?(<!-- figures:end -->)",
        lambda match: f"{match[1]}\n{SECTIONS[match[2]]()}\n\n{match[3]}",
        document,
        flags=re.DOTALL,
    )


def _recipes() -> str:
    headings = ["recipe", "network", "test accuracy, %", "with test-time augmentation, %"]
    headings += ["n", "compared with", "time", "peak memory"]
    rows = []
    for name, measured in MEASURED.items():
        runs, seeds = len(measured.runs), measured.seeds
        rows.append(
            [
                f"`{name}`",
                NETWORKS[name],
                _score(measured.top1),
                _score(measured.augmented),
                f"{seeds} seeds" if runs == seeds else f"{runs} runs of {seeds} seeds",
                measured.reference,
                _duration(measured.duration),
                f"{measured.peak_memory_gb} GB",
            ]
        )
    origins = {
        f"{each.date} with states of version {each.version} on {each.machine}, torch {each.torch}"
        for each in MEASURED.values()
    }
    caption = (
        "Mean ± standard deviation over the runs of `resnetlab train RECIPE --seed 0` (and 1, 2); "
        f"measured on {'; '.join(sorted(origins))}. Times are of the training alone or, where it "
        "is said, of the whole command, shortest and longest; runs on one thread had another "
        "training beside them."
    )
    return f"{_table(headings, rows)}\n\n{_wrapped(caption)}"


def _plain_loop() -> str:
    times = {}
    for name in ("cifar10-quick", "cifar10-resnet20"):
        latest = [t for t in TIMINGS if t.recipe == name and t.program == PROGRAMS[-1]]
        rounded = sorted(round(t.times) for t in latest if t.times)
        times[name] = " to ".join(str(n) for n in sorted({rounded[0], rounded[-1]}))
    return _wrapped(
        "The usual loop (fp32, torchvision transforms in a DataLoader) would take "
        f"{times['cifar10-quick']} times as long as `cifar10-quick`, and "
        f"{times['cifar10-resnet20']} times as long as `cifar10-resnet20`, for the paper's 64,000 "
        "steps (`python -m benchmarks.recipe_time cifar10-quick`)."
    )


def _stem() -> str:
    name = "cifar10-resnet50-textbook"
    (changed,) = (run for run in RUNS if run.recipe == name and run.changes)
    usual = MEASURED[name]
    assert changed.seconds is not None
    return _wrapped(
        f"In the recipe's {RECIPES[name].epochs:g} epochs it gains "
        f"{changed.test - usual.top1.mean:.1f} points: `resnetlab train {name} {changed.changes}` "
        f"ends at {changed.test:.2f} % on the test set (seed {changed.seed}) after "
        f"{changed.seconds / 60:.0f} minutes on one thread, where the ImageNet stem has "
        f"{usual.top1.mean:.2f} % after {usual.duration.longest / 60:.0f}."
    )


def _timings() -> str:
    lines = ["```"]
    for each in TIMINGS:
        lines.append(
            f"{each.recipe}, seed {each.seed}, {each.program}: {each.test:.2f} % on the test set "
            f"after {each.seconds} s, data and test included."
        )
        if each.plain_before and each.plain_after:
            seconds = PAPER_IMAGES / ((each.plain_before + each.plain_after) / 2)
            lines.append(
                f"plain loop: {each.plain_before:.1f} images/s before, {each.plain_after:.1f} "
                f"after: {seconds:,.0f} s for {PAPER_IMAGES:,} images, {each.times} times as long."
            )
    return "\n".join([*lines, "```"])


def _runs() -> str:
    headings = ["recipe", "seed", "program", "threads", "seconds", "validation", "test"]
    headings += ["augmented", "counted"]
    rows = []
    for run in RUNS:
        seconds = "-" if run.seconds is None else f"{run.seconds:,}"
        scores = [
            "-" if score is None else f"{score:.2f}"
            for score in (run.validation, run.test, run.augmented)
        ]
        name = f"`{run.recipe} {run.changes}`" if run.changes else f"`{run.recipe}`"
        numbers = [str(run.seed), run.program, str(run.threads), seconds, *scores]
        rows.append([name, *numbers, "yes" if MEASURED[run.recipe].counts(run) else "no"])
    return _table(headings, rows)


def _degradation() -> str:
    """Of docs/degradation.csv, the table that `resnetlab study degradation` has written."""
    with (ROOT / "docs" / "degradation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    headings = ["network", "n", "training error, %", "validation error, %", "test error, %"]
    keys = ("training_error", "validation_error", "test_error")
    cells = [[f"`{row['variant']}`", row["n"], *(_error(row, key) for key in keys)] for row in rows]
    return _table(headings, cells)


def _error(row: dict[str, str], key: str) -> str:
    around = row[f"{key}_deviation"]
    return f"{float(row[key]):.2f}" + (f" ± {float(around):.2f}" if around else "")


def _finetuning() -> str:
    from benchmarks.finetuning import EPOCHS, METHODS, rows

    headings = ["learnt", "images", *(f"{method}, %" for method in METHODS), "n"]
    caption = (
        "Top-1 on the test set, mean ± standard deviation over n seeds, which draw the images too; "
        f"{EPOCHS} epochs each. A ResNet-20 starts from classes 0 to 4 of CIFAR-10, or from all of "
        "it; images are to train and to validate on (`python -m benchmarks.finetuning FOLDER`)."
    )
    return f"{_table(headings, rows())}\n\n{_wrapped(caption)}"


def _peers() -> str:
    from benchmarks.peers.__main__ import HEADINGS, rows

    return _table(HEADINGS, list(rows()))


def _score(score: Score | None) -> str:
    return "" if score is None else f"{score.mean:.2f} ± {score.deviation:.2f}"


def _duration(duration: Duration) -> str:
    ends = sorted({duration.shortest, duration.longest})
    text = " to ".join(f"{seconds // 60} min {seconds % 60} s" for seconds in ends)
    if duration.includes != "training alone":
        text += f", {duration.includes}"
    return text if duration.threads > 1 else f"{text}, on one thread"


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


SECTIONS: dict[str, Callable[[], str]] = {
    "recipes": _recipes,
    "plain-loop": _plain_loop,
    "stem": _stem,
    "timings": _timings,
    "runs": _runs,
    "degradation": _degradation,
    "finetuning": _finetuning,
    "peers": _peers,
}
"""Name of a section -> its text."""


if __name__ == "__main__":
    main()
