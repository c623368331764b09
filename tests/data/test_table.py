import json

import pytest
import torch

from resnetlab.data.catalogue import load_dataset
from resnetlab.data.table import read_table
from resnetlab.errors import UserError

NAMES = ("0.png", "1.png", "2.png", "3.png")


@pytest.fixture
def images(tmp_path, make, empty_cache):
    """Four real images in one folder, and a function that lists them in a table."""
    (tmp_path / "all").mkdir()
    for file in make.write_folder(tmp_path / "classes", range(4)).rglob("*.png"):
        file.rename(tmp_path / "all" / f"{int(file.stem)}.png")

    def write(text, name="list.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


ROWS = [("all/0.png", "cat"), ("all/1.png", "dog"), ("all/2.png", "dog"), ("all/3.png", "cat")]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_tables_of_every_kind(images, suffix):
    lines = {
        "csv": ["Path,label"] + [f'"{path}",{label}' for path, label in ROWS],
        "tsv": ["file_name\tclass"] + ["\t".join(row) for row in ROWS],
        "jsonl": [json.dumps({"image": path, "label": label}) for path, label in ROWS],
    }[suffix]
    table = images("\n".join(lines) + "\n", f"list.{suffix}")
    dataset = load_dataset(table, "train+val", test_size=0, val_size=0)
    assert (dataset.classes, dataset.labels.tolist()) == (("cat", "dog"), [0, 1, 1, 0])
    pixels, _ = dataset.batch(torch.tensor([2]))
    assert pixels.shape == (1, 3, 32, 32)
    assert [dataset.whole.samples.path_of(i) for i in range(4)] == [path for path, _ in ROWS]


def test_splits_groups_and_numbers_in_their_order(images):
    table = images(
        "path,label,split,group\nall/0.png,10,train,a\nall/1.png,9,valid,a\nall/2.png,9,train,\n"
        "all/3.png,10,test,b\n"
    )
    collection = read_table(table)
    assert collection.names == ("9", "10")
    assert collection.splits.tolist() == [0, 1, 0, 2]
    assert collection.groups[0] == collection.groups[1]
    assert len({*collection.groups.tolist()}) == 3
    val = load_dataset(table, "val")
    assert (val.classes, val.labels.tolist()) == (("9", "10"), [0])


def test_paths_are_relative_to_the_folder_that_is_named(images, tmp_path):
    table = images("path,label\n0.png,a\n./1.png,b\n../all/2.png,b\n")
    dataset = load_dataset(table, "train", data_dir=tmp_path / "all", val_size=0, test_size=0)
    assert [dataset.whole.samples.path_of(i) for i in range(3)] == ["0.png", "1.png", "2.png"]
    absolute = images(f"path,label\n{tmp_path}/all/0.png,a\nall/1.png,b\n")
    assert read_table(absolute).samples.path_of(0) == "all/0.png"


MULTI = "multi-label data are not supported"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no images"),
        ("path,label\n", "lists no images"),
        ("file,kind\nall/0.png,a\n", "has no column 'label'; it has file, kind"),
        ("x,label\nall/0.png,a\n", "has no column 'path'"),
        (
            "path,label\nall/9.png,a\nall/0.png,b\n",
            r"1 file that is not there \(row 2: all/9.png\)",
        ),
        ("path,label\n/etc/passwd,a\n", "/etc/passwd lies outside of .*`data_dir`"),
        ("path,label\nall/../../x.png,a\n", "lies outside"),
        ("path,label\nall/0.png,\n", "row 2: all/0.png has no label"),
        ("path,label\n,a\n", "row 2: there is no path"),
        ("path,label\nall/0.png,a\nall/0.png,a\n", "row 3: all/0.png is listed twice"),
        ("path,label\nall/0.png,a\nall/0.png,b\n", f"two labels, 'a' and 'b'.*{MULTI}"),
        ("path,label\nall/0.png,cat\nall/1.png,dog\nall/2.png,cat;dog\n", f"'cat;dog' .*{MULTI}"),
        ("path,cat,dog\nall/0.png,1,0\nall/1.png,1,1\n", rf"0 and 1 a class \(cat, dog\).*{MULTI}"),
        (
            "path,label,split\nall/0.png,a,dev\n",
            "row 2: split must be train, val or test, not 'dev'",
        ),
        ("path,label\nall/0.png,a,b\n", "row 2: it has not as many cells as the header"),
    ],
)
def test_tables_that_are_refused(images, text, message):
    with pytest.raises(UserError, match=message):
        read_table(images(text))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "all/0.png", "label": ["cat", "dog"]}', f"a list of labels. .*{MULTI}"),
        ('["all/0.png", "cat"]', "must be an object"),
        ("{", "row 1 is no JSON"),
    ],
)
def test_json_lines_that_are_refused(images, line, message):
    with pytest.raises(UserError, match=message):
        read_table(images(line + "\n", "list.jsonl"))


def test_a_comma_in_a_name_is_no_second_label(images):
    names = ("Pizza, Margherita", "Pasta", "Soup, clear", "Bread")
    rows = [f'all/{name},"{label}"' for name, label in zip(NAMES, names, strict=True)]
    table = read_table(images("path,label\n" + "\n".join(rows)))
    assert set(table.names) == set(names)
