"""Beside each shard the index of its members, so that a sample is one `pread` and no tar is parsed while training."""

import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bigan.data.manifest import VERSION, ShardEntry, checked, parsed, sha256_of

_MEMBER_NAME = re.compile(r"(?P<key>(?:[^/]+/)*[^/.]+)\.(?P<extension>[^/]+)")  # webdataset splits at the first dot, too
_BLOCK = tarfile.BLOCKSIZE
_ABSENT = (-1, 0, 0)


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """Where the members of one shard lie.

    Attributes:
        shard: the shard's file name.
        keys: the samples' keys, in the shard's order.
        members: extension → [samples, 3] int64, (offset, size, CRC-32) of that member's content, in bytes;
            (-1, 0, 0) where a sample has none.
    """

    shard: str
    keys: tuple[str, ...]
    members: Mapping[str, NDArray[np.int64]]

    def dump(self) -> bytes:
        """The content of the index file: a column an extension, so that a million samples parse in seconds."""
        members = {extension: self.members[extension].tolist() for extension in sorted(self.members)}
        document = {"version": VERSION, "shard": self.shard, "keys": list(self.keys), "members": members}
        return (json.dumps(document, separators=(",", ":")) + "\n").encode()

    @classmethod
    def build(cls, path: Path) -> "ShardIndex":
        """Walk a tar's headers; ValueError naming the file and the member where it is broken, hostile or cut short."""
        rows: dict[str, dict[str, tuple[int, int, int]]] = {}
        end, last = 0, None
        try:
            with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.isdir():  # which `tar cf x.tar folder` writes
                        end = max(end, member.offset_data)
                        continue
                    key, extension = _split_name(path, member)
                    # A key that comes back later would be two samples to webdataset, and one to a dict.
                    if extension in rows.get(key, {}) or (key in rows and key != last):
                        raise ValueError(f"{path}: {member.name!r} comes twice")
                    crc = _crc32(file, member.offset_data, member.size)
                    rows.setdefault(key, {})[extension] = (member.offset_data, member.size, crc)
                    end, last = member.offset_data + -(-member.size // _BLOCK) * _BLOCK, key
                _check_end(path, file, end)
        except Exception as error:  # what tarfile raises on hostile headers is of every kind
            if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
                raise
            raise ValueError(f"{path}: is no whole tar file ({' '.join(str(error).split())[:200]})") from error
        if not rows:
            raise ValueError(f"{path}: holds no samples")
        extensions = sorted({extension for row in rows.values() for extension in row})
        tables = {name: np.array([row.get(name, _ABSENT) for row in rows.values()], dtype=np.int64) for name in extensions}
        return cls(path.name, tuple(rows), tables)

    @classmethod
    def parse(cls, content: bytes, entry: ShardEntry, where: str) -> "ShardIndex":
        """Read an index file's content, if it is the one the manifest means; ValueError beginning with `where`."""
        if hashlib.sha256(content).hexdigest() != entry.index_sha256:
            raise ValueError(f"{where}: its SHA-256 is not the manifest's; copy it again, or delete it and it is made anew")
        try:
            index = _index(parsed(content, where), entry)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{where}: broken ({error}); pack the data set again") from error
        if len(index.keys) != entry.samples:
            raise ValueError(f"{where}: has {len(index.keys)} samples, the manifest says {entry.samples}")
        return index

    @classmethod
    def load(cls, folder: Path, entry: ShardEntry) -> "ShardIndex":
        """Read the index beside a shard; where there is none, walk the shard, if its bytes are still the manifest's.

        Raises:
            ValueError: naming the file.
        """
        path, shard = folder / entry.index_name, folder / entry.name
        try:
            return cls.parse(path.read_bytes(), entry, str(path))
        except FileNotFoundError:
            if sha256_of(shard) != entry.sha256:
                raise ValueError(f"{shard}: its SHA-256 is not the manifest's; copy or pack it again") from None
            return cls.parse(cls.build(shard).dump(), entry, str(shard))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


def _index(document: Mapping[str, Any], entry: ShardEntry) -> ShardIndex:
    if document.get("version") != VERSION or document.get("shard") != entry.name:
        raise ValueError(f"is version {document.get('version')!r} for {document.get('shard')!r}")
    keys = checked(document, "keys", list)
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("keys must be strings")
    tables = {}
    for extension, rows in checked(document, "members", dict).items():
        table = np.array(rows, dtype=np.int64)
        if table.shape != (len(keys), 3):
            raise ValueError(f"members.{extension} has shape {table.shape} for {len(keys)} keys")
        present = table[table[:, 0] != -1]
        if (present < 0).any() or (present[:, 0] > entry.bytes).any() or (present[:, 1] > entry.bytes - present[:, 0]).any():
            raise ValueError(f"members.{extension} points outside the shard")
        tables[extension] = table
    return ShardIndex(entry.name, tuple(keys), tables)


def _split_name(path: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    """(key, extension) of a member; links, devices, sparse files and names that lead out of a folder are refused."""
    match = _MEMBER_NAME.fullmatch(member.name)
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        raise ValueError(f"{path}: {member.name!r} is no plain file")
    if not match or ".." in member.name.split("/") or "\\" in member.name or not member.name.isprintable():
        raise ValueError(f"{path}: {member.name!r} is no name of the form KEY.EXTENSION")
    return match["key"], match["extension"].lower()


def _crc32(file: BinaryIO, offset: int, size: int) -> int:
    """Of a member's content, which may be large; tarfile seeks before it reads, so the file's position is ours to move."""
    file.seek(offset)
    crc = 0
    while size > 0:
        piece = file.read(min(size, 2**20))
        if not piece:
            raise EOFError("ends within a member")
        crc, size = zlib.crc32(piece, crc), size - len(piece)
    return crc


def _check_end(path: Path, file: BinaryIO, end: int) -> None:
    """A tar that was cut between two members reads well to the cut: only the two zero blocks at its end tell it is whole."""
    file.seek(end)
    tail = file.read(4 * tarfile.RECORDSIZE + 1)
    if len(tail) < 2 * _BLOCK or len(tail) > 4 * tarfile.RECORDSIZE or any(tail):
        raise ValueError(f"{path}: does not end as a tar file after its last member; it was cut short or damaged")
