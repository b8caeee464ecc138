"""What a packed folder holds: `manifest.json`, the root of all trust in it.

A folder is `manifest.json`, `shard-000000.tar`, `shard-000000.index.json`, … The tars are plain webdataset shards; the
indices say where each member's bytes lie and what their CRC-32 is, and the manifest holds the SHA-256 of both.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bigan.spec import DataSpec

MANIFEST = "manifest.json"
VERSION = 2
MAX_BYTES = 2**30  # of a manifest or an index
MAX_SHARD_SAMPLES = 2**24
MAX_SAMPLES = 10**9

_FORMAT = "bigan shards"
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """What the manifest says of one shard: file name, samples in it, length in bytes, SHA-256 of the file and of its index."""

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str

    @property
    def index_name(self) -> str:
        """The index's file name, beside the shard."""
        return self.name.removesuffix(".tar") + ".index.json"

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "ShardEntry":
        """Read one row of the manifest, every value checked; ValueError, KeyError or TypeError naming the field."""
        entry = cls(
            name=checked(row, "name", str), samples=checked(row, "samples", int), bytes=checked(row, "bytes", int),
            sha256=checked(row, "sha256", str), index_sha256=checked(row, "index_sha256", str),
        )  # fmt: skip
        if not _SHARD_NAME.fullmatch(entry.name):
            raise ValueError(f"shards: {entry.name!r} is no shard's name")
        if entry.samples * 512 > entry.bytes or entry.samples > MAX_SHARD_SAMPLES:
            raise ValueError(f"shards: {entry.name} cannot hold {entry.samples} samples")
        for name in ("sha256", "index_sha256"):
            if not _SHA256.fullmatch(getattr(entry, name)):
                raise ValueError(f"shards: {entry.name} has no {name}")
        return entry


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A packed data set.

    Attributes:
        spec: what every sample has, and how many there are.
        source: where it came from, in words (no path).
        request: SHA-256 over the settings of the packing and the listing of its source.
        skipped: how many files of the source could not be read, or are not read by their suffix; `skipped.txt` lists them.
        shuffled: whether the packing dealt the samples out to the shards at random.
        ignored: extensions of members that are not read, in shards that others wrote.
        shards: in reading order.
    """

    spec: DataSpec
    source: str
    request: str
    skipped: int
    shuffled: bool
    ignored: tuple[str, ...] = ()
    shards: tuple[ShardEntry, ...] = ()

    def dump(self) -> bytes:
        """The content of manifest.json; equal manifests give equal bytes."""
        document = {"format": _FORMAT, "version": VERSION, **self.spec.plain(), **asdict(self)}
        del document["spec"]
        return (json.dumps(document, indent=1) + "\n").encode()

    @property
    def sha256(self) -> str:
        """What a checkpoint keeps, to know the data again."""
        return hashlib.sha256(self.dump()).hexdigest()

    @classmethod
    def parse(cls, content: bytes, where: str) -> "Manifest":
        """Read a manifest's content, every value checked, since it may come from anyone; ValueError beginning with `where`."""
        document = parsed(content, where)
        if document.get("format") != _FORMAT or document.get("version") != VERSION:
            found = f"{document.get('format')!r} version {document.get('version')!r}"
            raise ValueError(f"{where}: is {found}, this bigan reads {_FORMAT!r} version {VERSION}; pack it again")
        try:
            spec = DataSpec.of(document)
            shards = tuple(ShardEntry.of(row) for row in checked(document, "shards", list))
            if spec.samples != sum(shard.samples for shard in shards) or min(shard.samples for shard in shards) < 1:
                raise ValueError(f"samples: {spec.samples}, the shards' sum is {sum(shard.samples for shard in shards)}")
            if spec.samples > MAX_SAMPLES:
                raise ValueError(f"samples: {spec.samples}, at most {MAX_SAMPLES}")
            if len({shard.name for shard in shards}) < len(shards):
                raise ValueError("shards: a name comes twice")
            return cls(
                spec=spec, shards=shards, source=checked(document, "source", str),
                request=checked(document, "request", str), skipped=checked(document, "skipped", int),
                shuffled=checked(document, "shuffled", bool), ignored=tuple(map(str, checked(document, "ignored", list))),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{where}: broken at {error}; pack the data set again") from error

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read a folder's manifest; ValueError naming the file where there is none or it cannot be understood."""
        path = folder / MANIFEST
        # os.path answers False where pathlib lets a PermissionError through.
        if not os.path.isdir(folder):
            what = (
                "is a file; give the folder that `bigan pack` made"
                if os.path.exists(folder)
                else "no such folder, or closed to you"
            )
            raise ValueError(f"{folder}: {what}")
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise ValueError(
                f"{folder}: has no {MANIFEST}; make a data set with `bigan pack SOURCE {folder}`, "
                f"or, where it holds webdataset shards, `bigan index {folder}`"
            ) from error
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
        return cls.parse(content, str(path))


def verify(folder: Path) -> Manifest:
    """Check that a folder's manifest is whole and every shard is there with its length; reads no shard.

    Raises:
        ValueError: naming the file that is not as it should be.
    """
    manifest = Manifest.load(folder)
    for entry in manifest.shards:
        if problem := missing(folder, entry):
            raise ValueError(problem)
    return manifest


def missing(folder: Path, entry: ShardEntry) -> str | None:
    """What is wrong with a shard, as far as the file system tells without reading it; None where it has its length."""
    path = folder / entry.name
    if not os.path.isfile(path):
        return f"{path}: missing; copy it again or pack the data set again"
    size = os.path.getsize(path)
    if size != entry.bytes:
        return f"{path}: has {size} bytes, the manifest says {entry.bytes}; copy or pack it again"
    return None


def parsed(content: bytes, where: str) -> dict[str, Any]:
    """A JSON object; ValueError beginning with `where`."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise ValueError(f"{where}: is no JSON object")
    return document


def checked(row: Any, name: str, kind: type) -> Any:
    """The value of a field, if it is of this type and, where a number, not negative; KeyError or TypeError otherwise."""
    value = row[name]
    if type(value) is not kind or (kind is int and not 0 <= value < 2**62):
        raise TypeError(f"{name}: {value!r}")
    return value


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; ValueError naming it where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
