"""Data sets of torchvision on disk."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from bigan.data.sources import open_source

from .pictures import folder_of, written
from .sets import Wants, cifar10, pickled, same_image
from .test_source import idx_files

ROW = 4000  # bytes: an item of an array is its own row, and little more


def fashion(root: Path) -> np.ndarray:
    idx_files(root / "FashionMNIST", "t10k", 3)
    images = idx_files(root / "FashionMNIST", "train", 5)
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir()
    for file in list((root / "FashionMNIST").glob("*ubyte")):
        file.rename(raw / file.name)
    return images


def test_fashion_mnist_of_torchvision(tmp_path: Path) -> None:
    images = fashion(tmp_path)
    source = pickled(open_source(f"torchvision:FashionMNIST:{tmp_path}"), ROW)
    assert source.description == "torchvision FashionMNIST train"
    assert source.classes[:2] == ("T-shirt/top", "Trouser")
    assert [item.label for item in source] == [0, 1, 2, 0, 1]
    assert all(same_image(item, array) for item, array in zip(source, images, strict=True))
    assert len(open_source(f"torchvision:FashionMNIST:{tmp_path}", split="test")) == 3


def test_svhn_and_stl_10_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision import datasets

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)  # H, W, C, N
    savemat(tmp_path / "train_32x32.mat", {"X": pixels, "y": np.array([[1], [10], [3], [2]], dtype=np.uint8)})
    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": ["", "train_32x32.mat", None]})
    source = pickled(open_source(f"torchvision:SVHN:{tmp_path}"), ROW)
    assert [item.label for item in source] == [1, 0, 3, 2]
    assert all(same_image(item, pixels[..., row]) for row, item in enumerate(source))

    columns = generator.integers(0, 256, (2, 3, 96, 96), dtype=np.uint8)  # N, C, W, H
    written(tmp_path / "stl10_binary" / "unlabeled_X.bin", columns.tobytes())
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda _: True)
    source = open_source(f"torchvision:STL10:{tmp_path}", split="unlabeled")
    assert source.classes == ()
    assert [item.label for item in source] == [None, None]
    assert all(same_image(item, columns[row].transpose(2, 1, 0)) for row, item in enumerate(source))


def test_sets_of_files_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision import datasets

    pets = tmp_path / "oxford-iiit-pet"
    folder_of(pets / "images", "Birman_1.jpg", "beagle_7.jpg", mode="RGB")
    (pets / "annotations" / "trimaps").mkdir(parents=True)
    written(pets / "annotations" / "trainval.txt", b"Birman_1 2 1 1\nbeagle_7 1 2 1\n")
    source = pickled(open_source(f"torchvision:OxfordIIITPet:{tmp_path}"))
    assert source.classes == ("Beagle", "Birman")
    listing = [(item.key, item.label) for item in source]
    assert listing == [("oxford-iiit-pet/images/Birman_1.jpg", 1), ("oxford-iiit-pet/images/beagle_7.jpg", 0)]

    flowers = folder_of(tmp_path / "flowers-102", "jpg/image_00001.jpg", "jpg/image_00002.jpg", mode="RGB")
    savemat(flowers / "setid.mat", {"trnid": [[1, 2]], "valid": [[2]], "tstid": [[1]]})
    savemat(flowers / "imagelabels.mat", {"labels": [[77, 1]]})
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda _: True)
    source = pickled(open_source(f"torchvision:Flowers102:{tmp_path}"))
    assert [item.label for item in source] == [76, 0]
    assert len(source.classes) == 102

    aircraft = tmp_path / "fgvc-aircraft-2013b" / "data"
    folder_of(aircraft / "images", "0001.jpg", mode="RGB")
    written(aircraft / "variants.txt", b"A310\n747-100\n")
    written(aircraft / "images_variant_test.txt", b"0001 747-100\n")
    source = pickled(open_source(f"torchvision:FGVCAircraft:{tmp_path}", split="test"))
    assert [(item.key, item.label) for item in source] == [("fgvc-aircraft-2013b/data/images/0001.jpg", 1)]

    dtd = tmp_path / "dtd" / "dtd"
    folder_of(dtd / "images", "dotted/dotted_1.jpg", mode="RGB")
    written(dtd / "labels" / "train1.txt", b"dotted/dotted_1.jpg\n")
    assert [item.key for item in open_source(f"torchvision:DTD:{tmp_path}")] == ["dtd/dtd/images/dotted/dotted_1.jpg"]

    food = folder_of(tmp_path / "food-101", "images/pie/1.jpg", mode="RGB")
    written(food / "meta" / "train.json", b'{"pie": ["pie/1"]}')
    source = open_source(f"torchvision:Food101:{tmp_path}")
    assert [(item.key, item.label) for item in source] == [("food-101/images/pie/1.jpg", 0)]


def test_cifar_and_image_folders_of_torchvision_are_read_here(tmp_path: Path) -> None:
    rows = cifar10(tmp_path / "cifar-10-batches-py")
    source = open_source(f"torchvision:CIFAR10:{tmp_path}")
    assert same_image(source.items[3], rows[3])
    written(tmp_path / "cifar-10-batches-py" / "test_batch", pickle.dumps({"data": Wants(os.system, f"touch {tmp_path}/ran")}))
    with pytest.raises(ValueError, match="which is refused"):
        open_source(f"torchvision:CIFAR10:{tmp_path}", split="test")
    assert not (tmp_path / "ran").exists()
    root = folder_of(tmp_path / "pets", "cat/1.png", "dog/1.png")
    assert open_source(f"torchvision:ImageFolder:{root}").fingerprint == open_source(str(root)).fingerprint


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("torchvision:LSUN:ROOT", None, "give torchvision:NAME:ROOT with NAME one of CIFAR10, "),
        ("torchvision:MNIST", None, "give torchvision:NAME:ROOT"),
        ("torchvision:MNIST:ROOT/nowhere", None, "nowhere is no folder"),
        ("torchvision:MNIST:ROOT", None, "torchvision cannot read it .*not found"),
        ("torchvision:MNIST:ROOT", "val", "has no split 'val'; it has train, test"),
        ("torchvision:ImageFolder:ROOT", "val", "has no split 'val'; it has none"),
        ("torchvision:CIFAR100:ROOT", None, "cifar-100-python: no such folder"),
        ("torchvision:SVHN:ROOT", None, "torchvision cannot read it .*not found or corrupted"),
    ],
)
def test_what_torchvision_cannot_read_is_one_line(tmp_path: Path, name: str, split: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_source(name.replace("ROOT", str(tmp_path)), split=split)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []  # nothing is downloaded


def test_a_damaged_mnist_is_one_line(tmp_path: Path) -> None:
    fashion(tmp_path)
    file = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    written(file, file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"torchvision:FashionMNIST:.*: torchvision cannot read it"):
        open_source(f"torchvision:FashionMNIST:{tmp_path}")
