"""Tars of images: of class folders as a zip is, or webdataset's (KEY.jpg beside KEY.cls, KEY.json, KEY.txt)."""

import io
import os
import tarfile
import threading
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from PIL import Image

from bigan.data.manifest import MANIFEST, Manifest
from bigan.data.sources.base import (
    MAX_IMAGE_BYTES,
    Load,
    Source,
    checked_size,
    counts,
    is_image,
    leads_out,
    one_line,
    open_image,
    unreadable,
)
from bigan.data.sources.gzipped import SeekableGzip
from bigan.data.sources.opened import PerProcess
from bigan.data.sources.samples import PLAIN, Notes, Sample, is_note, is_readable_note, key_of, samples
from bigan.data.sources.tree import Listing, tree

_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_COMPRESSED = (".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_END = 2**20  # the zeros at the end are fewer


def is_tars(path: Path, names: frozenset[str]) -> bool:
    """Whether a file is a tar, or a folder with these `names` is one of tars, without images or sub-folders."""
    if names:
        visible = [name for name in names if counts(name)]
        return any(name.endswith(_SUFFIXES) for name in visible) and not any(
            is_image(name) or os.path.isdir(path / name) for name in visible
        )
    if path.name.endswith(_SUFFIXES + _COMPRESSED):
        return True
    with path.open("rb") as file:
        return file.read(262)[257:] == b"ustar"


def open_tars(path: Path) -> Source:
    """The images of a tar, or of all tars of a folder.

    If any image has a .cls, .json or .txt of its name beside it, they are webdataset's samples; else a folder is a class.
    Where the folder was made by `bigan pack`, its manifest has the names of the classes.

    Raises:
        ValueError: a tar is damaged or hostile, or there are no images in them.
    """
    folder = os.path.isdir(path)
    files = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES) and counts(file.name)) if folder else [path]
    images: dict[str, Sample] = {}
    notes: dict[str, Notes] = {}
    others: list[str] = []
    for file in files:
        prefix = f"{file.name}/" if folder else ""
        absolute = os.path.abspath(file)  # one object for all: it is pickled once
        for member, content in _members(file, is_readable_note):
            name = PurePosixPath(member.name).as_posix()
            if prefix + name in images:
                raise ValueError(f"{file}: has two members {name!r}; make the tar anew")
            if is_image(name):
                images[prefix + name] = Sample(prefix + name, name, member.size, _load(absolute, member))
            elif is_note(name):
                notes.setdefault(key_of(prefix + name), Notes()).read(prefix + name, content)
            else:
                others.append(prefix + name)
    if any(key_of(name) in notes for name in images):
        return samples(path, list(images.values()), notes, others, classes=_classes(path) if folder else ())
    names = sorted(images, key=PurePosixPath)
    others += [name for note in notes.values() for name in note.names]
    sums, loads = [str(images[name].size) for name in names], [images[name].load for name in names]
    inner = [images[name].inner for name in names]
    return tree(path, "tar", Listing(names, sums, loads, sorted(others, key=PurePosixPath)), inner)


def read_members(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """The content of a tar's plain files of these names, whatever folder they are in there; ValueError where it is damaged."""

    def is_wanted(member: tarfile.TarInfo) -> bool:
        return PurePosixPath(member.name).name in wanted and member.type in PLAIN and member.size <= MAX_IMAGE_BYTES

    found = {PurePosixPath(member.name).name: content for member, content in _members(path, is_wanted)}
    return {name: content for name, content in found.items() if content is not None}


def _classes(folder: Path) -> tuple[str, ...]:
    ours = os.path.isfile(folder / MANIFEST) and os.path.isfile(folder / "shard-000000.tar")
    return Manifest.load(folder).spec.classes if ours else ()


def _members(path: Path, wanted: Callable[[tarfile.TarInfo], bool]) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """The members of a tar that count, without its folders, and the content of those that are wanted.

    Raises:
        ValueError: the tar is damaged or cut, or a name leads out of it.
    """
    if path.name.endswith(_COMPRESSED):
        raise ValueError(f"{path}: cannot be read at any place; unpack it to a .tar, or compress it with gzip")
    try:
        with _open(str(path)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # pyright: ignore  # a kilobyte each
                if leads_out(member.name):
                    raise ValueError(f"member {member.name!r} leads out of the tar; make the tar anew")
                if not member.isdir() and counts(member.name):
                    content = None
                    if wanted(member):
                        file.seek(member.offset_data)
                        content = file.read(member.size)
                    yield member, content
            # A broken head ends the iteration as the end does: only the zeros there tell that it is whole.
            file.seek(tar.offset)
            tail = file.read(_END)
            if len(tail) < 2 * tarfile.BLOCKSIZE or any(tail):
                raise ValueError("it was cut short or damaged; get it anew")
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as a tar ({one_line(error)})") from error


def _open(path: str) -> BinaryIO:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return io.BufferedReader(SeekableGzip(path)) if zipped else open(path, "rb")


class _Reader:
    """An open tar of one process, for its threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = _open(path)
        self._lock = threading.Lock()

    def __del__(self) -> None:
        self._file.close()  # the cache forgets it some time

    def read(self, offset: int, size: int) -> bytes:
        """A member's content; ValueError where the tar ends before it does."""
        with self._lock:
            self._file.seek(offset)
            content = self._file.read(size)
        if len(content) != size:
            raise ValueError("the tar ends before it")
        return content


_opened = PerProcess(_Reader)


def _load(path: str, member: tarfile.TarInfo) -> Load:
    if member.type not in PLAIN:
        return unreadable("is a link, a device or a sparse file in the tar")
    return partial(_tar_image, path, member.offset_data, member.size)


def _tar_image(path: str, offset: int, size: int) -> Image.Image:
    return open_image(io.BytesIO(_opened(path).read(offset, checked_size(size))))
