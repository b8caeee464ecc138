"""Read what a user has: folders, archives, lists and the published layouts of data sets. Nothing is unpacked to disk."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bigan.data.sources.base import Item, Source, limited
from bigan.data.sources.celeba import is_arrays, is_celeba, open_arrays, open_celeba
from bigan.data.sources.cifar import is_cifar, open_cifar
from bigan.data.sources.idx import is_idx, open_digits, open_idx
from bigan.data.sources.pairs import halves as in_halves
from bigan.data.sources.pairs import paired
from bigan.data.sources.parquet import is_parquet, open_parquet
from bigan.data.sources.table import SUFFIXES as TABLES
from bigan.data.sources.table import open_table
from bigan.data.sources.tars import is_tars, open_tars
from bigan.data.sources.torchvision_sets import PREFIX as TORCHVISION
from bigan.data.sources.torchvision_sets import open_torchvision
from bigan.data.sources.tree import open_folder
from bigan.data.sources.zips import open_zip

__all__ = ["Item", "Source", "open_source"]


Open = Callable[[Path, str | None], Source]  # (path, split)


def _whole(opened: Callable[[Path], Source]) -> Open:
    """The opener of a layout without splits."""

    def open_whole(path: Path, split: str | None) -> Source:
        if split is not None:
            raise ValueError(f"{path}: split {split!r} is for sets that come in splits; here are none")
        return opened(path)

    return open_whole


class _Kind(NamedTuple):
    """A layout: whether a path is one (with the names in it, where it is a folder), and how it is opened."""

    fits: Callable[[Path, frozenset[str]], bool]
    open: Open


# The first that fits is taken.
_KINDS = (
    _Kind(is_idx, open_idx),
    _Kind(is_cifar, open_cifar),
    _Kind(is_celeba, open_celeba),
    _Kind(is_arrays, _whole(open_arrays)),
    _Kind(is_parquet, open_parquet),
    _Kind(is_tars, _whole(open_tars)),
    _Kind(lambda path, _: os.path.isdir(path), _whole(open_folder)),
    _Kind(lambda path, _: path.name.lower().endswith(TABLES), _whole(open_table)),
    _Kind(lambda path, _: zipfile.is_zipfile(path), _whole(open_zip)),
)


def open_source(
    path_or_name: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    halves: str | None = None,
    partners: str | None = None,
) -> Source:
    """List what a source holds; images are read only when an item is loaded.

    Args:
        path_or_name: one of

            - a folder, zip, tar or tar.gz of images: sub-folder = class, or all images flat = no classes; a single folder
              around everything is no class;
            - a tar of webdataset's samples, or a folder of such (`tars`);
            - a CSV or TSV file that lists images (`table`);
            - a folder with idx files or the images file itself (`idx`), CIFAR (`cifar`), CelebA and CelebA-HQ (`celeba`),
              all as published;
            - a parquet file, or a folder of a data set of Hugging Face (`parquet`);
            - "torchvision:NAME:ROOT", a data set of torchvision on disk (`torchvision_sets`);
            - the word "digits".
        split: of a set that has some: "train" (mostly the default), "test", "val", "t10k", ….
        limit: take only so many images, spread evenly over the source so that every class keeps its share.
        halves: each image is two, side by side: what the left half is, "images" or "source".
        partners: another source, of the images' partners by name; its split is the same one.

    Raises:
        ValueError: naming the path, and what to do.
    """
    if halves is not None and partners is not None:
        raise ValueError(f"{partners}: the pairs are either halves of one file or of two sources; give --halves or --source")
    source = _opened(path_or_name, split)
    if halves is not None:
        source = in_halves(source, halves)
    if partners is not None:
        source = paired(source, _opened(partners, split))
    return source if limit is None else limited(source, limit)


def _opened(path_or_name: str, split: str | None) -> Source:
    path = Path(path_or_name)
    if path_or_name.startswith(TORCHVISION):
        return open_torchvision(path_or_name, split)
    if path_or_name == "digits":
        return _whole(lambda _: open_digits())(path, split)
    return _opener(path)(path, split)


def _opener(path: Path) -> Open:
    # Asked through os.path, which answers False where pathlib lets a PermissionError through.
    if not os.path.exists(path):
        raise ValueError(
            f"{path}: no such folder or file, or closed to you; give a folder, archive or list of images, or the word digits"
        )
    plain = os.path.isdir(path) or os.path.isfile(path)  # reading a pipe would wait for ever
    try:
        names = frozenset(os.listdir(path) if os.path.isdir(path) else ())
        kind = next((kind for kind in _KINDS if plain and kind.fits(path, names)), None)
    except OSError as error:
        raise ValueError(f"{error.filename or path}: cannot be read ({error.strerror})") from error
    if kind is None:
        raise ValueError(f"{path}: is no folder, zip, tar, CSV, parquet or idx file; put images into a folder and give that")
    return kind.open
