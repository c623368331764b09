"""Whether a data set can be learnt from: what `resnetlab data check` finds, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from resnetlab.console import Report
from resnetlab.data.catalogue import is_own, read_collection
from resnetlab.data.check import check
from resnetlab.data.collection import Collection
from resnetlab.data.findings import Finding
from resnetlab.data.manifest import divided_by
from resnetlab.data.survey import readable
from resnetlab.errors import UserError
from resnetlab.files import user_path

OnFindings = Literal["error", "warn"]


def screen(
    dataset: str | Path, settings: dict[str, Any], on_findings: OnFindings, report: Report
) -> None:
    """Look at a user's own images once, and report what is odd about them.

    Args:
        dataset: A name or a path; what the catalogue has is not looked at.
        settings: Fields of ``Recipe``.
        on_findings: "warn" reports what would mislead, too.
        report: Is told each finding, but for mere notes.

    Raises:
        UserError: A network trained on them, or its accuracy, would be wrong.
    """
    if not is_own(dataset):
        return
    findings = check(_collection(dataset, settings))
    fatal = [finding for finding in findings if finding.severity == "misleads"]
    if fatal and on_findings == "error":
        raise UserError(
            f"a network trained on {dataset} would be wrong, or its accuracy: "
            f"{' '.join(map(_sentence, fatal))} `resnetlab data check {dataset} --sheet "
            "findings.png` draws them; to train all the same: `on_findings` warn."
        )
    for finding in findings:
        if finding.severity != "note":
            report(f"{finding.severity}: {_sentence(finding)}")


def _collection(dataset: str | Path, settings: dict[str, Any]) -> Collection:
    """What a training would be given; what it leaves out is said there."""

    def silent(line: str) -> None:
        pass

    whole = read_collection(dataset, data_dir=settings.get("data_dir"), report=silent)
    if split_file := settings.get("split_file"):
        whole = divided_by(whole, user_path(split_file))
    return readable(whole, silent) if settings.get("on_bad_image") == "skip" else whole


def _sentence(finding: Finding) -> str:
    return f"{finding.text}; {finding.remedy}."
