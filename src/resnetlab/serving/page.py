"""The page for people, the reference of the API, and what they load: all of it from here."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from jinja2 import Environment
from starlette.responses import HTMLResponse, Response

_STATIC = files("resnetlab.serving") / "static"
_FILES = ("page.css", "page.js", "words.js", "icon.svg")
_CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def add_routes(app: FastAPI, examples: Mapping[str, bytes]) -> None:
    """Serve the page at /, the reference at /docs, and a fixed list of files below /static/."""
    known = {f"/static/{name}": (_STATIC / name).read_bytes() for name in _FILES}
    known |= {f"/static/examples/{name}": data for name, data in examples.items()}
    for path, content in known.items():
        app.add_api_route(path, _sender(path, content), include_in_schema=False)
    index = (_STATIC / "index.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(index, headers={"cache-control": "no-cache"})

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (_STATIC / "reference.html").read_text(encoding="utf-8")
    )

    @app.get("/docs", include_in_schema=False)
    async def reference() -> Response:
        document = app.openapi()
        return HTMLResponse(template.render(document=document, kind=_kind))


def examples_for(classes: Sequence[str]) -> dict[str, bytes]:
    """Images that come with the page, for a network with CIFAR-10's classes; else none."""
    if tuple(classes) != _CIFAR10:
        return {}
    folder = _STATIC / "examples"
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda f: f.name)}


def _sender(path: str, content: bytes) -> Any:
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"

    async def send() -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return send


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema's type in words."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(repr(value) for value in schema["enum"])
    if "const" in schema:
        return repr(schema["const"])
    if schema.get("type") == "array":
        inner = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_kind(inner)}"
    return str(schema.get("type", "anything"))
