"""Images in arrays: MNIST-style idx files, and scikit-learn's digits."""

import gzip
import math
import os
import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigan.data.sources.base import Source, arrays

_IMAGES = re.compile(r"(?P<split>.+)-images[-.]idx3-ubyte(?:\.gz)?")


def open_digits() -> Source:
    """scikit-learn's 1,797 digits of 8x8 pixels."""
    from sklearn.datasets import load_digits  # takes a second, which nobody else should pay

    data, labels = load_digits(return_X_y=True)
    images = np.rint(np.asarray(data).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0 … 16, ink is high
    return arrays("digits", images, np.asarray(labels, dtype=np.int64), None)


def is_idx(path: Path, names: frozenset[str]) -> bool:
    """Whether a file is an idx file, or a folder with these `names` has some."""
    return any(_IMAGES.fullmatch(name) for name in names or (path.name,)) or (os.path.isfile(path) and _is_labels(path))


def _is_labels(path: Path) -> bool:
    return "-labels" in path.name and "idx1" in path.name


def open_idx(path: Path, split: str | None) -> Source:
    """The images of an idx file, or of a split ("train" unless given) of a folder of them.

    Raises:
        ValueError: there is no such split, its labels are not there, or a file is damaged.
    """
    images_file = _find(path, split)
    name = images_file.name.replace("-images", "-labels").replace("idx3", "idx1")
    beside = [images_file.with_name(name), images_file.with_name(name + ".gz"), images_file.with_name(name.removesuffix(".gz"))]
    labels_file = next((file for file in beside if os.path.isfile(file)), None)
    if labels_file is None:
        raise ValueError(f"{images_file}: {beside[0].name} is not beside it; put the labels there")
    images, labels = _read(images_file, 3), _read(labels_file, 1)
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(f"{labels_file}: {len(labels)} labels for {len(images)} images of {images_file.name}")
    return arrays(f"idx {images_file.name.removesuffix('.gz')}", images, labels.astype(np.int64), None)


def _find(path: Path, split: str | None) -> Path:
    """The images file that is meant."""
    if not os.path.isdir(path):
        match = _IMAGES.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path}: holds labels; give the images file beside it, or the folder")
        if split not in (None, match["split"]):
            raise ValueError(f"{path}: is split {match['split']!r}; give the folder to choose split {split!r}")
        return path
    found = {match["split"]: path / match[0] for name in sorted(os.listdir(path)) if (match := _IMAGES.fullmatch(name))}
    wanted = split or "train"
    fitting = [file for name, file in found.items() if name == wanted or name.endswith(f"-{wanted}")]
    if len(fitting) != 1:
        raise ValueError(f"{path}: split {wanted!r} is not among its idx files; it has {', '.join(found)}")
    return fitting[0]


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An array of unsigned bytes (LeCun's idx format: 0, 0, type 8, dimensions, then the sizes as big-endian 32 bits)."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            sizes = [int(size) for size in np.frombuffer(file.read(4 * dimensions), dtype=">u4")]
            if magic != bytes([0, 0, 8, dimensions]) or len(sizes) != dimensions:
                raise ValueError(f"{path}: is no idx file of {dimensions} dimensions of bytes")
            content = file.read(math.prod(sizes) + 1)  # one more, so that a longer file is noticed and no more is unpacked
    except (OSError, EOFError, OverflowError, MemoryError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if len(content) != math.prod(sizes):
        raise ValueError(f"{path}: is damaged (its head promises {math.prod(sizes)} bytes); get it anew")
    return np.frombuffer(content, dtype=np.uint8).reshape(sizes)
