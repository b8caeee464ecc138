"""CIFAR-10 and CIFAR-100 as published: the batches for Python and the binary ones, unpacked or in their .tar.gz."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigan.data.sources.base import MAX_IMAGE_BYTES, Source, arrays
from bigan.data.sources.bytepickle import unpickled
from bigan.data.sources.tars import read_members

_PIXELS = 3 * 32 * 32


class _Layout(NamedTuple):
    """One of the four publications.

    Attributes:
        name: of the archive.
        splits: split → its files.
        meta: the file with the names of the classes.
        names: the key of the names in `meta`; empty where it has one in each line.
        labels: the key of the labels in a batch; empty where they are bytes before each image.
        label_bytes: how many those are; the last is the label.
    """

    name: str
    splits: Mapping[str, Sequence[str]]
    meta: str
    names: str = ""
    labels: str = ""
    label_bytes: int = 0


_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_LAYOUTS = (
    _Layout("cifar-10-python", {"train": _TRAIN, "test": ("test_batch",)}, "batches.meta", "label_names", "labels"),
    _Layout("cifar-100-python", {"train": ("train",), "test": ("test",)}, "meta", "fine_label_names", "fine_labels"),
    _Layout(
        "cifar-10-binary",
        {"train": tuple(f"{name}.bin" for name in _TRAIN), "test": ("test_batch.bin",)},
        "batches.meta.txt",
        label_bytes=1,
    ),
    _Layout("cifar-100-binary", {"train": ("train.bin",), "test": ("test.bin",)}, "fine_label_names.txt", label_bytes=2),
)


def is_cifar(path: Path, names: frozenset[str]) -> bool:
    """Whether a folder with these `names`, or an archive of this name, is one of the four publications."""
    return _layout(path, names) is not None


def _layout(path: Path, names: frozenset[str]) -> _Layout | None:
    for layout in _LAYOUTS:
        # A batch alone tells CIFAR-10: its names of classes may be missing, and that is said. CIFAR-100's `train` does not.
        tells = [name for files in layout.splits.values() for name in files if "batch" in name] or [layout.meta]
        if path.name == f"{layout.name}.tar.gz" or any(name in names and os.path.isfile(path / name) for name in tells):
            return layout
    return None


def open_cifar(path: Path, split: str | None) -> Source:
    """A split ("train" unless given, or "test"); of CIFAR-100 the 100 fine classes.

    Raises:
        ValueError: naming the file; it is missing, damaged, or a pickle of anything else.
    """
    layout = _layout(path, frozenset(os.listdir(path) if os.path.isdir(path) else ()))
    assert layout is not None
    split = split or "train"
    if split not in layout.splits:
        raise ValueError(f"{path}: split {split!r} is not among those of CIFAR; it has {', '.join(layout.splits)}")
    files = _read(path, [layout.meta, *layout.splits[split]])
    classes = _classes(path / layout.meta, files.pop(layout.meta), layout)
    batches = [_batch(path / name, content, layout) for name, content in files.items()]
    pixels = np.concatenate([batch[0] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch[1] for batch in batches])
    if not len(labels) or labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"{path}: has no images, or a label that is none of the {len(classes)} classes of {layout.meta}")
    images = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    return arrays(f"{layout.name} {split}", images, labels.astype(np.int64), classes)


def _read(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    if not os.path.isdir(path):
        found = read_members(path, names)
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(f"{path}: has no {missing[0]}; get it anew")
        return {name: found[name] for name in names}
    try:
        large = next((name for name in names if os.path.getsize(path / name) > MAX_IMAGE_BYTES), None)
        if large is not None:
            raise ValueError(f"{path / large}: has more than {MAX_IMAGE_BYTES} bytes; CIFAR's files have less")
        return {name: (path / name).read_bytes() for name in names}
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read ({error.strerror}); unpack the archive anew") from error


def _classes(file: Path, content: bytes, layout: _Layout) -> tuple[str, ...]:
    try:
        names = unpickled(content)[layout.names] if layout.names else content.split()
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: has no names of classes ({error})") from error


def _batch(file: Path, content: bytes, layout: _Layout) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(pixels [N, 3072], labels [N]) of one file."""
    try:
        if layout.label_bytes:
            rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, layout.label_bytes + _PIXELS)
            return rows[:, layout.label_bytes :], rows[:, layout.label_bytes - 1].astype(np.int64)
        document = unpickled(content)
        pixels, labels = document["data"], document[layout.labels]
        if not isinstance(pixels, np.ndarray) or not isinstance(labels, list) or pixels.shape != (len(labels), _PIXELS):
            raise ValueError(f"its data are not {_PIXELS} bytes for each label")
        if not all(type(label) is int for label in labels):
            raise ValueError("its labels are no whole numbers")
        return pixels, np.array(labels, dtype=np.int64)
    except (KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"{file}: is no whole batch of CIFAR ({error})") from error
