"""CIFAR-10 and CIFAR-100 as published, and pickles that are something else."""

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bigan.data.sources import open_source

from .pictures import written
from .sets import Wants, cifar10, cifar100, cifar_binary, cifar_rows, pickled, python2_pickle, same_image

ROW = 4000  # bytes: an item of an array is its own row, and little more


def test_cifar_10_for_python(tmp_path: Path) -> None:
    rows = cifar10(tmp_path / "cifar-10-batches-py")
    source = pickled(open_source(str(tmp_path / "cifar-10-batches-py")), ROW)
    assert source.description == "cifar-10-python train"
    assert source.classes == tuple(f"c{n}" for n in range(10))
    assert [item.label for item in source] == list(range(10))
    assert all(same_image(item, row) for item, row in zip(source, rows, strict=True))
    test = open_source(str(tmp_path / "cifar-10-batches-py"), split="test")
    assert [item.label for item in test] == [9, 9]
    assert all(same_image(item, row) for item, row in zip(test, cifar_rows(2, seed=2), strict=True))
    with pytest.raises(ValueError, match="split 'val' is not among those of CIFAR; it has train, test"):
        open_source(str(tmp_path / "cifar-10-batches-py"), split="val")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_cifar_that_python_3_wrote_anew(tmp_path: Path, protocol: int) -> None:
    cifar10(tmp_path)
    rows = cifar_rows(2, seed=9)
    document = {"data": np.asfortranarray(rows), b"labels": [4, 5], "filenames": ["a", "b"], "nothing": b""}
    written(tmp_path / "test_batch", pickle.dumps(document, protocol=protocol))
    source = open_source(str(tmp_path), split="test")
    assert [item.label for item in source] == [4, 5]
    assert all(same_image(item, row) for item, row in zip(source, rows, strict=True))


def test_cifar_in_its_archive(tmp_path: Path) -> None:
    rows = cifar10(tmp_path / "cifar-10-batches-py")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    source = open_source(str(tmp_path / "cifar-10-python.tar.gz"))
    assert source.fingerprint == open_source(str(tmp_path / "cifar-10-batches-py")).fingerprint
    assert same_image(source.items[7], rows[7])
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-py", "cifar-100-python")
    with pytest.raises(ValueError, match=r"cifar-100-python\.tar\.gz: has no meta"):
        open_source(str(tmp_path / "cifar-100-python.tar.gz"))


def test_cifar_100_and_the_binary_versions(tmp_path: Path) -> None:
    for folder, rows, labels in (
        ("p100", cifar100(tmp_path / "p100"), [90, 91, 92, 93]),
        ("b10", cifar_binary(tmp_path / "b10", fine=False), [0, 1, 2, 3, 4]),
        ("b100", cifar_binary(tmp_path / "b100", fine=True), [0, 1, 2, 3, 4]),
    ):
        source = pickled(open_source(str(tmp_path / folder)), ROW)
        assert len(source.classes) == (10 if folder == "b10" else 100)
        assert [item.label for item in source] == labels
        assert all(same_image(item, row) for item, row in zip(source, rows, strict=True))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["data_batch_3", "batches.meta"])
def test_a_pickle_that_wants_a_program_runs_nothing(tmp_path: Path, name: str, protocol: int) -> None:
    cifar10(tmp_path / "set")
    marker = tmp_path / "ran"
    evil = {"data": Wants(os.system, f"touch {marker}"), "labels": [1], "label_names": ["a"]}
    written(tmp_path / "set" / name, pickle.dumps(evil, protocol=protocol))
    with pytest.raises(ValueError, match=rf"{name}: .*it wants \w+\.system, which is refused"):
        open_source(str(tmp_path / "set"))
    assert not marker.exists()
    pickle.loads((tmp_path / "set" / name).read_bytes())
    assert marker.exists()  # it would have


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no pickle"),
        (python2_pickle(labels=[1, 2], data=cifar_rows(2, 1))[:-300], "is no pickle"),
        (python2_pickle(labels=[1, 2]), "data"),
        (python2_pickle(labels=[1], data=cifar_rows(2, 1)), "its data are not 3072 bytes for each label"),
        (python2_pickle(labels=[1, 2], data=b"x" * 6144), "its data are not 3072 bytes for each label"),
        (python2_pickle(labels=[1, "2"], data=cifar_rows(2, 1)), "labels are no whole numbers"),
        (python2_pickle(labels=[1, 10], data=cifar_rows(2, 1)), "none of the 10 classes"),
        (python2_pickle(labels=[1, -1], data=cifar_rows(2, 1)), "none of the 10 classes"),
        (pickle.dumps({"labels": [1], "data": np.zeros((1, 3072))}), "not of bytes"),
        (pickle.dumps({"labels": [1], "data": np.array([[None] * 3072])}), "not of bytes"),
        (pickle.dumps([1, 2]), "is a pickle of no dict"),
        (pickle.dumps({"data": Wants(eval, "1")}), r"it wants builtins\.eval"),
        (pickle.dumps({"data": Wants(np.load, "x")}), r"it wants numpy\.load"),
        (pickle.dumps({"data": Wants(getattr, dict, "get")}), r"it wants builtins\.getattr"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo 2147483647"),
        (b"\x80\x02cnumpy\ndtype\n}U\x03abcK\x01sb.", "is given a state"),
        (b"\x80\x02\x8a\xff", "is no pickle"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f.", "is no pickle"),
        (b"\x80\x02(K\x01K\x02t\x85R.", "is no pickle"),
    ],
)
def test_a_wrong_batch_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    cifar10(tmp_path)
    written(tmp_path / "test_batch", content)
    with pytest.raises(ValueError, match=message) as caught:
        open_source(str(tmp_path), split="test")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_missing_or_cut_files_of_cifar_are_named(tmp_path: Path) -> None:
    cifar10(tmp_path / "a")
    (tmp_path / "a" / "data_batch_4").unlink()
    with pytest.raises(ValueError, match=r"data_batch_4: cannot be read"):
        open_source(str(tmp_path / "a"))
    cifar10(tmp_path / "b")
    (tmp_path / "b" / "batches.meta").unlink()
    with pytest.raises(ValueError, match=r"batches\.meta: cannot be read"):
        open_source(str(tmp_path / "b"))
    cifar_binary(tmp_path / "c", fine=True)
    file = tmp_path / "c" / "train.bin"
    written(file, file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train\.bin: is no whole batch"):
        open_source(str(tmp_path / "c"))
