"""The shapes of what the service answers, as its OpenAPI page shows them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class ClassProbability(BaseModel):
    """A class and how likely it is."""

    model_config = ConfigDict(populate_by_name=True)

    name: Annotated[str, Field(alias="class")]
    probability: Annotated[float, Field(description="in %, after the network's temperature")]


class HeatMap(BaseModel):
    """Where in the image the evidence for the likeliest class lies."""

    values: Annotated[
        list[list[float]],
        Field(description="rows from top to bottom, each value from 0 (none) to 1 (most)"),
    ]
    box: Annotated[
        tuple[float, float, float, float],
        Field(
            description="left, top, right, bottom of the part of the image that they cover, which "
            "is what the network sees: shares of its width and height (beyond 0..1 where the "
            "image was padded)"
        ),
    ]


class ImageAnswer(BaseModel):
    """What the network says of one image, or why it could not be read."""

    image: Annotated[str, Field(description='the file\'s name, or "image 3"')]
    predictions: Annotated[list[ClassProbability], Field(description="likeliest first")]
    none_of_these: Annotated[
        bool | None,
        Field(
            description="whether even the likeliest class is less likely than the network's "
            "threshold; null if it has none"
        ),
    ]
    heat_map: HeatMap | None
    error: str | None


class Answers(BaseModel):
    """One answer for each image, in their order."""

    images: list[ImageAnswer]


class Problem(BaseModel):
    """Why a request was refused."""

    error: str
    images: Annotated[
        list[ImageAnswer] | None, Field(description="where none of the images could be read")
    ] = None


class ImageList(BaseModel):
    """Images as text."""

    images: Annotated[
        list[str],
        Field(min_length=1, description="each image file in base64, or as a data: URL"),
    ]


class Card(BaseModel):
    """What is served."""

    name: str
    computed_by: str
    classes: list[str]
    image_size: Annotated[int, Field(description="pixels of the square that the network sees")]
    crop: Annotated[
        Literal["center", "squash", "letterbox"],
        Field(description="how an image of another shape becomes a square"),
    ]
    channels: int
    temperature: float
    threshold: Annotated[
        float | None,
        Field(
            description='probability in % below which an answer is "none of these"; null: there '
            "is no such threshold"
        ),
    ]
    heat_maps: bool
    max_images: Annotated[int, Field(description="in one request")]
    max_megabytes: Annotated[int, Field(description="in one request")]
    max_megapixels: Annotated[int, Field(description="of one image")]
    examples: Annotated[list[str], Field(description="addresses of images to try")]
    version: str


class State(BaseModel):
    """Whether all is well."""

    status: Literal["ok"]
