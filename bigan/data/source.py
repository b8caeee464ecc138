"""Read what a user has: a folder or zip of images, MNIST-style idx files, or the word `digits`. Nothing is unpacked to disk."""

import gzip
import hashlib
import io
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bigan.data.index import MANIFEST
from bigan.data.publish import OURS

# Of a file with several frames (.gif, .webp, .tif) the first is taken.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm"})
MAX_IMAGE_BYTES = 2**28  # of one file in a zip: its header may promise anything

_IDX_IMAGES = re.compile(r"(?P<split>.+)-images[-.]idx3-ubyte(?:\.gz)?")
_JUNK = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_SPLIT_NAMES = frozenset({"train", "val", "valid", "validation", "test"})

Load = Callable[[], Image.Image]


class Item(NamedTuple):
    """One image of a source: its name there, a function that reads it, and its class number (None without classes)."""

    key: str
    load: Load
    label: int | None


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is to be packed; iterating gives `Item`s in a fixed order.

    Attributes:
        description: kind and name, without a path, so that it may stand in a manifest.
        items: sorted by name (folder, zip) or in the file's order (idx, digits).
        classes: names of the classes, in the order of the labels; empty where there are none.
        others: files of a folder or zip that are not read, by their suffix; without hidden ones and those of operating systems.
        fingerprint: SHA-256 over names, labels and sizes or checksums. Times are left out: a copied folder is the same source.
    """

    description: str
    items: Sequence[Item]
    classes: tuple[str, ...]
    fingerprint: str
    others: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


def open_source(path_or_name: str, *, split: str | None = None, limit: int | None = None) -> Source:
    """List what a source holds; images are read only when an item is loaded.

    Args:
        path_or_name: a folder or a zip (sub-folder = class, or all images flat = no classes; a single folder around
            everything is no class), a folder with idx files or the images file itself, or the word "digits".
        split: of idx files: "train" (the default), "t10k", ….
        limit: take only so many images, spread evenly over the source so that every class keeps its share.

    Raises:
        ValueError: naming the path, and what to do.
    """
    path = Path(path_or_name)  # asked about through os.path, which answers False where pathlib lets a PermissionError through
    idx = None if path_or_name == "digits" else _find_idx(path, split)
    if split is not None and idx is None:
        raise ValueError(f"{path_or_name}: split {split!r} is for idx files (….-images-idx3-ubyte), and here are none")
    if idx is not None:
        source = _idx(idx)
    elif path_or_name == "digits":
        source = _digits()
    elif os.path.isdir(path):
        source = _folder(path)
    elif os.path.isfile(path) and not os.access(path, os.R_OK):
        raise ValueError(f"{path}: cannot be read (Permission denied)")
    elif os.path.isfile(path) and zipfile.is_zipfile(path):
        source = _zip(path)
    elif os.path.exists(path):
        raise ValueError(f"{path}: is no folder, zip or idx file of images; put single images into a folder and give that")
    else:
        raise ValueError(
            f"{path}: no such folder or file, or closed to you; give a folder or zip of images, idx files, or the word digits"
        )
    return source if limit is None else _limited(source, limit)


def _limited(source: Source, limit: int) -> Source:
    if limit < 1:
        raise ValueError(f"limit: {limit}; at least 1 image must be taken")
    if limit >= len(source):
        return source
    items = [source.items[i * len(source) // limit] for i in range(limit)]
    return replace(source, items=items, fingerprint=_fingerprint([source.fingerprint, str(limit)]))


def _fingerprint(rows: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


# --- folder and zip ---------------------------------------------------------------------------------------------------


def _folder(root: Path) -> Source:
    try:
        files = sorted(_walk(root), key=PurePosixPath)
        names = [name for name in files if _is_image(name)]
        others = [name for name in files if not _is_image(name) and os.path.isfile(root / name)]
        # A link into nowhere stays listed: loading it fails, and the report says so.
        sizes = [os.path.getsize(root / name) if os.path.exists(root / name) else 0 for name in names]
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from error

    def loader(name: str) -> Load:
        return lambda: _open_image(root / name)

    return _tree(root, "folder", names, [str(size) for size in sizes], [loader(name) for name in names], others)


def _walk(root: Path) -> Iterator[str]:
    """The files below a folder, as relative posix paths; links are followed, each folder once.

    Hidden files, what operating systems add, and what `bigan pack` made (`bigan pack . packed`) are left out.
    """

    def fail(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if MANIFEST in files and "shard-000000.tar" in files:
            files = [name for name in files if not OURS.fullmatch(name)]
        subfolders.sort()
        relative = Path(folder).relative_to(root)
        yield from filter(_counts, ((relative / name).as_posix() for name in files))


def _zip(path: Path) -> Source:
    try:
        archive = zipfile.ZipFile(path)  # open as long as a loader refers to it
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read as a zip ({error})") from error
    hostile = next((name for name in archive.namelist() if name.startswith("/") or ".." in name.split("/")), None)
    if hostile is not None:
        raise ValueError(f"{path}: member {hostile!r} leads out of the zip; make the zip anew")
    members = sorted(archive.infolist(), key=lambda info: PurePosixPath(info.filename))
    members = [info for info in members if not info.is_dir() and _counts(info.filename)]
    infos = [info for info in members if _is_image(info.filename)]
    others = [info.filename for info in members if not _is_image(info.filename)]
    if any(info.flag_bits & 1 for info in infos):
        raise ValueError(f"{path}: is encrypted; unpack it and give the folder")

    def loader(info: zipfile.ZipInfo) -> Load:
        def load() -> Image.Image:
            if info.file_size > MAX_IMAGE_BYTES:
                raise ValueError(f"has {info.file_size} bytes, more than {MAX_IMAGE_BYTES}")
            return _open_image(io.BytesIO(archive.read(info)))

        return load

    sums = [f"{info.file_size} {info.CRC}" for info in infos]
    return _tree(path, "zip", [info.filename for info in infos], sums, [loader(info) for info in infos], others)


def _counts(name: str) -> bool:
    """Is it neither hidden nor what operating systems add?"""
    return not any(part.startswith(".") or part.lower() in _JUNK for part in PurePosixPath(name).parts)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _open_image(file: Path | io.BytesIO) -> Image.Image:
    with Image.open(file) as image:
        image.load()
        return image


def _tree(
    root: Path, kind: str, names: Sequence[str], sums: Sequence[str], loaders: Sequence[Load], others: Sequence[str]
) -> Source:
    """A folder's or zip's source: classes from the first folder of each name, below folders that hold everything."""
    if not names:
        raise ValueError(f"{root}: has no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    paths = [PurePosixPath(name).parts for name in names]
    while len(paths[0]) > 1 and all(len(path) > 1 and path[0] == paths[0][0] for path in paths):
        paths = [path[1:] for path in paths]
    loose = next((name for name, path in zip(names, paths, strict=True) if len(path) == 1), None)
    classes = tuple(sorted({path[0] for path in paths if len(path) > 1}))
    if classes and loose is not None:
        raise ValueError(f"{root}: {loose} lies beside class folders ({classes[0]}, …); move it into one of them, or away")
    if len(classes) > 1 and _SPLIT_NAMES.issuperset(classes):
        raise ValueError(f"{root}: {' and '.join(classes)} are splits, not classes; give one of these folders")
    number = {name: label for label, name in enumerate(classes)}
    labels = [number[path[0]] if classes else None for path in paths]
    return Source(
        description=f"{kind} {root.resolve().name}",
        items=[Item(*row) for row in zip(names, loaders, labels, strict=True)],
        classes=classes,
        fingerprint=_fingerprint([*names, *sums, *map(str, labels), *others]),
        others=tuple(others),
    )


# --- arrays: digits and idx -------------------------------------------------------------------------------------------


def _arrays(description: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Source:
    """Grey images [N, H, W] with labels [N]."""

    def loader(row: int) -> Load:
        return lambda: Image.fromarray(images[row])

    width = len(str(len(images) - 1))
    return Source(
        description=description,
        items=[Item(f"{row:0{width}d}", loader(row), int(label)) for row, label in enumerate(labels)],
        classes=tuple(str(label) for label in range(int(labels.max()) + 1)),
        fingerprint=hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest(),
    )


def _digits() -> Source:
    from sklearn.datasets import load_digits  # takes a second, which nobody else should pay

    data, labels = load_digits(return_X_y=True)
    images = np.rint(np.asarray(data).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0 … 16, ink is high
    return _arrays("digits", images, np.asarray(labels, dtype=np.int64))


def _find_idx(path: Path, split: str | None) -> Path | None:
    """The idx images file that is meant, or None where the path is none and holds none."""
    if os.path.isfile(path):
        if "-labels" in path.name and "idx1" in path.name:
            raise ValueError(f"{path}: holds labels; give the images file beside it, or the folder")
        match = _IDX_IMAGES.fullmatch(path.name)
        if match and split not in (None, match["split"]):
            raise ValueError(f"{path}: is split {match['split']!r}; give the folder to choose split {split!r}")
        return path if match else None
    if not os.path.isdir(path):
        return None
    try:
        found = {match["split"]: path / match[0] for name in sorted(os.listdir(path)) if (match := _IDX_IMAGES.fullmatch(name))}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    wanted = split or "train"
    fitting = [file for name, file in found.items() if name == wanted or name.endswith(f"-{wanted}")]
    if found and len(fitting) != 1:
        raise ValueError(f"{path}: split {wanted!r} is not among its idx files; it has {', '.join(found)}")
    return fitting[0] if found else None


def _idx(images_file: Path) -> Source:
    name = images_file.name.replace("-images", "-labels").replace("idx3", "idx1")
    beside = [images_file.with_name(name), images_file.with_name(name + ".gz"), images_file.with_name(name.removesuffix(".gz"))]
    labels_file = next((file for file in beside if os.path.isfile(file)), None)
    if labels_file is None:
        raise ValueError(f"{images_file}: {beside[0].name} is not beside it; put the labels there")
    images, labels = _read_idx(images_file, 3), _read_idx(labels_file, 1)
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(f"{labels_file}: {len(labels)} labels for {len(images)} images of {images_file.name}")
    return _arrays(f"idx {images_file.name.removesuffix('.gz')}", images, labels.astype(np.int64))


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An array of unsigned bytes (LeCun's idx format: 0, 0, type 8, dimensions, then the sizes as big-endian 32 bits)."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            sizes = [int(size) for size in np.frombuffer(file.read(4 * dimensions), dtype=">u4")]
            if magic != bytes([0, 0, 8, dimensions]) or len(sizes) != dimensions:
                raise ValueError(f"{path}: is no idx file of {dimensions} dimensions of bytes")
            content = file.read(math.prod(sizes) + 1)  # one more, so that a longer file is noticed and no more is unpacked
    except (OSError, EOFError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if len(content) != math.prod(sizes):
        raise ValueError(f"{path}: is damaged (its head promises {math.prod(sizes)} bytes); get it anew")
    return np.frombuffer(content, dtype=np.uint8).reshape(sizes)
