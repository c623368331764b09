"""One report of a small real run, and a real browser."""

import shutil
from pathlib import Path

import pytest

from resnetlab.evaluation.robustness import evaluate_corruptions
from resnetlab.report.page import write_report
from resnetlab.runs import Run

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="session")
def reported(smoke, samples, tmp_path_factory) -> Run:
    """The smoke run with all that a report can show; nobody may change its folder."""
    folder = tmp_path_factory.mktemp("reported") / "smoke"
    shutil.copytree(smoke.run, folder)
    run = Run(folder)
    found = evaluate_corruptions(folder, images=10, data_dir=samples)
    run.write_evaluation("test, corruptions", found.to_dict())
    write_report(folder)
    return run


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium, without a way to the network.

    Playwright leaves an event loop running in this thread, which other modules cannot have.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()
