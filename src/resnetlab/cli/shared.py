"""Parameters that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import CoercionError, Parameter, Token

from resnetlab import console

if TYPE_CHECKING:
    from resnetlab.inference.exported import Exported
    from resnetlab.weights.checkpoint import Checkpoint


def read_fields(_: Any, tokens: Sequence[Token]) -> dict[str, int | str]:
    """The fields of an architecture in words such as ``depths 2,2,2 width_per_group 64``."""
    words = [token.value for token in tokens]
    if len(words) % 2:
        says = f"{words[-1]!r} stands alone; give names and values, as in depths 2,2,2 stem cifar."
        raise CoercionError(msg=says, token=tokens[0])
    values = (int(text) if text.lstrip("-").isdecimal() else text for text in words[1::2])
    return dict(zip(words[::2], values, strict=True))


FIELDS = Parameter(
    metavar="FIELD VALUE ...", converter=read_fields, n_tokens=-1, accepts_keys=False
)

Run = Annotated[Path, Parameter(help="a run folder")]
Network = Annotated[
    str,
    Parameter(
        help="a run folder, a weights file of any origin, an exported file or bundle, or the name "
        "of a network"
    ),
]
FOREIGN = Parameter(group="foreign weights")
ModelName = Annotated[
    str | None,
    FOREIGN,
    Parameter(help="architecture, where a foreign weights file does not tell", metavar="NAME"),
]
ModelOverrides = Annotated[
    dict[str, int | str],
    FIELDS,
    FOREIGN,
    Parameter(help="its fields that a foreign file does not tell, e.g. stem cifar-pool"),
]
Mean = Annotated[
    tuple[float, ...] | None,
    FOREIGN,
    Parameter(
        help="of a foreign network's images, a number a channel, of pixels from 0 to 1",
        metavar="X ...",
    ),
]
Std = Annotated[
    tuple[float, ...] | None,
    FOREIGN,
    Parameter(help="standard deviation, likewise", metavar="X ..."),
]
Classes = Annotated[
    Path | None,
    FOREIGN,
    Parameter(
        help="names of a foreign network's classes: a text file, one a line, or a JSON list",
        metavar="FILE",
    ),
]
MinConfidence = Annotated[
    float | None,
    Parameter(
        help='%: below it the answer is "none of these"; default: the threshold that the '
        "network's training chose, if it did; 0: never",
        metavar="PERCENT",
    ),
]
DatasetName = Annotated[
    str | None,
    Parameter(
        help="data set: a name, or the path of a folder, table or shards; default: the run's own",
        metavar="NAME",
    ),
]
SplitFile = Annotated[
    Path | None,
    Parameter(help="which of your own images is for what; default: the run's split.csv"),
]
Out = Annotated[Path | None, Parameter(help="file to draw to: .png, .svg or .pdf")]
DataDir = Annotated[Path | None, Parameter(help="folder that already holds the data set")]
Json = Annotated[bool, Parameter(help="print JSON")]
ImageSize = Annotated[int | None, Parameter(help="pixels; default: the paper's")]
Backend = Annotated[
    Literal["auto", "torch", "onnx", "openvino"] | None,
    Parameter(
        help="what computes it; auto measures once what is fastest here; default: PyTorch, or the "
        "runtime of an exported file"
    ),
]
Execution = Annotated[
    str,
    Parameter(help="auto, plain, or words such as bf16,channels_last", metavar="WORDS"),
]
ExactExecution = Annotated[
    str,
    Parameter(
        help="channels_last computes in fp32, so that the result does not depend on the machine; "
        "auto takes bf16 where the CPU has it: about twice as fast, a few of 1,000 predictions "
        "change",
        metavar="WORDS",
    ),
]
Overrides = Annotated[
    dict[str, int | str],
    FIELDS,
    Parameter(help="fields of the architecture to change, e.g. stem cifar depths 2,2,2,2"),
]


def load(run: str, **foreign: Any) -> Checkpoint | Exported:
    """The network of a command, with its options for foreign weights; says what was assumed."""
    with console.waiting("loading PyTorch"):
        from resnetlab.inference.network import load_network

    with console.waiting(f"loading {run}"):
        checkpoint = load_network(run, **foreign)
    if not checkpoint.recipe:
        console.print_origin(checkpoint.origin, *checkpoint.notes)
    return checkpoint
