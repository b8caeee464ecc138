"""Data sets that torchvision knows, already on disk: `torchvision:NAME:ROOT`. Nothing is downloaded.

The files at ROOT are read by torchvision's own code: trust them as you trust what you install. It checks most of them
against their published checksums. CIFAR's pickles are not left to it: they are read as `cifar` reads them.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bigan.data.sources.base import Item, Source, arrays, fingerprint, one_line, open_image
from bigan.data.sources.cifar import open_cifar
from bigan.data.sources.tree import file_size, open_folder

PREFIX = "torchvision:"


class _Set(NamedTuple):
    """What a class of torchvision has: its splits (the first is the default) as arguments, and where images and labels are.

    `images` is an array of all pixels, or the files' paths.
    """

    splits: Mapping[str, Mapping[str, object]]
    images: str
    labels: str


def _named(*splits: str) -> Mapping[str, Mapping[str, object]]:
    return {split: {"split": split} for split in splits}


_FLAG = {"train": {"train": True}, "test": {"train": False}}
_SETS = {
    "MNIST": _Set(_FLAG, "data", "targets"),
    "FashionMNIST": _Set(_FLAG, "data", "targets"),
    "KMNIST": _Set(_FLAG, "data", "targets"),
    "SVHN": _Set(_named("train", "test", "extra"), "data", "labels"),
    "STL10": _Set(_named("train", "test", "unlabeled"), "data", "labels"),
    "Flowers102": _Set(_named("train", "val", "test"), "_image_files", "_labels"),
    "OxfordIIITPet": _Set(_named("trainval", "test"), "_images", "_labels"),
    "Food101": _Set(_named("train", "test"), "_image_files", "_labels"),
    "DTD": _Set(_named("train", "val", "test"), "_image_files", "_labels"),
    "FGVCAircraft": _Set(_named("train", "val", "trainval", "test"), "_image_files", "_labels"),
}
_CIFAR = {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}


def open_torchvision(name: str, split: str | None) -> Source:
    """A data set of torchvision on disk.

    Args:
        name: "torchvision:NAME:ROOT"; ROOT is what torchvision calls so.
        split: one of the set's own, or None for its first: "train" ("trainval" of OxfordIIITPet).

    Raises:
        ValueError: the set is not among those that are read, has no such split, or is not at ROOT.
    """
    kind, _, root = name.removeprefix(PREFIX).partition(":")
    known = [*_CIFAR, "ImageFolder", *_SETS]
    if kind not in known or not root:
        raise ValueError(f"{name}: give {PREFIX}NAME:ROOT with NAME one of {', '.join(known)}")
    if not os.path.isdir(root):
        raise ValueError(f"{name}: {root} is no folder")
    if kind in _CIFAR:
        return _cifar(Path(root) / _CIFAR[kind], split)
    splits = _SETS[kind].splits if kind in _SETS else {}
    chosen = split or next(iter(splits), None)
    if chosen is not None and chosen not in splits:
        raise ValueError(f"{name}: has no split {chosen!r}; it has {', '.join(splits) or 'none'}")
    if chosen is None:
        return open_folder(Path(root))
    dataset = _dataset(name, kind, root, splits[chosen])
    return _source(f"torchvision {kind} {chosen}", dataset, _SETS[kind], Path(root))


def _cifar(folder: Path, split: str | None) -> Source:
    if not os.path.isdir(folder):
        raise ValueError(f"{folder}: no such folder; unpack the archive there")
    return open_cifar(folder, split)


def _dataset(name: str, kind: str, root: str, arguments: Mapping[str, object]) -> Any:
    from torchvision import datasets  # it imports torch, which takes seconds

    try:
        return getattr(datasets, kind)(root, download=False, **arguments)
    except Exception as error:  # readers of old formats raise all sorts on damaged files
        raise ValueError(f"{name}: torchvision cannot read it ({one_line(error)}); nothing is downloaded") from error


def _source(description: str, dataset: Any, of: _Set, root: Path) -> Source:
    images, labels = getattr(dataset, of.images), [int(label) for label in np.ravel(getattr(dataset, of.labels))]
    classes = _classes(getattr(dataset, "classes", None), labels)  # SVHN has none, STL-10 only with its file of names
    if isinstance(images, list):
        files = [str(file) for file in images]
        keys = [os.path.relpath(file, root) for file in files]
        sizes = [str(file_size(Path(file))) for file in files]
        loads = [partial(open_image, os.path.abspath(file)) for file in files]
        return Source(
            description=description,
            items=[Item(*row) for row in zip(keys, loads, labels, strict=True)],
            classes=classes,
            fingerprint=fingerprint([*keys, *sizes, *map(str, labels), *classes]),
        )
    pixels = np.asarray(images)
    if pixels.ndim == 4:
        pixels = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    return arrays(description, pixels, np.array(labels, dtype=np.int64), classes)


def _classes(names: Sequence[str] | None, labels: Sequence[int]) -> tuple[str, ...]:
    """Names of the classes, none where the labels are torchvision's -1 for unknown."""
    if max(labels, default=-1) < 0:
        return ()
    return tuple(names) if names is not None else tuple(str(label) for label in range(max(labels) + 1))
