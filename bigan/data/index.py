"""What a packed folder holds: the manifest of the data set, and beside each shard the index of its members.

A folder is `manifest.json`, `shard-000000.tar`, `shard-000000.index.json`, … The tars are plain webdataset shards; the
indices say where each member's bytes lie, so that a sample is one `pread` and no tar is parsed while training.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANIFEST = "manifest.json"
VERSION = 1
MAX_SIDE = 16384  # pixels; a manifest that promises more is broken or hostile

_FORMAT = "bigan shards"
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tar")
_MEMBER_NAME = re.compile(r"(?P<key>(?:[^/]+/)*[^/.]+)\.(?P<extension>[^/]+)")  # webdataset splits at the first dot, too
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """What the manifest says of one shard: file name, samples in it, length in bytes and the SHA-256 of the file."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A packed data set.

    Attributes:
        samples: how many samples all shards have together.
        image_shape: (C, H, W) of every image.
        classes: names of the classes, in the order of the labels; empty where there are none.
        source: where it came from, in words (no path).
        request: SHA-256 over the settings of the packing and the listing of its source.
        skipped: how many files of the source could not be read, or are not read by their suffix; `skipped.txt` lists them.
        shards: in reading order.
    """

    samples: int
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    source: str
    request: str
    skipped: int
    shards: tuple[ShardEntry, ...]

    def dump(self) -> bytes:
        """The content of manifest.json; equal manifests give equal bytes."""
        return (json.dumps({"format": _FORMAT, "version": VERSION, **asdict(self)}, indent=1) + "\n").encode()

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
            document = _parsed(path, path.read_bytes())
        except FileNotFoundError as error:
            raise ValueError(f"{folder}: has no {MANIFEST}; make a data set with `bigan pack SOURCE {folder}`") from error
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
        if document.get("format") != _FORMAT or document.get("version") != VERSION:
            found = f"{document.get('format')!r} version {document.get('version')!r}"
            raise ValueError(f"{path}: is {found}, this bigan reads {_FORMAT!r} version {VERSION}; pack it again")
        try:
            return _manifest(document)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: broken at {error}; pack the data set again") from error


def _manifest(document: Mapping[str, Any]) -> Manifest:
    """Check every value, since a manifest may come from anyone; what is raised names the field."""
    shards = tuple(
        ShardEntry(
            name=_checked(row, "name", str), samples=_checked(row, "samples", int),
            bytes=_checked(row, "bytes", int), sha256=_checked(row, "sha256", str),
        )
        for row in _checked(document, "shards", list)
    )  # fmt: skip
    for shard in shards:
        if not _SHARD_NAME.fullmatch(shard.name):
            raise ValueError(f"shards: {shard.name!r} is no shard's name")
    samples = _checked(document, "samples", int)
    if samples < 1 or samples != sum(shard.samples for shard in shards) or min(shard.samples for shard in shards) < 1:
        raise ValueError(f"samples: {samples}, the shards' sum is {sum(shard.samples for shard in shards)}")
    shape = _checked(document, "image_shape", list)
    if len(shape) != 3 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in shape) or shape[0] not in (1, 3):
        raise ValueError(f"image_shape: {shape}")
    classes = _checked(document, "classes", list)
    if not all(isinstance(name, str) for name in classes):
        raise ValueError("classes: names must be strings")
    return Manifest(
        samples=samples, image_shape=(shape[0], shape[1], shape[2]), classes=tuple(classes), shards=shards,
        source=_checked(document, "source", str), request=_checked(document, "request", str),
        skipped=_checked(document, "skipped", int),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """Where the members of one shard lie.

    Attributes:
        shard: the shard's file name.
        keys: the samples' keys, in the shard's order.
        members: extension → [samples, 2] int64, (offset, size) in bytes of that member's content;
            (-1, 0) where a sample has none.
    """

    shard: str
    keys: tuple[str, ...]
    members: Mapping[str, NDArray[np.int64]]

    def locate(self, sample: int) -> dict[str, tuple[int, int]]:
        """The members of one sample of this shard: extension → (offset, size)."""
        rows = {extension: table[sample] for extension, table in self.members.items()}
        return {extension: (int(row[0]), int(row[1])) for extension, row in rows.items() if row[0] >= 0}

    def dump(self) -> bytes:
        """The content of the index file: a column an extension, so that a million samples parse in seconds."""
        members = {extension: self.members[extension].tolist() for extension in sorted(self.members)}
        document = {"version": VERSION, "shard": self.shard, "keys": list(self.keys), "members": members}
        return (json.dumps(document, separators=(",", ":")) + "\n").encode()

    @classmethod
    def build(cls, path: Path) -> "ShardIndex":
        """Walk a tar's headers; ValueError naming the file and the member where it is broken, hostile or cut short."""
        rows: dict[str, dict[str, tuple[int, int]]] = {}
        end, last = 0, None
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    key, extension = _split_name(path, member)
                    # A key that comes back later would be two samples to webdataset, and one to a dict.
                    if extension in rows.get(key, {}) or (key in rows and key != last):
                        raise ValueError(f"{path}: {member.name!r} comes twice")
                    rows.setdefault(key, {})[extension] = (member.offset_data, member.size)
                    end, last = member.offset_data + -(-member.size // _BLOCK) * _BLOCK, key
        except (tarfile.TarError, OSError) as error:
            raise ValueError(f"{path}: is no whole tar file ({error})") from error
        _check_end(path, end)
        if not rows:
            raise ValueError(f"{path}: holds no samples")
        extensions = sorted({extension for row in rows.values() for extension in row})
        tables = {name: np.array([row.get(name, (-1, 0)) for row in rows.values()], dtype=np.int64) for name in extensions}
        return cls(path.name, tuple(rows), tables)

    @classmethod
    def load(cls, folder: Path, entry: ShardEntry) -> "ShardIndex":
        """Read the index beside a shard, or walk the shard where there is none; ValueError naming the file."""
        path = index_path(folder / entry.name)
        try:
            index = _index(_parsed(path, path.read_bytes()), entry)
        except FileNotFoundError:
            index = cls.build(folder / entry.name)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path}: broken ({error}); delete it and it is made anew from the shard") from error
        if len(index.keys) != entry.samples:
            raise ValueError(f"{folder / entry.name}: has {len(index.keys)} samples, the manifest says {entry.samples}")
        return index


def _index(document: Mapping[str, Any], entry: ShardEntry) -> ShardIndex:
    if document.get("version") != VERSION or document.get("shard") != entry.name:
        raise ValueError(f"is version {document.get('version')!r} for {document.get('shard')!r}")
    keys = _checked(document, "keys", list)
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("keys must be strings")
    tables = {}
    for extension, rows in _checked(document, "members", dict).items():
        table = np.array(rows, dtype=np.int64)
        if table.shape != (len(keys), 2):
            raise ValueError(f"members.{extension} has shape {table.shape} for {len(keys)} keys")
        present = table[table[:, 0] != -1]
        if (present < 0).any() or (present[:, 0] > entry.bytes).any() or (present[:, 1] > entry.bytes - present[:, 0]).any():
            raise ValueError(f"members.{extension} points outside the shard")
        tables[extension] = table
    return ShardIndex(entry.name, tuple(keys), tables)


def verify(folder: Path, *, checksums: bool = False) -> Manifest:
    """Check a packed folder and return its manifest.

    Always: the manifest is whole, every shard is there with its length. With `checksums` every byte is read: each
    shard has its SHA-256, and each index says what the shard's own headers say.

    Raises:
        ValueError: naming the file that is not as it should be.
    """
    manifest = Manifest.load(folder)
    for entry in manifest.shards:
        path = folder / entry.name
        if not os.path.isfile(path):
            raise ValueError(f"{path}: missing; copy it again or pack the data set again")
        size = os.path.getsize(path)
        if size != entry.bytes:
            raise ValueError(f"{path}: has {size} bytes, the manifest says {entry.bytes}; copy or pack it again")
        if checksums and sha256_of(path) != entry.sha256:
            raise ValueError(f"{path}: its SHA-256 is not the manifest's; copy or pack it again")
        if checksums and ShardIndex.load(folder, entry).dump() != ShardIndex.build(path).dump():
            raise ValueError(f"{index_path(path)}: does not describe its shard; delete it and it is made anew")
    return manifest


def index_path(shard: Path) -> Path:
    """The index's place beside its shard."""
    return shard.with_name(shard.name.removesuffix(".tar") + ".index.json")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; ValueError naming it where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


def _split_name(path: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    """(key, extension) of a member; links, devices, sparse files and names that lead out of a folder are refused."""
    match = _MEMBER_NAME.fullmatch(member.name)
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise ValueError(f"{path}: {member.name!r} is no plain file")
    if not match or ".." in member.name.split("/") or "\\" in member.name or not member.name.isprintable():
        raise ValueError(f"{path}: {member.name!r} is no name of the form KEY.EXTENSION")
    return match["key"], match["extension"].lower()


def _check_end(path: Path, end: int) -> None:
    """A tar that was cut between two members reads well to the cut: only the two zero blocks at its end tell it is whole."""
    with path.open("rb") as file:
        file.seek(end)
        tail = file.read(4 * tarfile.RECORDSIZE + 1)
    if len(tail) < 2 * _BLOCK or len(tail) > 4 * tarfile.RECORDSIZE or any(tail):
        raise ValueError(f"{path}: does not end as a tar file after its last member; it was cut short or damaged")


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path}: is no JSON object")
    return document


def _checked(row: Any, name: str, kind: type) -> Any:
    value = row[name]
    if type(value) is not kind or (kind is int and value < 0):
        raise TypeError(f"{name}: {value!r}")
    return value
