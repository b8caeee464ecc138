"""One sample of a shard, from its bytes to a row of a batch, every byte checked."""

import importlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import final

from bigan.data.decode import Decoder, Rows
from bigan.data.faults import SampleError
from bigan.data.index import ShardIndex
from bigan.data.manifest import Manifest, ShardEntry
from bigan.data.places import OpenFiles, Place

KEPT = 256  # shards whose places are kept in memory at least; of a shard of 1,000 samples they take about 0.4 MB

_GAP = 2**16  # bytes; members no farther apart than this are read as one
_PIECE = 5 * 2**10  # bytes; beyond it, zlib lets go of the interpreter's lock
_STORAGE = frozenset({"cut", "changed", "unreadable"})

ReadChecked = Callable[[list[int], list[tuple[tuple[int, int, int], ...]], list[int]], list[bytes | None]]

Sample = tuple[tuple[str, ...], tuple[tuple[int, int, int], ...], int]
"""Extensions of a sample's members in the order in which they lie, (offset, size, CRC-32) of each, and their bytes together;
0 where they lie too far apart to be read as one."""


@dataclass(frozen=True, slots=True)
class _Shard:
    entry: ShardEntry
    keys: tuple[str, ...]
    samples: list[Sample]


@final
class ShardReader:
    """Reads samples of a data set. Threads may share it.

    What runs for each sample is kept short: threads decode without the interpreter's lock, and wait for each other here.

    Args:
        place: where the shards lie.
        manifest: what they hold.
        kept: how many shards' places are kept in memory, KEPT at least.
    """

    def __init__(self, place: Place, manifest: Manifest, kept: int = KEPT) -> None:
        self._place, self._entries, self._ignored = place, manifest.shards, frozenset(manifest.ignored)
        self._decoder = Decoder(manifest.spec)
        self._files = OpenFiles(place.open)
        self._read_checked = compiled()
        self._kept = max(kept, KEPT)
        self._shards: dict[int, _Shard] = {}
        self._broken: dict[int, SampleError] = {}
        self._lock = Lock()

    def fetch(self, places: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """Read some samples, (shard, rank) each, at once: their bytes, checked, for `read`; None where that must see to it.

        Raises:
            SampleError, ValueError: as `read`.
        """
        if self._read_checked is None:
            return [None] * len(places)
        found = [(self._shards.get(shard) or self._load(shard)) for shard, _ in places]
        samples = [shard.samples[rank] for shard, (_, rank) in zip(found, places, strict=True)]
        if not all(length for _, _, length in samples):
            return [None] * len(places)
        files = [self._files.file(shard.entry) for shard in found]  # held by name: they close with their last reference
        return self._read_checked(
            [file.descriptor for file in files], [spans for _, spans, _ in samples], [length for _, _, length in samples]
        )

    def read(self, shard: int, rank: int, into: Rows, row: int, data: bytes | None = None) -> None:
        """Decode the sample of this rank in a shard into row `row` of `into`.

        Args:
            shard: its number.
            rank: of the sample.
            into: name → array.
            row: which row.
            data: what `fetch` gave.

        Raises:
            SampleError: naming the shard and the key, and what is wrong with it.
            ValueError: if the shard cannot be fetched.
        """
        found = self._shards.get(shard) or self._load(shard)
        try:
            try:
                self._read(found.entry, found.samples[rank], into, row, data)
            except SampleError as error:
                if error.kind not in _STORAGE:
                    raise
                # What a disk, a network or a cache gave wrongly once it may give rightly the second time.
                self._files.forget(found.entry)
                self._place.again(found.entry)
                self._read(found.entry, found.samples[rank], into, row)
        except SampleError as error:
            raise SampleError(error.kind, f"{self._place.name(found.entry)}: {found.keys[rank]}{error}") from error

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _read(self, entry: ShardEntry, sample: Sample, into: Rows, row: int, data: bytes | None = None) -> None:
        kinds, spans, length = sample
        fills = self._decoder.fills(kinds)
        first = spans[0][0] if spans else 0
        checked = data is not None
        if data is None:
            data = self._files.read(entry, first, length) if length else b""
        kind = ""
        try:
            for kind, fill, (offset, size, crc) in zip(kinds, fills, spans, strict=True):  # noqa: B007 (told below)
                part = data[offset - first : offset - first + size] if length else self._files.read(entry, offset, size)
                if not checked and _crc32(part) != crc:
                    raise SampleError("changed", "its bytes are not those that were packed; copy or pack it again")
                fill(part, into, row)
        except SampleError as error:
            raise SampleError(error.kind, f".{kind}: {error}") from error

    def _load(self, shard: int) -> _Shard:
        """Load a shard's index when it is first needed; two threads that do so at once load the same."""
        if (error := self._broken.get(shard)) is not None:  # a missing index is made by reading the whole shard: once
            raise SampleError(error.kind, str(error))
        entry = self._entries[shard]
        try:
            index = self._place.index(entry)
        except SampleError as error:
            self._broken[shard] = error
            raise
        found = _Shard(entry, index.keys, _samples(index, self._ignored))
        with self._lock:
            self._shards[shard] = found
            while len(self._shards) > self._kept:
                del self._shards[next(iter(self._shards))]
        return found


def _samples(index: ShardIndex, ignored: frozenset[str]) -> list[Sample]:
    tables = {kind: table.tolist() for kind, table in index.members.items() if kind not in ignored}
    samples: list[Sample] = []
    for rank in range(len(index.keys)):
        members = sorted((tuple(table[rank]), kind) for kind, table in tables.items() if table[rank][0] >= 0)
        spans = tuple(span for span, _ in members)
        length = spans[-1][0] + spans[-1][1] - spans[0][0] if spans else 0
        near = length <= sum(size for _, size, _ in spans) + _GAP
        samples.append((tuple(kind for _, kind in members), spans, length if near else 0))
    return samples


def compiled() -> ReadChecked | None:
    """`bigan._C.read_checked`, or None where bigan was installed without a compiler."""
    try:
        import torch  # noqa: F401 (what the library links)

        return importlib.import_module("bigan._C").read_checked
    except ImportError:
        return None


def _crc32(data: bytes) -> int:
    """zlib's, in pieces so small that it keeps the interpreter's lock: to get it back among threads costs more than they do."""
    crc = 0
    view = memoryview(data)
    for start in range(0, len(data), _PIECE):
        crc = zlib.crc32(view[start : start + _PIECE], crc)
    return crc
