"""A measurement in a process of its own: the task comes on stdin, the row goes to stdout."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from resnetlab.benchmark.measure import (
    fitting_execution,
    measure_files,
    measure_inference,
    measure_training,
)
from resnetlab.compute.execution import Execution
from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture
from resnetlab.recipes.record import Recipe


def _answer(job: str, **arguments: Any) -> dict[str, Any]:
    if job in ("choose", "training"):
        recipe = Recipe.from_dict(arguments.pop("recipe"))
        if job == "choose":
            return {"execution": str(fitting_execution(recipe))}
        return measure_training(recipe, **arguments).to_dict()
    arguments["architecture"] = Architecture.from_dict(arguments["architecture"])
    arguments["execution"] = Execution.parse(arguments["execution"])
    measure = measure_files if job == "files" else measure_inference
    return measure(**arguments).to_dict()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # after Ctrl-C the parent says all there is to say
    try:
        answer = _answer(**json.load(sys.stdin))
    except UserError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
