"""Write one shard: a plain webdataset tar whose bytes depend on its items and the settings alone.

By the standard library's tarfile, since webdataset's own writer imports torch, which takes seconds in every process.
"""

import errno
import io
import json
import math
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from bigan.data.fit import GREY_MODES, Encoding, only_bombs_are_heard
from bigan.data.sources import Item
from bigan.data.unfinished import Skipped, Unfinished, shard_name
from bigan.files import temporary
from bigan.spec import DataSpec

# What the system says of a file itself. Anything else, such as a network that fails, is no reason to leave it out: the same
# request would not give the same bytes.
_OF_THE_FILE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL,
    errno.ENXIO,
}  # fmt: skip
_EXACT = 2**53
_FLOAT32_MAX = 3.4028234663852886e38


class ColourError(ValueError):
    """A colour image in a set that was taken for grey."""


class ReadError(ValueError):
    """An item could not be read for a reason that is not its own; another time it may."""


class ShardJob(NamedTuple):
    """A shard to be written: its number, and its items with their numbers in the listing."""

    shard: int
    items: list[tuple[int, Item]]


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes shards of one data set. It pickles, and is called in many processes.

    Attributes:
        work: where.
        spec: what each sample is to have.
        encoding: how images are stored.
        grey_only: whether a colour image is an error.
    """

    work: Unfinished
    spec: DataSpec
    encoding: Encoding
    grey_only: bool

    def __call__(self, job: ShardJob, tick: Callable[[int], None]) -> None:
        """Write a shard, unless it is there and whole.

        Args:
            job: what is to be in it.
            tick: called with how many more items were looked at.

        Raises:
            ColourError: an image is in colour, and none is to be.
            ReadError: an item cannot be read now.
            OSError: the shard cannot be written.
        """
        done = self.work.read(job.shard)
        if done is not None and self.work.whole(done):
            tick(len(job.items))
            return
        self.work.forget(job.shard)
        with temporary(self.work.folder / shard_name(job.shard)) as path:
            with only_bombs_are_heard():
                samples, skipped = self._write(path, job, tick)
            self.work.keep(job.shard, path if samples > 0 else None, skipped)

    def _write(self, path: Path, job: ShardJob, tick: Callable[[int], None]) -> tuple[int, tuple[Skipped, ...]]:
        """The number of samples in the tar, and the items that are not."""
        skipped = []
        with path.open("xb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for number, item in job.items:
                    try:
                        for extension, content in self._members(item).items():
                            tar.addfile(_head(f"{number:08d}.{extension}", len(content)), io.BytesIO(content))
                    except _UnfitError as error:
                        skipped.append(Skipped(number, printable(item.key), str(error)))
                    tick(1)
            file.flush()
            os.fsync(file.fileno())  # the rename that publishes the shard must not overtake its content
        return len(job.items) - len(skipped), tuple(skipped)

    def _members(self, item: Item) -> Mapping[str, bytes]:
        """Extension → content; _UnfitError if the item is to be left out."""
        try:
            images = self._images(item)
            colour = any(image.mode not in GREY_MODES for image in images.values())
            members = {name: self.encoding.encode(image) for name, image in images.items()} | self._notes(item)
        except Exception as error:  # Pillow's decoders raise all sorts on broken files
            if isinstance(error, MemoryError):
                raise ReadError(f"{item.key}: not enough memory to read it; take fewer --workers") from error
            if isinstance(error, OSError) and error.errno is not None and error.errno not in _OF_THE_FILE:
                raise ReadError(
                    f"{item.key}: cannot be read ({error.strerror}); try again later, or take the file away"
                ) from error
            raise _UnfitError(_reason(error)) from error
        if colour and self.grey_only:
            raise ColourError(
                f"{item.key}: is in colour, the first images are grey; say which is meant: --grey or --rgb (channels=1 or 3)"
            )
        return members

    def _images(self, item: Item) -> dict[str, Image.Image]:
        """Extension → image; ValueError if they are not the data set's."""
        names = [f"{image.name}." for image in self.spec.more_images]
        if len(item.more) != len(names):
            raise ValueError(f"has {len(item.more)} further images of {len(names)}")
        return {
            f"{name}{self.encoding.format}": load() for name, load in zip(["", *names], [item.load, *item.more], strict=True)
        }

    def _notes(self, item: Item) -> dict[str, bytes]:
        """What is stored beside an image; ValueError if it is not as the data set's."""
        notes = {}
        if self.spec.classes:
            if item.label is None or not 0 <= item.label < len(self.spec.classes):
                raise ValueError(f"its label is {item.label}, of {len(self.spec.classes)} classes")
            notes["cls"] = str(item.label).encode()
        if names := self.spec.attributes:
            values = item.attributes or ()
            if len(values) != len(names):
                raise ValueError(f"has {len(values)} attributes of {len(names)}")
            numbers = {name: _number(name, value) for name, value in zip(names, values, strict=True)}
            notes["json"] = json.dumps(numbers).encode()
        if self.spec.caption_bytes:
            if item.caption is None:
                raise ValueError("has no caption")
            if "\0" in item.caption:  # the end of a text, to who reads it
                raise ValueError("its caption holds a zero byte")
            notes["txt"] = item.caption.encode()
        return notes


class _UnfitError(Exception):
    """An item is left out."""


def _number(name: str, value: float) -> float:
    if not abs(value) <= _FLOAT32_MAX:
        raise ValueError(f"its attribute {name} is {value}, no number that float32 holds")
    return int(value) if value == math.floor(value) and abs(value) < _EXACT else float(value)


def _head(name: str, size: int) -> tarfile.TarInfo:
    head = tarfile.TarInfo(name)
    head.size, head.mode, head.uname, head.gname = size, 0o444, "bigan", "bigan"  # no time, no user of this machine
    return head


def _reason(error: Exception) -> str:
    """One line without paths or addresses, so that skipped.txt is the same each time."""
    if isinstance(error, UnidentifiedImageError):
        return "is no image that Pillow knows"
    if isinstance(error, UnicodeEncodeError):
        return "its caption is no text that UTF-8 can hold"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(str(error) or type(error).__name__)


def printable(text: str) -> str:
    """A name or reason on one line."""
    return text if text.isprintable() else repr(text)
