"""Tiny data sets in the formats in which the real ones are published, and what every source must do."""

import io
import json
import pickle
import struct
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bigan.data.sources import Item, Source

from .pictures import image, written


def png(seed: int, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    image(seed, mode=mode).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(item: Item) -> np.ndarray:
    return np.asarray(item.load())


def is_picture(item: Item, seed: int, mode: str = "L") -> bool:
    return bool((pixels(item) == np.asarray(image(seed, mode=mode))).all())


def pickled(source: Source, most: int = 600) -> Source:
    """The source with items as another process gets them, each at most so many bytes."""
    for item in source:
        copy = pickle.loads(pickle.dumps(item))
        assert copy[:1] + copy[2:] == item[:1] + item[2:]
        assert (pixels(copy) == pixels(item)).all()
        assert len(pickle.dumps(item)) <= most
    return source


def tar_of(path: Path, members: Mapping[str, bytes], *, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # pyright: ignore
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples_of(count: int = 6, first: int = 0) -> dict[str, bytes]:
    """Members as webdataset writes them."""
    members: dict[str, bytes] = {}
    for number in range(first, first + count):
        members[f"{number:04d}.png"] = png(number)
        members[f"{number:04d}.cls"] = str(number % 3).encode()
        members[f"{number:04d}.json"] = json.dumps({"Smiling": number % 2, "age": number / 4, "url": "https://"}).encode()
        members[f"{number:04d}.txt"] = f"a größe {number}\n".encode()
    return members


class Wants:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


# CIFAR


def cifar_rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def python2_pickle(**entries: object) -> bytes:
    """A dict as cPickle of Python 2 writes it, with arrays as numpy does there."""

    def text(value: str | bytes) -> bytes:
        value = value.encode() if isinstance(value, str) else value
        return b"T" + struct.pack("<i", len(value)) + value

    def put(value: object) -> bytes:
        if isinstance(value, str | bytes):
            return text(value)
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        if isinstance(value, list):
            return b"](" + b"".join(map(put, value)) + b"e"
        assert isinstance(value, np.ndarray)
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        shape = b"(" + b"".join(map(put, value.shape)) + b"t"
        return empty + b"(K\x01" + shape + dtype + b"\x89" + text(value.tobytes()) + b"tb"

    return b"\x80\x02}(" + b"".join(text(key) + put(value) for key, value in entries.items()) + b"u."


def cifar10(folder: Path, *, each: int = 2) -> np.ndarray:
    """CIFAR-10 for Python, with `each` images a batch; the training images [N, 3072], whose labels are 0, 1, …, 9, 0, …."""
    train = cifar_rows(5 * each, seed=1)
    for batch in range(5):
        rows = train[batch * each : (batch + 1) * each]
        labels = [(batch * each + row) % 10 for row in range(each)]
        names = [f"{label}.png" for label in labels]
        content = python2_pickle(batch_label="training batch", labels=labels, data=rows, filenames=names)
        written(folder / f"data_batch_{batch + 1}", content)
    written(folder / "test_batch", python2_pickle(labels=[9] * each, data=cifar_rows(each, seed=2)))
    written(folder / "batches.meta", python2_pickle(num_cases_per_batch=each, label_names=[f"c{n}" for n in range(10)]))
    written(folder / "readme.html", b"<html>")
    return train


def cifar100(folder: Path, count: int = 4) -> np.ndarray:
    rows = cifar_rows(count, seed=3)
    fine, coarse = list(range(90, 90 + count)), [1] * count
    for name in ("train", "test"):
        written(folder / name, python2_pickle(coarse_labels=coarse, fine_labels=fine, data=rows))
    written(folder / "meta", python2_pickle(fine_label_names=[f"f{n}" for n in range(100)], coarse_label_names=["x"] * 20))
    return rows


def cifar_binary(folder: Path, *, fine: bool) -> np.ndarray:
    """CIFAR-100 where `fine`, else CIFAR-10."""
    rows = cifar_rows(5, seed=4)
    labels = np.arange(5, dtype=np.uint8)[:, None]
    content = np.hstack([*([labels + 3] if fine else []), labels, rows])
    if fine:
        written(folder / "train.bin", content.tobytes())
        written(folder / "fine_label_names.txt", "".join(f"f{n}\n" for n in range(100)).encode())
    else:
        for batch in range(5):
            written(folder / f"data_batch_{batch + 1}.bin", content[batch].tobytes())
        written(folder / "batches.meta.txt", "".join(f"c{n}\n" for n in range(10)).encode() + b"\n")
    return rows


# CelebA


def attribute_list(names: Sequence[str], attributes: Sequence[str] = ("Bald", "Smiling", "Young")) -> bytes:
    """Image number n has attribute a where bit a of n is set."""
    rows = [[" 1" if number >> bit & 1 else "-1" for bit in range(len(attributes))] for number in range(len(names))]
    lines = [f"{name}  {' '.join(row)}" for name, row in zip(names, rows, strict=True)]
    return "\n".join([str(len(names)), " ".join(attributes) + " ", *lines, ""]).encode()


def celeba(root: Path, count: int = 6) -> Path:
    names = [f"{number + 1:06d}.jpg" for number in range(count)]
    for seed, name in enumerate(names):
        written(root / "img_align_celeba" / name, png(seed, "RGB"))
    written(root / "list_attr_celeba.txt", attribute_list(names))
    written(root / "identity_CelebA.txt", "".join(f"{name} 7\n" for name in names).encode())
    parts = "".join(f"{name} {0 if number < count - 2 else number - count + 3}\n" for number, name in enumerate(names))
    written(root / "list_eval_partition.txt", parts.encode())
    return root


def celeba_hq(root: Path, count: int = 12) -> Path:
    for seed in range(count):
        written(root / "CelebA-HQ-img" / f"{seed}.jpg", png(seed, "RGB"))
    written(root / "CelebAMask-HQ-attribute-anno.txt", attribute_list([f"{number}.jpg" for number in range(count)]))
    return root


def same_image(item: Item, array: np.ndarray) -> bool:
    """Whether the item is the array [H, W], [H, W, 3], or a row of 3072 channel values as CIFAR has them."""
    expected = array.reshape(3, 32, 32).transpose(1, 2, 0) if array.ndim == 1 else array
    loaded = item.load()
    assert isinstance(loaded, Image.Image)
    return bool((np.asarray(loaded) == expected).all())
