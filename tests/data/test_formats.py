import os
import pickle
import tarfile

import pytest

from resnetlab.data import formats
from resnetlab.errors import UserError


@pytest.mark.parametrize("how", ["python3", "python2", "binary"])
@pytest.mark.parametrize("packed", ["unpacked", "archive"])
def test_cifar10_in_every_layout(how, packed, tmp_path, make):
    kind, version = ("bin", "binary") if how == "binary" else ("py", "python")
    folder = tmp_path / f"cifar-10-batches-{kind}"
    arrays = make.write_cifar(folder, how)
    if packed == "archive":
        with tarfile.open(tmp_path / f"cifar-10-{version}.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        folder.rename(tmp_path / "elsewhere")
    assert make.digests(formats.read_cifar10(tmp_path)) == make.digests(arrays)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("malicious",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    make.write_cifar(tmp_path, "python3")
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({b"data": Malicious()}, protocol=2))
    with pytest.raises(ValueError, match=r"data_batch_3 cannot be read: refuses .*mkdir"):
        formats.read_cifar10(tmp_path)
    assert not (tmp_path / "malicious").exists()


@pytest.mark.parametrize("content", [b"<html>503</html>", b"", b"\x1f\x8b\x08broken", b"\0" * 600])
@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"])
def test_a_damaged_archive_is_one_line(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="fetch it again") as error:
        formats.read_cifar10(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / name} cannot be read: ")
    assert len(str(error.value).splitlines()) == 1


def test_the_text_of_a_library_is_cut_to_one_line(tmp_path):
    with pytest.raises(UserError) as error, formats.naming(tmp_path / "x"):
        raise RuntimeError("it went wrong:\n- one\n- two")
    wanted = "it went wrong; it is damaged, or of another kind: fetch it again."
    assert str(error.value) == f"{tmp_path / 'x'} cannot be read: {wanted}"
