"""The rows of predictions in a file: .csv, .jsonl or .parquet, in parts that are joined."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from resnetlab.errors import UserError
from resnetlab.inference.predictor import Prediction

COLUMNS = ("image", "rank", "class", "probability", "none_of_these", "error")
"""Of .csv and .parquet: a row for each of an image's likeliest classes, probability in %,
none_of_these 0 or 1; of an image that could not be read one row, with the error alone."""


class Table(Protocol):
    """How predictions are written."""

    def write(self, predictions: Iterable[Prediction], path: Path) -> None:
        """Write a part."""
        ...

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Write a file of all parts, in their order."""
        ...


def table_of(path: Path) -> Table:
    """By the ending of a file's name; UserError for another, or where pyarrow is missing."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _Csv()
    if suffix == ".jsonl":
        return _JsonLines()
    if suffix == ".parquet":
        return _Parquet()
    raise UserError(f"`out` {path} must end in .csv, .jsonl or .parquet.")


def _rows(prediction: Prediction) -> Iterable[tuple[Any, ...]]:
    name = _encodable(prediction.path)
    if prediction.error:
        yield name, None, None, None, None, _encodable(prediction.error)
    for rank, (label, p) in enumerate(prediction.top, 1):
        yield name, rank, label, round(p, 4), int(prediction.none_of_these), None


def _encodable(text: str) -> str:
    # File names that are not UTF-8 come as lone surrogates, which no file of text takes.
    return text.encode("utf-8", "backslashreplace").decode()


class _Csv:
    def write(self, predictions: Iterable[Prediction], path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            for prediction in predictions:
                writer.writerows(_rows(prediction))

    def join(self, parts: Sequence[Path], path: Path) -> None:
        _concatenate(parts, path, ",".join(COLUMNS) + "\n")


class _JsonLines:
    """An image a line: {image, predictions: [{class, probability}], none_of_these, error}."""

    def write(self, predictions: Iterable[Prediction], path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for prediction in predictions:
                value = {
                    "image": _encodable(prediction.path),
                    "predictions": [
                        {"class": label, "probability": round(p, 4)} for label, p in prediction.top
                    ],
                    "none_of_these": prediction.none_of_these,
                    "error": prediction.error and _encodable(prediction.error),
                }
                file.write(json.dumps(value, ensure_ascii=False) + "\n")

    def join(self, parts: Sequence[Path], path: Path) -> None:
        _concatenate(parts, path, "")


def _concatenate(parts: Sequence[Path], path: Path, header: str) -> None:
    with path.open("wb") as file:
        file.write(header.encode())
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)


class _Parquet:
    def __init__(self) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise UserError(
                "`out` .parquet needs pyarrow: pip install pyarrow; or take .csv or .jsonl."
            ) from error
        self._arrow, self._parquet = pyarrow, pyarrow.parquet
        text, number = pyarrow.string(), pyarrow.int32()
        kinds = (text, number, text, pyarrow.float64(), number, text)
        fields = zip(COLUMNS, kinds, strict=True)
        self._schema = pyarrow.schema(list(fields))

    def write(self, predictions: Iterable[Prediction], path: Path) -> None:
        rows = [row for prediction in predictions for row in _rows(prediction)]
        columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
        self._parquet.write_table(self._arrow.table(columns, schema=self._schema), path)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        with self._parquet.ParquetWriter(path, self._schema) as writer:
            for part in parts:
                writer.write_table(self._parquet.read_table(part))
