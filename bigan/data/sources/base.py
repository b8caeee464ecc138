"""What a source is: items that are cheap to list and to pickle, each with a function that reads its image."""

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Of a file with several frames (.gif, .webp, .tif) the first is taken.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm"})
MAX_IMAGE_BYTES = 2**28  # of one file in an archive: its header may promise anything
MAX_CLASSES = 2**20  # a label above is damage, or an identifier

_JUNK = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})

Load = Callable[[], Image.Image]


class Item(NamedTuple):
    """One image of a source.

    Attributes:
        key: its name there.
        load: reads it; raises what Pillow or the reader of an archive raises. It pickles, and light: a packing hands it to
            other processes. An archive is opened once in each process.
        label: its class number, or None without classes.
        attributes: a number for each name of the source's `attributes`, or None where it has none.
        caption: a text about it, or None where the source has none.
        more: what reads its further images, one for each name of the source's `more`.
    """

    key: str
    load: Load
    label: int | None
    attributes: tuple[float, ...] | None = None
    caption: str | None = None
    more: tuple[Load, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is to be packed; iterating gives `Item`s in a fixed order.

    Attributes:
        description: kind and name, without a path, so that it may stand in a manifest.
        items: sorted by name (folder, zip, tar) or in the file's order (the rest).
        classes: names of the classes, in the order of the labels; empty where there are none.
        attributes: names of the items' attributes, in their order; empty where there are none.
        run: so many items that follow each other are cheap to read together.
        more: names of the items' further images, in their order; empty where there are none.
        others: files of a folder or archive that are not read, by their suffix; without hidden ones and those of operating
            systems.
        fingerprint: SHA-256 over names, labels and sizes or checksums. Times are left out: a copied folder is the same source.
    """

    description: str
    items: Sequence[Item]
    classes: tuple[str, ...]
    fingerprint: str
    attributes: tuple[str, ...] = ()
    run: int = 1
    more: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


def limited(source: Source, limit: int) -> Source:
    """So many items of a source, spread evenly over it; ValueError below 1."""
    if limit < 1:
        raise ValueError(f"limit: {limit}; at least 1 image must be taken")
    if limit >= len(source):
        return source
    items = [source.items[i * len(source) // limit] for i in range(limit)]
    run = max(1, source.run * limit // len(source))
    return replace(source, items=items, run=run, fingerprint=fingerprint([source.fingerprint, str(limit)]))


def fingerprint(rows: Sequence[str]) -> str:
    """SHA-256 over strings, in hexadecimal."""
    return hashlib.sha256("\0".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


def counts(name: str) -> bool:
    """Whether a relative posix path is neither hidden nor what operating systems add."""
    return not any(part.startswith(".") or part.lower() in _JUNK for part in PurePosixPath(name).parts)


def is_image(name: str) -> bool:
    """Whether a file of this name is read as an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def leads_out(name: str) -> bool:
    """Whether a path in an archive or a list is absolute or climbs."""
    return name.startswith("/") or ".." in name.split("/")


def open_image(file: str | io.BytesIO) -> Image.Image:
    """Read an image file, or the bytes of one; raises what Pillow raises, and OSError where it is no regular file."""
    if isinstance(file, str) and os.path.exists(file) and not os.path.isfile(file):
        raise OSError("is no regular file")  # to open a pipe would be to wait for ever
    with Image.open(file) as image:
        image.load()
        return image


def checked_size(size: int) -> int:
    """The bytes of a file in an archive; ValueError where they are more than an image can have."""
    if size > MAX_IMAGE_BYTES:
        raise ValueError(f"has {size} bytes, more than {MAX_IMAGE_BYTES}")
    return size


def unreadable(reason: str) -> Load:
    """The `load` of an item whose fault was seen in the listing: the packing counts it as it counts a broken image."""
    return partial(_refuse, reason)


def complete(item: Item, *, labels: bool, attributes: Sequence[str], captions: bool, fault: str = "") -> Item:
    """The item; where it has a fault, or lacks what the others of its source have, it cannot be loaded.

    A number that is not there is NaN among its attributes.
    """
    faults = [fault] if fault else []
    if labels and item.label is None:
        faults.append("has no label, or one that is none of the classes")
    faults += [f"has no number {name!r}" for name, it in zip(attributes, item.attributes or (), strict=True) if math.isnan(it)]
    if captions and item.caption is None:
        faults.append("has no caption")
    return item._replace(load=unreadable(faults[0])) if faults else item


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)


def one_line(error: Exception) -> str:
    """What a library says of an error, without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def numbered(where: object, values: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """(classes, labels) of a column: whole numbers are labels as they are, anything else is the name of a class.

    Raises:
        ValueError: naming `where`; a number that is no label.
    """
    distinct = set(values)
    if all(value.isascii() and value.isdigit() for value in distinct):
        number = {value: int(value[:20]) for value in distinct}
        most = max(number.values(), default=-1)
        if most >= MAX_CLASSES:
            raise ValueError(f"{where}: label {most} is above {MAX_CLASSES - 1}; give names, or numbers from 0 on")
        names = tuple(str(label) for label in range(most + 1))
    else:
        names = tuple(sorted(distinct))
        number = {name: label for label, name in enumerate(names)}
    return names, [number[value] for value in values]


def arrays(description: str, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...] | None) -> Source:
    """Grey images [N, H, W] or colour images [N, H, W, 3] with labels [N]; without `classes`, they are "0" to the highest."""
    if classes is None:
        classes = tuple(str(label) for label in range(int(labels.max()) + 1))
    width = len(str(len(images) - 1))
    return Source(
        description=description,
        items=[
            # A row is a view here, and by itself once it is pickled.
            Item(f"{row:0{width}d}", partial(_array_image, images[row]), int(label) if classes else None)
            for row, label in enumerate(labels)
        ],
        classes=classes,
        fingerprint=hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest(),
    )


def _array_image(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels)
