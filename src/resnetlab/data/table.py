"""Images listed in a table: CSV, TSV or JSON lines with the columns path, label, split, group."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from resnetlab.data.collection import SPLIT_NAMES, UNDIVIDED, Collection, sorted_classes
from resnetlab.data.encoded import Files, Names, some_of
from resnetlab.errors import UserError, reason_of

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")

_COLUMNS = {
    "path": ("path", "file", "file_name", "filename", "image"),
    "label": ("label", "class", "class_name"),
    "split": ("split",),
    "group": ("group",),
}
"""A column, and the names that it is known by; the first of them is ours."""

_SEPARATORS = "|;,"
"""What stands between the labels of a cell that holds several."""

Row = Mapping[str, Any]


def read_table(path: Path, root: Path | None = None) -> Collection:
    """The images that a table lists, in its order.

    ``root`` is the folder that paths are relative to; by default the table's own. Raises UserError,
    naming the row, for a missing file, a path that leads out of ``root``, an image without a label
    and one that is listed twice; and for several labels an image.
    """
    root = root or path.parent
    rows = list(read_rows(path))
    if not rows:
        raise UserError(f"{path} lists no images.")
    columns = _columns(path, rows[0][1])
    paths: dict[str, int] = {}
    labels: list[str] = []
    splits: list[int] = []
    groups: list[str] = []
    for number, row in rows:
        place = f"{path}, row {number}"
        image = _inside(root, row.get(columns["path"]), place)
        label = _label(row.get(columns["label"]), image, place)
        if image in paths:
            known = labels[paths[image]]
            raise UserError(
                f"{place}: {image} is listed twice; remove one row."
                if known == label
                else f"{place}: {image} has two labels, {known!r} and {label!r}. {ONE_LABEL}"
            )
        paths[image] = len(paths)
        labels.append(label)
        splits.append(_split(row.get(columns.get("split", "")), place))
        groups.append(str(row.get(columns.get("group", "")) or f"\0{number}"))
    _refuse_joined(path, labels)
    _refuse_missing(path, root, paths, rows)
    names = sorted_classes(labels)
    numbers = {name: number for number, name in enumerate(names)}
    return Collection(
        name=path.stem,
        place=path,
        samples=Files(root, Names(paths)),
        names=names,
        labels=np.array([numbers[label] for label in labels], np.int64),
        splits=np.array(splits, np.int8),
        groups=np.unique(groups, return_inverse=True)[1] if "group" in columns else None,
    )


ONE_LABEL = "An image has one label here: multi-label data are not supported."


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a table as dictionaries, each with the number of its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}.") from error
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, _json_row(line, f"{path}, row {number}")
        return
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"{path}, row {reader.line_num}: it has not as many cells as the header; quote "
                    f"a cell that holds a {'tab' if delimiter == chr(9) else 'comma'}."
                )
            yield reader.line_num, {name.strip(): cell.strip() for name, cell in row.items()}
    except csv.Error as error:
        raise UserError(f"{path}, row {reader.line_num}: {error}.") from error


def _json_row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is no JSON: {error}.") from error
    if not isinstance(row, dict):
        raise UserError(f'{place} must be an object such as {{"path": ..., "label": ...}}.')
    return row


def _columns(path: Path, row: Row) -> dict[str, str]:
    """Our name of each column that there is -> the table's."""
    lower = {name.lower(): name for name in row}
    columns = {
        ours: next(lower[name] for name in names if name in lower)
        for ours, names in _COLUMNS.items()
        if not lower.keys().isdisjoint(names)
    }
    for needed in ("path", "label"):
        if needed in columns:
            continue
        others = [name for name in row if name not in columns.values()]
        if (
            needed == "label"
            and len(others) > 1
            and all(row[n] in (0, 1, "0", "1") for n in others)
        ):
            raise UserError(
                f"{path} has a column of 0 and 1 a class ({some_of(others)}). {ONE_LABEL}"
            )
        raise UserError(
            f"{path} has no column {needed!r}; it has {', '.join(row) or 'none'}. Name its columns "
            "path, label and, if you like, split and group, in the first line."
        )
    return columns


def _inside(root: Path, value: Any, place: str) -> str:
    """A path relative to ``root``, with slashes and without dots."""
    if not isinstance(value, str) or not value:
        raise UserError(f"{place}: there is no path.")
    path = value.replace("\\", "/") if os.sep == "\\" else value
    joined = os.path.normpath(root / path)
    try:
        inside = PurePosixPath(os.path.relpath(joined, os.path.normpath(root)).replace(os.sep, "/"))
    except ValueError:  # another drive
        inside = PurePosixPath("..")
    if inside.parts[:1] == ("..",):
        raise UserError(
            f"{place}: {value} lies outside of {root}; give paths relative to a folder that holds "
            "all images, and name that folder: `data_dir`."
        )
    return str(inside)


def _label(value: Any, image: str, place: str) -> str:
    if isinstance(value, list | dict):
        raise UserError(f"{place}: {image} has a list of labels. {ONE_LABEL}")
    if value is None or value == "":
        raise UserError(f"{place}: {image} has no label; give it one, or remove the row.")
    return str(value)


def _split(value: Any, place: str) -> int:
    if value is None or value == "":
        return UNDIVIDED
    if str(value).lower() not in SPLIT_NAMES:
        raise UserError(f"{place}: split must be train, val or test, not {value!r}.")
    return SPLIT_NAMES[str(value).lower()]


def _refuse_joined(path: Path, labels: Iterable[str]) -> None:
    """UserError if labels such as "cat;dog" are made of others, "cat" and "dog"."""
    distinct = set(labels)
    for separator in _SEPARATORS:
        parts = {x: [part.strip() for part in x.split(separator)] for x in distinct}
        joined = [x for x in distinct if len(parts[x]) > 1]
        single = {x for x in distinct if len(parts[x]) == 1}
        for label in sorted(joined):
            elsewhere = single | {p for other in joined if other != label for p in parts[other]}
            if set(parts[label]) <= elsewhere:
                raise UserError(f"{path}: the label {label!r} joins several. {ONE_LABEL}")


def _refuse_missing(
    path: Path, root: Path, images: Iterable[str], rows: Iterable[tuple[int, Row]]
) -> None:
    missing = [
        f"row {number}: {image}"
        for image, (number, _) in zip(images, rows, strict=True)
        if not (root / image).is_file()
    ]
    if missing:
        raise UserError(
            f"{path} lists {len(missing):,} file{'s' * (len(missing) > 1)} that "
            f"{'are' if len(missing) > 1 else 'is'} not there ({some_of(missing)}); correct the "
            f"paths, or name the folder that they are relative to: `data_dir`."
        )
