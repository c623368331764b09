"""The images in folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from resnetlab.console import Report, print_to_stderr, waiting
from resnetlab.data.images import IMAGE_SUFFIXES, ImageSource
from resnetlab.errors import UserError, reason_of
from resnetlab.files import is_address, reading, user_path


def find_images(
    images: Iterable[ImageSource], *, report: Report = print_to_stderr
) -> list[ImageSource]:
    """Files and images as they are, folders replaced by the images at any depth in them, sorted.

    In folders only names with one of ``IMAGE_SUFFIXES`` count, and hidden ones do not; ``report``
    is told what else there is. Links to folders are followed, each folder once. A path that cannot
    be read is kept, for its reader to complain of. UserError for a folder without images.
    """
    found: list[ImageSource] = []
    for image in images:
        if not isinstance(image, str | Path) or is_address(image):
            found.append(image)
            continue
        path = user_path(image)
        with reading(path):
            is_folder = path.is_dir()
        if not is_folder:
            found.append(path)
            continue
        with waiting(f"looking for images in {path}"):
            files, closed = _look_below(path)
        inside = sorted([file for file in files if file.suffix.lower() in IMAGE_SUFFIXES] + closed)
        images = {*inside}
        others = Counter(f.suffix.lower() or "no suffix" for f in files if f not in images)
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in others.most_common(8))
        kinds += f" and {len(others) - 8} kinds more" if len(others) > 8 else ""
        if not inside:
            raise UserError(
                f"{path} holds no images: looked below it for {', '.join(sorted(IMAGE_SUFFIXES))}; "
                f"it holds {kinds or 'no files'}."
            )
        if others:
            count = f"{others.total():,} file{'s' if others.total() > 1 else ''}"
            report(f"{path}: left out {count} of other kinds: {kinds}")
        found += inside
    return found


def _look_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files at any depth and folders that cannot be read, without hidden ones.

    Links to folders come after all others, and no folder twice: there is no end to a loop.
    """
    files, closed, links, seen = [], [], [folder], set()
    while links:
        open_folders = [links.pop(0)]
        while open_folders:
            current = open_folders.pop()
            try:
                status = current.stat()
                place = (status.st_dev, status.st_ino)
                entries = [] if place in seen else list(os.scandir(current))
            except OSError as error:
                if current == folder:
                    raise UserError(f"cannot read {folder}: {reason_of(error)}.") from error
                closed.append(current)
                continue
            seen.add(place)
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = current / entry.name
                if entry.name.startswith("."):
                    continue
                if not os.path.isdir(path):
                    files.append(path)
                elif entry.is_symlink():
                    links.append(path)
                else:
                    open_folders.append(path)
    return files, closed


def walk_images(images: Iterable[str | Path]) -> Iterator[Path]:
    """The same files as ``find_images``, one after another: only one folder's names are held.

    Sorted within each folder, a folder's own images before those of the folders in it. A folder
    without images gives none.
    """
    seen: set[tuple[int, int]] = set()
    for image in images:
        path = Path(image) if is_address(image) else user_path(image)
        if is_address(image) or not path.is_dir():
            yield path
            continue
        open_folders = [path]
        while open_folders:
            folder = open_folders.pop()
            try:
                status = folder.stat()
                names, inner = _names_in(folder)
            except OSError:
                yield folder  # for its reader to complain of
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            yield from (folder / name for name in names)
            open_folders += [folder / name for name in reversed(inner)]


def _names_in(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the images and of the folders in a folder, sorted, without hidden ones."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                files.append(entry.name)
    return sorted(files), sorted(folders)
