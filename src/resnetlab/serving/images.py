"""The images that a request holds: several files, one as it is, or a list in JSON."""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from resnetlab.serving.answers import ImageList
from resnetlab.serving.refused import Refused

_IMAGE = {"type": "string", "contentMediaType": "application/octet-stream"}
BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "array", "minItems": 1, "items": _IMAGE}},
            },
            "encoding": {"image": {"contentType": "image/*, application/octet-stream"}},
        },
        "image/*": {"schema": _IMAGE},
        "application/octet-stream": {"schema": _IMAGE},
        "application/json": {"schema": {"$ref": "#/components/schemas/ImageList"}},
    },
}
"""The request's body, for OpenAPI."""


@dataclass(frozen=True)
class Sent:
    """An image as it came."""

    name: str
    """for people to read, never a path to open"""
    data: bytes


async def images_of(request: Request, max_images: int) -> list[Sent]:
    """All images of a request, undecoded.

    Raises Refused: there is none, there are more than ``max_images``, or the body is no such thing.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        sent = await _from_form(request, max_images)
    elif kind == "application/json":
        sent = _from_json(await request.body(), max_images)
    elif kind == "application/octet-stream" or kind.startswith("image/"):
        sent = [Sent("image 1", await request.body())]
    else:
        raise Refused(
            415,
            "send an image as multipart/form-data, as image/* or application/octet-stream, or "
            'as application/json: {"images": ["<base64>"]}.',
        )
    if not sent:
        raise Refused(400, "the request holds no image file.")
    return sent


async def _from_form(request: Request, max_images: int) -> list[Sent]:
    try:
        async with request.form(max_files=max_images, max_fields=max_images) as form:
            files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
            return [
                Sent(shown_name(file.filename) or f"image {number}", await file.read())
                for number, file in enumerate(files, 1)
            ]
    except HTTPException as error:  # how starlette names what is wrong with a form
        if error.detail.startswith("Too many"):
            raise _too_many(max_images) from None
        raise Refused(400, f"the form cannot be read: {error.detail}") from None


def _from_json(body: bytes, max_images: int) -> list[Sent]:
    wanted = 'send {"images": ["<base64>", ...]}.'
    try:
        listed = ImageList.model_validate(json.loads(body)).images
    except (ValueError, RecursionError) as error:
        what = "has other fields" if isinstance(error, ValidationError) else "is not JSON"
        raise Refused(400, f"the body {what}; {wanted}") from None
    if len(listed) > max_images:
        raise _too_many(max_images)
    return [
        Sent(f"image {number}", _from_base64(text, number)) for number, text in enumerate(listed, 1)
    ]


def _from_base64(text: str, number: int) -> bytes:
    try:
        return base64.b64decode(re.sub(r"^data:[^,]{0,100},", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, f"image {number} is not base64.") from None


def _too_many(max_images: int) -> Refused:
    return Refused(413, f"a request has at most {max_images} images; send several requests.")


def shown_name(name: str | None) -> str:
    """The last part of a client's file name, without what a terminal or a page would obey."""
    last = re.split(r"[/\\]", name or "")[-1][:200]
    return "".join(
        char for char in last if unicodedata.category(char)[0] not in "CZ" or char == " "
    )
