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
ModelOverrides = Annotated[
    dict[str, int | str],
    Arg("its fields that a foreign file does not tell, e.g. stem cifar-pool", "FIELD VALUE ..."),
]
Mean = Annotated[
    tuple[float, ...] | None,
    Arg("of a foreign network's images, a number a channel, of pixels from 0 to 1", "X ..."),
]
Std = Annotated[tuple[float, ...] | None, Arg("standard deviation, likewise", "X ...")]
Classes = Annotated[
    Path | None,
    Arg("names of a foreign network's classes: a text file, one a line, or a JSON list", "FILE"),
]
Out = Annotated[Path | None, Arg("file to draw to: .png, .svg or .pdf", "FILE")]
DatasetName = Annotated[str | None, Arg("data set; default: the run's own", "NAME")]
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
