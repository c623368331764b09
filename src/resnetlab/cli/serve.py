"""``resnetlab serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from resnetlab.cli.shared import (
    Classes,
    Execution,
    Mean,
    MinConfidence,
    ModelName,
    ModelOverrides,
    Network,
    Std,
)
from resnetlab.serving.settings import Settings

_LIMITS = Parameter(group="limits")
_DEFAULTS = Settings()


def serve(
    network: Network,
    /,
    *,
    host: Annotated[str, Parameter(help="where to listen")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="0: any that is free")] = 8000,
    token_file: Annotated[
        Path | None,
        Parameter(help="file with a token that clients must send; needed where others reach it"),
    ] = None,
    allow_anonymous: Annotated[
        bool, Parameter(help="let everybody ask who can reach the host", negative="")
    ] = False,
    workers: Annotated[int, Parameter(help="processes, each with its own network")] = 1,
    backend: Annotated[
        Literal["auto", "torch", "onnx", "openvino"],
        Parameter(help="what computes it; auto measures once what is fastest here"),
    ] = "auto",
    min_confidence: MinConfidence = None,
    examples: Annotated[
        Path | None, Parameter(help="folder of images that the page offers to try")
    ] = None,
    deadline: Annotated[
        float, _LIMITS, Parameter(help="seconds to an answer, or the request is refused")
    ] = _DEFAULTS.deadline,
    max_queue: Annotated[
        int, _LIMITS, Parameter(help="images that may wait in a process")
    ] = _DEFAULTS.max_queue,
    max_images: Annotated[
        int, _LIMITS, Parameter(help="images in a request")
    ] = _DEFAULTS.max_images,
    max_megabytes: Annotated[
        int, _LIMITS, Parameter(help="of a request")
    ] = _DEFAULTS.max_megabytes,
    max_megapixels: Annotated[
        int, _LIMITS, Parameter(help="of an image")
    ] = _DEFAULTS.max_megapixels,
    model: ModelName = None,
    model_overrides: ModelOverrides = {},  # noqa: B006
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
    execution: Execution = "auto",
) -> None:
    """Serve a network over HTTP: an API, and a page for people."""
    from resnetlab.serving import server

    options: dict[str, Any] = {"model": model, "model_overrides": model_overrides or None}
    options |= {"mean": mean, "std": std, "classes": classes, "backend": backend}
    options |= {"execution": execution}
    server.serve(
        network,
        host=host,
        port=port,
        token_file=token_file,
        allow_anonymous=allow_anonymous,
        workers=workers,
        examples=examples,
        settings=Settings(
            min_confidence=min_confidence,
            deadline=deadline,
            max_queue=max_queue,
            max_images=max_images,
            max_megabytes=max_megabytes,
            max_megapixels=max_megapixels,
        ),
        **options,
    )
