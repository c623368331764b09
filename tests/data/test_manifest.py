import pytest

from resnetlab.data.catalogue import load_dataset, open_dataset
from resnetlab.data.folder import read_folder
from resnetlab.data.manifest import differences, write_manifest
from resnetlab.errors import UserError


@pytest.fixture
def folder(tmp_path, make, empty_cache):
    return make.write_folder(tmp_path / "animals", range(100))


@pytest.fixture
def manifest(folder, tmp_path):
    path = tmp_path / "split.csv"
    write_manifest(open_dataset(folder, split_seed=3), path)
    return path


def paths(dataset):
    return [dataset.whole.samples.path_of(i) for i in dataset.indices.tolist()]


def test_a_manifest_gives_the_same_splits(folder, manifest):
    for split in ("train", "val", "test"):
        drawn = load_dataset(folder, split, split_seed=3)
        read = load_dataset(folder, split, split_file=manifest)
        assert (paths(read), read.labels.tolist()) == (paths(drawn), drawn.labels.tolist())


def test_images_that_are_new_stay_outside(folder, manifest):
    before = paths(load_dataset(folder, "train", split_file=manifest))
    (folder / "cat" / "0000new.png").write_bytes(next((folder / "dog").iterdir()).read_bytes())
    assert paths(load_dataset(folder, "train", split_file=manifest)) == before


def test_what_does_not_fit_is_refused(folder, manifest):
    first = min((folder / "cat").iterdir())
    first.rename(folder / "dog" / first.name)
    with pytest.raises(UserError, match=rf"lacks 1 of the images .*\(cat/{first.name}\)"):
        load_dataset(folder, "train", split_file=manifest)
    text = manifest.read_text().replace(f"cat/{first.name}", f"dog/{first.name}")
    manifest.write_text(text)
    with pytest.raises(UserError, match="is of class 'dog', and of 'cat' in `split_file`"):
        load_dataset(folder, "train", split_file=manifest)
    manifest.write_text("path,label\n" + "a,b\n")
    with pytest.raises(UserError, match="needs the columns path and split"):
        load_dataset(folder, "train", split_file=manifest)
    with pytest.raises(UserError, match="cifar10-sample has splits of its own"):
        load_dataset("cifar10-sample", "train", split_file=manifest)


def test_differences_are_told(folder, manifest):
    assert differences(read_folder(folder, print), manifest) is None
    first, second = sorted((folder / "cat").iterdir())[:2]
    first.rename(folder / "cat" / "new.png")
    with second.open("ab") as file:
        file.write(b"more")
    told = differences(read_folder(folder, print), manifest)
    wanted = ["1 added (cat/new.png)", f"1 removed (cat/{first.name})"]
    assert told == ", ".join([*wanted, f"1 changed (cat/{second.name})"])
