"""Parameters that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from resnetlab.cli.options import Arg

Run = Annotated[Path, Arg("a run folder", "RUN")]
Network = Annotated[
    str, Arg("a run folder, a weights file of any origin, or the name of a network", "RUN")
]
ModelName = Annotated[
    str | None, Arg("architecture, where a foreign weights file does not tell", "NAME")
]
Out = Annotated[Path | None, Arg("file to draw to: .png, .svg or .pdf", "FILE")]
DataDir = Annotated[Path | None, Arg("folder that already holds the data set", "DIR")]
Json = Annotated[bool, Arg("print JSON")]
ImageSize = Annotated[int | None, Arg("pixels; default: the paper's", "N")]
Execution = Annotated[
    str, Arg("auto, plain, or words such as bf16,channels_last,threads=2", "WORDS")
]
ExactExecution = Annotated[
    str,
    Arg(
        "channels_last computes in fp32, so that the result does not depend on the machine; auto "
        "takes bf16 where the CPU has it: about twice as fast, a few of 1,000 predictions change",
        "WORDS",
    ),
]
Overrides = Annotated[
    dict[str, int | str],
    Arg("fields of the architecture to change, e.g. stem cifar depths 2,2,2,2", "FIELD VALUE ..."),
]
