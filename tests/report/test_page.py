"""What a report says, and that it is one file that asks for nothing."""

import html
import json
import re
import shutil
from dataclasses import replace

import pytest

from resnetlab.errors import UserError
from resnetlab.report import page as module
from resnetlab.report.page import write_report
from resnetlab.runs import Run


@pytest.fixture(scope="session")
def text(reported):
    return reported.report_file.read_text(encoding="utf-8")


@pytest.fixture
def copied(reported, tmp_path):
    return Run(shutil.copytree(reported.path, tmp_path / "copy"))


def words(text):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text)))


def test_numbers_are_those_of_the_evaluation(reported, text):
    said, result = words(text), reported.evaluations["test"]
    low, high = result["top1_interval"]
    assert f"{result['top1']:.2f} % of 100 test images right" in said
    assert f"95 % interval {low:.2f} to {high:.2f} %" in said
    for row in result["per_class"]:
        assert f"{row['class']} {row['n']} {row['recall']:.2f}" in said
    assert f"{result['calibration_error']:.2f} percentage points apart" in said
    corrupted = reported.evaluations["test, corruptions"]
    assert f"the accuracy is {corrupted['top1']:.2f} %" in said
    assert f"{sum(line['seconds'] for line in reported.metrics) / 60:.1f} minutes" in said
    assert "smoke: 6 epochs, batches of 64" in said
    for name in ("resnetlab", "PyTorch", "torchvision", "Python", "processor"):
        assert f" {name} " in said


def test_the_command_trains_the_same_again(reported, text, resnetlab, monkeypatch):
    from resnetlab.recipes.table import get_recipe
    from resnetlab.training import job

    given = []

    def train(recipe, **changes):
        given.append(get_recipe(recipe, **changes))
        return job.Training(run=reported.path, history=[], test=None)

    monkeypatch.setattr(job, "train", train)
    (command,) = re.findall(r"<dt>Command</dt><dd><code>(.*?)</code>", text)
    answer = resnetlab(*html.unescape(command).split()[1:])
    assert answer.code == 0, answer.err
    assert given == [replace(reported.recipe, execution="auto")]


def test_it_is_one_small_file(text):
    assert len(text.encode()) < 3e6
    links = re.findall(r"""(?:src|href|xlink:href)\s*=\s*["']([^"']+)""", text)
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)


def test_strange_names_are_text(copied, samples):
    evil = "<script>alert('x')</script>&\"quoted\""
    file = copied.evaluation_file
    file.write_text(file.read_text().replace('"airplane"', json.dumps(evil)))
    text = write_report(copied.path, data_dir=samples).read_text()
    assert evil not in text
    assert text.count("<script>") == 1
    assert html.escape(evil, quote=False)[:8] in text


def test_without_the_data_the_rest_is_told(copied, monkeypatch):
    def lost(*_, **__):
        raise UserError("the folder /gone is not there.")

    monkeypatch.setattr(module, "dataset_of", lost)
    said = words(write_report(copied.path).read_text())
    assert "The most confident mistakes the folder /gone is not there." in said
    assert "top-1 accuracy" in said


def test_what_is_no_report(copied, tmp_path, resnetlab):
    with pytest.raises(UserError, match=r"ends in \.html"):
        write_report(copied.path, out=tmp_path / "report.pdf")
    answer = resnetlab("report", tmp_path / "nothing")
    assert (answer.code, answer.out) == (2, "")
    assert "is not a run folder" in answer.err


def test_a_notebook_shows_a_run(reported, tmp_path):
    shown = reported._repr_html_()
    assert f"{reported.result['top1']:.2f} %" in shown
    assert "data:image/png;base64," in shown
    assert str(reported.report_file) in shown
    assert "not a run folder yet" in Run(tmp_path)._repr_html_()
