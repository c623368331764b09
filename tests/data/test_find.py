"""Which images are found in folders, and what is said of the rest."""

import os
import tempfile
from pathlib import Path

import pytest

from resnetlab.data.find import find_images


@pytest.fixture
def place(tmp_path):
    """A function that makes empty files below tmp_path."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def names(found, folder):
    return [str(path.relative_to(folder)) for path in found]


def test_what_is_left_out_is_counted_by_kind(place):
    heic = [f"phone/{i}.HEIC" for i in range(10)]
    folder = place("a.JPG", "b.dng", "notes.txt", "README", ".DS_Store", ".git/x.txt", *heic)
    said = []
    assert names(find_images([folder, folder / "b.dng"], report=said.append), folder) == [
        "a.JPG",
        "b.dng",  # it was named, so that its reader says what is wrong with it
    ]
    kinds = ".heic 10, .dng 1, .txt 1, no suffix 1"
    (line,) = said
    assert line.startswith(f"{folder}: left out 13 files of other kinds: .heic 10, ")
    assert sorted(line.rpartition("kinds: ")[2].split(", ")) == sorted(kinds.split(", "))
    said.clear()
    (folder / "only").mkdir()
    place("only/a.png")
    find_images([folder / "only"], report=said.append)
    assert said == []


def test_it_is_said_on_stderr_by_default(place, capsys):
    find_images([place("a.png", "b.heic")])
    out, err = capsys.readouterr()
    assert (out, err.endswith("left out 1 file of other kinds: .heic 1\n")) == ("", True)


def test_of_many_kinds_the_commonest_are_named(place):
    said = []
    folder = place("a.png", "b.x0", *(f"a.x{i}" for i in range(20)))
    find_images([folder], report=said.append)
    assert "left out 21 files of other kinds: .x0 2, .x" in said[0]
    assert said[0].endswith(" 1 and 12 kinds more")


def test_a_folder_without_images_says_what_it_holds(place):
    with pytest.raises(ValueError, match=r"holds no images: .*; it holds \.txt 2\.$"):
        find_images([place("a.txt", "b/c.txt")])


def test_links_to_folders_are_followed(place):
    folder = place("mix/dogs/a.png", "store/cats/b.png", "store/cats/c.png")
    (folder / "mix" / "cats").symlink_to(folder / "store" / "cats")
    assert names(find_images([folder / "mix"]), folder / "mix") == [
        "cats/b.png",
        "cats/c.png",
        "dogs/a.png",
    ]
    (folder / "link").symlink_to(folder / "mix")
    assert len(find_images([folder / "link"])) == 3


def test_loops_end_and_no_folder_is_searched_twice(place):
    folder = place("x/a.png", "y/b.png")
    for name, target in (
        ("x/self", "x"),
        ("x/other", "y"),
        ("y/other", "x"),
        ("y/above", "."),
        ("zzz", "x"),
        ("aaa", "x"),  # the folder itself comes before its links
    ):
        (folder / name).symlink_to(folder / target)
    (folder / "loop").symlink_to("loop")
    said = []
    found = find_images([folder], report=said.append)
    assert names(found, folder) == ["x/a.png", "y/b.png"]
    assert said == [f"{folder}: left out 1 file of other kinds: no suffix 1"]  # the broken link


def test_many_folders_that_link_to_each_other(place):
    folder = place(*(f"{i}/{i}.png" for i in range(12)))
    for i in range(12):
        for j in range(12):
            (folder / f"{i}" / f"to{j}").symlink_to(folder / f"{j}")
    assert len(find_images([folder])) == 12


def test_a_link_to_nothing_is_kept_for_its_reader_to_complain_of(place):
    (place("a.png") / "lost.png").symlink_to("nowhere.png")
    assert len(find_images([place("a.png")])) == 2


@pytest.fixture
def closed():
    """A folder with an image, and one below it that this process may not read."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        for name in ("a.png", "closed/b.png"):
            (folder / name).touch()
        (folder / "closed").chmod(0)
        before = os.geteuid()
        if before == 0:  # who may read everything
            os.seteuid(65534)
        yield folder
        if before == 0:
            os.seteuid(0)
        (folder / "closed").chmod(0o755)


def test_a_closed_folder_is_said(closed):
    assert names(find_images([closed]), closed) == ["a.png", "closed"]
    with pytest.raises(ValueError, match=f"cannot read {closed / 'closed'}: Permission denied"):
        find_images([closed / "closed"])


def test_the_home_folder_is_found(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place("photos/a.png")))
    assert find_images(["~/photos"]) == [place() / "photos" / "a.png"]
    assert find_images(["~/photos/a.png"]) == [place() / "photos" / "a.png"]


def test_an_address_is_kept_for_its_reader_to_complain_of(place):
    assert find_images(["https://x.org/a.png", place("a.png")])[0] == "https://x.org/a.png"
