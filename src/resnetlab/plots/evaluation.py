"""All pictures of an evaluation, from what evaluation.json holds of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from resnetlab.plots.classes import figure_classes
from resnetlab.plots.confusion import figure_confusion
from resnetlab.plots.reliability import figure_reliability
from resnetlab.plots.robustness import figure_corruptions
from resnetlab.plots.style import Figure


def evaluation_figures(
    evaluation: Mapping[str, Any], corruptions: Mapping[str, Any] | None = None
) -> dict[str, Figure]:
    """By name: confusion, classes, reliability and, where there are any, corruptions.

    evaluation and corruptions: values of ``Run.evaluations``, such as "test" and
    "test, corruptions".
    """
    title = f"{evaluation['dataset']}, {evaluation['split']}"
    rows = evaluation["per_class"]
    confusion = torch.tensor(evaluation["confusion"])
    figures = {
        "confusion": figure_confusion(confusion, [row["class"] for row in rows], title=title),
        "classes": figure_classes(rows, title=title),
        "reliability": figure_reliability(evaluation),
    }
    if corruptions is not None:
        figures["corruptions"] = figure_corruptions(corruptions)
    return figures
