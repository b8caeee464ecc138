"""CelebA and CelebA-HQ as published.

- CelebA: img_align_celeba/ or img_align_celeba.zip, list_attr_celeba.txt, and for splits list_eval_partition.txt; beside
  each other or in Img/, Anno/ and Eval/. Identities are not read.
- CelebA-HQ with CelebAMask-HQ's attributes: CelebA-HQ-img/ (0.jpg … 29999.jpg) and CelebAMask-HQ-attribute-anno.txt.
- CelebA-HQ as arrays: imgHQ00000.npy, …, each uint8 [1, 3, H, W] or [3, H, W]; without attributes.
"""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from bigan.data.sources.base import Item, Source, checked_size, counts, fingerprint
from bigan.data.sources.tree import file_size, list_folder
from bigan.data.sources.zips import list_zip

_ARRAY = re.compile(r"imgHQ\d+\.npy")
_SPLITS = {"train": "0", "val": "1", "test": "2"}
_VALUES = {"1": 1.0, "-1": 0.0}


class _Layout(NamedTuple):
    """Where a publication has its files; the first that is there is taken."""

    name: str
    attributes: Sequence[str]
    images: Sequence[str]
    partition: Sequence[str]


_LAYOUTS = (
    _Layout(
        "CelebA",
        attributes=("list_attr_celeba.txt", "Anno/list_attr_celeba.txt"),
        images=("img_align_celeba", "Img/img_align_celeba", "img_align_celeba.zip", "Img/img_align_celeba.zip"),
        partition=("list_eval_partition.txt", "Eval/list_eval_partition.txt"),
    ),
    _Layout(
        "CelebA-HQ",
        attributes=("CelebAMask-HQ-attribute-anno.txt",),
        images=("CelebA-HQ-img", "CelebA-HQ-img.zip"),
        partition=(),
    ),
)


def is_celeba(path: Path, names: frozenset[str]) -> bool:
    """Whether a folder with these `names` has the list of attributes of CelebA or CelebA-HQ."""
    return bool(names) and any(_first(path, layout.attributes) for layout in _LAYOUTS)


def _first(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if os.path.exists(root / name)), None)


def open_celeba(root: Path, split: str | None) -> Source:
    """All images in the order of the list of attributes, or those of a split ("train", "val", "test").

    Attributes are 0 and 1, for the −1 and 1 of the list.

    Raises:
        ValueError: naming the file; it is missing or damaged, or the lists and the images are not of each other.
    """
    layout = next(layout for layout in _LAYOUTS if _first(root, layout.attributes))
    listed = _first(root, layout.attributes)
    assert listed is not None
    names, rows = _attributes(listed)
    folder = _first(root, layout.images)
    if folder is None:
        raise ValueError(f"{root}: has {listed.name} and no {layout.images[0]}; put the images there")
    images = list_folder(folder) if os.path.isdir(folder) else list_zip(folder)
    place = {name.rpartition("/")[2]: number for number, name in enumerate(images.names)}
    _compare(listed, rows, folder, place)
    if split is not None:
        rows = _part(root, layout, rows, split)
    items = [Item(name, images.loads[place[name]], None, values) for name, values in rows.items()]
    sums = [images.sums[place[name]] for name in rows]
    return Source(
        description=" ".join([layout.name, *([split] if split else [])]),
        items=items,
        classes=(),
        attributes=names,
        fingerprint=fingerprint([*names, *rows, *sums, *map(str, rows.values()), *images.others]),
        others=tuple(images.others),
    )


def _attributes(file: Path) -> tuple[tuple[str, ...], dict[str, tuple[float, ...]]]:
    """(names, image → values): a count, a line of names, then a line for each image."""
    lines = _lines(file)
    names = tuple(lines[1].split()) if len(lines) > 2 else ()
    if not names or len(set(names)) < len(names) or lines[0].strip() != str(len(lines) - 2):
        raise ValueError(f"{file}: does not begin with the count of its images and a line of names; get it anew")
    rows: dict[str, tuple[float, ...]] = {}
    for number, line in enumerate(lines[2:], 3):
        name, *cells = line.split()
        if len(cells) != len(names) or not _VALUES.keys() >= set(cells) or name in rows:
            raise ValueError(f"{file}: line {number} is not a new image and {len(names)} times 1 or -1; get it anew")
        rows[name] = tuple(_VALUES[cell] for cell in cells)
    return names, rows


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from error


def _compare(listed: Path, rows: dict[str, tuple[float, ...]], folder: Path, place: dict[str, int]) -> None:
    """ValueError unless list and images have the same names."""
    for one, other, few in ((listed, folder, rows.keys() - place.keys()), (folder, listed, place.keys() - rows.keys())):
        if few:
            raise ValueError(f"{one}: has {len(few)} names that {other.name} has not ({min(few)}); they must be of one set")


def _part(root: Path, layout: _Layout, rows: dict[str, tuple[float, ...]], split: str) -> dict[str, tuple[float, ...]]:
    file = _first(root, layout.partition)
    if split not in _SPLITS or file is None:
        way_out = f"needs {layout.partition[0]} for {', '.join(_SPLITS)}" if layout.partition else "has none"
        raise ValueError(f"{root}: has no split {split!r}; {layout.name} {way_out}")
    part: dict[str, str] = {}
    for number, line in enumerate(_lines(file), 1):
        cells = line.split()
        if len(cells) != 2 or cells[1] not in _SPLITS.values():
            raise ValueError(f"{file}: line {number} is not an image and 0, 1 or 2; get it anew")
        part[cells[0]] = cells[1]
    lost = next((name for name in rows if name not in part), None)
    if lost is not None:
        raise ValueError(f"{file}: has no {lost}; get it anew")
    chosen = {name: values for name, values in rows.items() if part[name] == _SPLITS[split]}
    if not chosen:
        raise ValueError(f"{file}: has no images of split {split!r}")
    return chosen


def is_arrays(_path: Path, names: frozenset[str]) -> bool:
    """Whether a folder with these `names` is CelebA-HQ as arrays."""
    return any(_ARRAY.fullmatch(name) for name in names)


def open_arrays(root: Path) -> Source:
    """The arrays of CelebA-HQ in the order of their numbers, without classes."""
    names = sorted(name for name in os.listdir(root) if _ARRAY.fullmatch(name))
    files = (name for name in os.listdir(root) if counts(name) and os.path.isfile(root / name))
    others = sorted(set(files) - set(names))
    sums = [str(file_size(root / name)) for name in names]
    return Source(
        description="CelebA-HQ arrays",
        items=[Item(name, partial(_array_image, os.path.abspath(root / name)), None) for name in names],
        classes=(),
        fingerprint=fingerprint([*names, *sums, *others]),
        others=tuple(others),
    )


def _array_image(path: str) -> Image.Image:
    # Mapped, so that a head that promises more than the file has is refused before memory is taken; no pickles.
    array = np.lib.format.open_memmap(path, mode="r")
    checked_size(array.nbytes)
    pixels = array[0] if array.ndim == 4 and len(array) == 1 else array
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) != 3 or not pixels.size:
        raise ValueError(f"is {array.dtype} {list(array.shape)}, not uint8 [3, H, W]")
    return Image.fromarray(np.array(pixels.transpose(1, 2, 0)))
