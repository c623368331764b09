"""The service's routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from resnetlab.errors import UserError
from resnetlab.serving import page
from resnetlab.serving.answers import Answers, Card, ImageList, Problem, State
from resnetlab.serving.batching import Batcher
from resnetlab.serving.engine import Answer, Engine
from resnetlab.serving.images import BODY, Sent, images_of
from resnetlab.serving.metrics import CONTENT_TYPE, Metrics
from resnetlab.serving.refused import Refused
from resnetlab.serving.settings import Settings
from resnetlab.version import __version__

_STUCK_SECONDS = 120.0
"""A batch that takes longer has hung: /health says so, and what watches the process restarts it."""

_DESCRIPTION = """\
Residual networks classify images. A request may hold one image or many; images of all requests are
computed in common batches. Errors are one sentence: `{"error": "..."}`.\
"""
_REFUSALS = {
    400: "The request is not what it should be.",
    401: "A token is needed.",
    408: "The request came too slowly.",
    413: "It is too large.",
    415: "It is of another kind.",
    422: "A parameter is wrong, or no image could be read.",
    429: "Too many images are waiting; Retry-After says how many seconds to wait.",
    504: "There was no answer in time.",
}


class Service:
    """What answers requests: the engine, its batcher and the counts."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics, name: str) -> None:
        self.engine = engine
        self.settings = settings
        self.metrics = metrics
        self.name = name
        self.batcher: Batcher | None = None
        threshold = 100 * (engine.network.threshold or 0)
        if settings.min_confidence is not None:
            threshold = settings.min_confidence
        self._threshold = threshold or None
        """% of the likeliest class below which an answer is "none of these"; None: never"""

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Batches are computed in the body."""
        settings = self.settings
        self.batcher = Batcher(
            self.engine, self.metrics, capacity=settings.max_queue, wait=settings.batch_wait
        )
        yield
        await self.batcher.close()

    async def predict(
        self, request: Request, topk: int, heat_map: bool, deadline: float | None
    ) -> tuple[int, dict[str, Any]]:
        """Status and content of the answer to a request for predictions; or raises Refused."""
        assert self.batcher
        sent = await images_of(request, self.settings.max_images)
        seconds = min(deadline or self.settings.deadline, self.settings.deadline)
        with self.batcher.admit(len(sent)):
            try:
                async with asyncio.timeout(seconds):
                    answers = await asyncio.gather(*(self._answer(each, heat_map) for each in sent))
            except TimeoutError:
                raise Refused(504, f"there was no answer within {seconds:g} s.") from None
        images = [
            self._shown(each, answer, topk) for each, answer in zip(sent, answers, strict=True)
        ]
        errors = [image["error"] for image in images if image["error"]]
        if len(errors) == len(images):
            return 422, {"error": errors[0], "images": images}
        return 200, {"images": images}

    async def _answer(self, sent: Sent, heat_map: bool) -> Answer | UserError:
        assert self.batcher
        try:
            return await self.batcher.answer(sent.data, heat_map=heat_map)
        except UserError as error:
            return error

    def _shown(self, sent: Sent, answer: Answer | UserError, topk: int) -> dict[str, Any]:
        """As ``ImageAnswer``."""
        network = self.engine.network
        shown: dict[str, Any] = {"image": sent.name, "predictions": [], "none_of_these": None}
        shown |= {"heat_map": None, "error": None}
        if isinstance(answer, UserError):
            self.metrics.image("unreadable")
            return shown | {"error": str(answer)}
        if answer.probabilities is None:
            self.metrics.image("not-finite")
            return shown | {"error": "the network's outputs for the image are not finite"}
        self.metrics.image("predicted")
        percent = 100 * answer.probabilities
        shown["predictions"] = [
            {"class": network.classes[i], "probability": round(float(percent[i]), 4)}
            for i in np.argsort(-percent, kind="stable")[:topk]
        ]
        if self._threshold is not None:
            shown["none_of_these"] = bool(percent.max() < self._threshold)
        if answer.heat_map is not None:
            values = answer.heat_map.round(4).tolist()
            shown["heat_map"] = {"values": values, "box": answer.box}
        return shown

    def card(self, examples: list[str]) -> dict[str, Any]:
        """As ``Card``."""
        network, settings = self.engine.network, self.settings
        return {
            "name": self.name,
            "computed_by": network.name,
            "classes": list(network.classes),
            "image_size": network.preprocessing.size,
            "crop": network.preprocessing.crop,
            "channels": network.preprocessing.channels,
            "temperature": network.temperature,
            "threshold": self._threshold,
            "heat_maps": self.engine.gives_heat_maps,
            "max_images": settings.max_images,
            "max_megabytes": settings.max_megabytes,
            "max_megapixels": settings.max_megapixels,
            "examples": examples,
            "version": __version__,
        }


def create_app(service: Service, *, examples: Mapping[str, bytes]) -> FastAPI:
    """The application; ``examples`` are image files that the page offers, by their names."""
    app = FastAPI(
        title=f"resnetlab: {service.name}",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=service.running,
        docs_url=None,
        redoc_url=None,
    )
    card = service.card([f"/static/examples/{name}" for name in examples])
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": text} for status, text in _REFUSALS.items()
    }
    denied: dict[int | str, dict[str, Any]] = {401: refusals[401]}
    answers = {200: {"model": Answers, "description": "At least one was read."}, **refusals}
    sick: dict[int | str, dict[str, Any]] = {503: {"model": Problem, "description": "It is not."}}
    text = {"text/plain": {"schema": {"type": "string"}}}
    counts = {200: {"content": text, "description": "All counts."}, **denied}

    @app.post("/predict", responses=answers, openapi_extra={"requestBody": BODY})
    async def predict(
        request: Request,
        topk: Annotated[int, Query(ge=1, le=1000, description="classes for each image")] = 5,
        heat_map: Annotated[bool, Query(description="where the evidence lies, too")] = False,
        deadline: Annotated[
            float | None,
            Query(ge=0.01, allow_inf_nan=False, description="seconds; at most the server's own"),
        ] = None,
    ) -> Response:
        """The likeliest classes of one image or of several.

        Send image files as multipart/form-data, one image as the body itself (image/* or
        application/octet-stream), or JSON with images in base64. An image that cannot be read has
        an error, and the others are answered all the same.
        """
        status, content = await service.predict(request, topk, heat_map, deadline)
        return JSONResponse(content, status, {"cache-control": "no-store"})

    @app.get("/model", responses={200: {"model": Card, "description": "Its card."}, **denied})
    async def model() -> Response:
        """What is served."""
        return JSONResponse(card)

    @app.get("/health", response_model=State, responses=sick)
    async def health() -> Any:
        """Whether the process works."""
        if service.batcher is None or service.batcher.stuck(_STUCK_SECONDS):
            raise Refused(503, "no batch has been computed for too long.")
        return {"status": "ok"}

    @app.get("/ready", response_model=State, responses=sick)
    async def ready() -> Any:
        """Whether there is room for a request."""
        await health()
        assert service.batcher
        with service.batcher.admit(1, status=503):
            return {"status": "ok"}

    @app.get("/metrics", response_class=Response, responses=counts)
    async def metrics() -> Response:
        """Counts and latencies for Prometheus."""
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    page.add_routes(app, examples)
    _add_errors(app)
    _add_schemas(app)
    return app


def paths(app: FastAPI) -> list[str]:
    """The addresses of an application that have no parameters."""
    return [path for route in app.routes if "{" not in (path := getattr(route, "path", "{"))]


def _add_errors(app: FastAPI) -> None:
    """Every error is ``{"error": sentence}``; what is our own fault says nothing of itself."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return JSONResponse({"error": error.sentence}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": f"{error.detail}."}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}."}, 422)

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": "the server failed; its log says why."}, 500)


def _add_schemas(app: FastAPI) -> None:
    """Put the body's shape into the OpenAPI document; FastAPI adds what it reads itself."""
    document = app.openapi()
    document["components"]["schemas"]["ImageList"] = ImageList.model_json_schema()
