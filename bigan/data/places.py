"""Where packed shards lie: a folder, or a URL whose shards come whole into a verified cache."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import Protocol, final

from bigan.data.cache import ShardCache
from bigan.data.faults import SampleError
from bigan.data.fetch import RETRIES, fetch_bytes, joined, shown
from bigan.data.index import ShardIndex
from bigan.data.manifest import MANIFEST, MAX_BYTES, Manifest, ShardEntry, missing

OPEN_SHARDS = 256  # files a stream keeps open; the usual limit of a process is 1024


class Place(Protocol):
    """Where a data set lies."""

    def manifest(self) -> Manifest:
        """Read the manifest; ValueError naming what is wrong."""
        ...

    def missing(self, entry: ShardEntry) -> str | None:
        """What is wrong with a shard, as far as it can be told without reading it."""
        ...

    def again(self, entry: ShardEntry) -> None:
        """Its bytes were wrong: what is opened next must not be the same copy, if there is another."""
        ...

    def index(self, entry: ShardEntry) -> ShardIndex:
        """The index of a shard; ValueError if it is not the one the manifest means."""
        ...

    def open(self, entry: ShardEntry) -> int:
        """A descriptor of the shard, the caller's to close; OSError or ValueError."""
        ...

    def name(self, entry: ShardEntry) -> str:
        """The shard's name in errors."""
        ...

    def ahead(self, entries: Sequence[ShardEntry]) -> None:
        """These shards are read soon; returns at once."""
        ...

    def close(self) -> None:
        """End what works in the background; whatever waits for it fails."""
        ...


@final
class Folder:
    """A folder of this machine's file systems."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def manifest(self) -> Manifest:
        """See `Manifest.load`."""
        return Manifest.load(self._path)

    def missing(self, entry: ShardEntry) -> str | None:
        """See `missing`."""
        return missing(self._path, entry)

    def again(self, entry: ShardEntry) -> None:
        """There is no other copy; a network file system may give other bytes when it is asked again."""

    def index(self, entry: ShardEntry) -> ShardIndex:
        """See `ShardIndex.load`; SampleError, since that shard's samples cannot be used."""
        try:
            return ShardIndex.load(self._path, entry)
        except ValueError as error:
            raise SampleError("index", str(error)) from error

    def open(self, entry: ShardEntry) -> int:
        """The file itself; OSError."""
        return os.open(self._path / entry.name, os.O_RDONLY | os.O_CLOEXEC)

    def name(self, entry: ShardEntry) -> str:
        """Its path."""
        return str(self._path / entry.name)

    def ahead(self, entries: Sequence[ShardEntry]) -> None:
        """Nothing: the kernel reads ahead."""

    def close(self) -> None:
        """Nothing."""


@final
class Remote:
    """A URL, shards of which are fetched whole before they are read."""

    def __init__(self, url: str, cache: ShardCache) -> None:
        self._url, self._cache = url, cache
        self._stopped = Event()

    def manifest(self) -> Manifest:
        """Fetch and check the manifest."""
        url = joined(self._url, MANIFEST)
        return Manifest.parse(self._fetched(url, json.loads), shown(url))

    def missing(self, entry: ShardEntry) -> str | None:
        """Nothing is known of it before it is fetched."""
        return None

    def again(self, entry: ShardEntry) -> None:
        """The copy in the cache is thrown away."""
        self._cache.discard(entry.sha256)

    def index(self, entry: ShardEntry) -> ShardIndex:
        """Fetch and check an index."""
        url = joined(self._url, entry.index_name)

        def check(content: bytes) -> None:
            if hashlib.sha256(content).hexdigest() != entry.index_sha256:
                raise ValueError("its SHA-256 is not the manifest's")

        return ShardIndex.parse(self._fetched(url, check), entry, shown(url))

    def open(self, entry: ShardEntry) -> int:
        """From the cache; ValueError if it cannot be fetched."""
        return self._cache.open(joined(self._url, entry.name), entry.bytes, entry.sha256)

    def name(self, entry: ShardEntry) -> str:
        """Its URL, without credentials."""
        return shown(joined(self._url, entry.name))

    def ahead(self, entries: Sequence[ShardEntry]) -> None:
        """Fetch in the background."""
        self._cache.ahead([(joined(self._url, entry.name), entry.bytes, entry.sha256) for entry in entries])

    def close(self) -> None:
        """End all fetching."""
        self._stopped.set()
        self._cache.close()

    def _fetched(self, url: str, check: Callable[[bytes], object]) -> bytes:
        return fetch_bytes(url, limit=MAX_BYTES, policy=RETRIES, check=check, stopped=self._stopped)


@final
class File:
    """An open file that closes when its last user lets go of it: eviction cannot close it under a thread that reads."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


@final
class OpenFiles:
    """The open shards of a place, those opened first closed beyond OPEN_SHARDS. Threads may share it."""

    def __init__(self, open_shard: Callable[[ShardEntry], int]) -> None:
        self._open_shard = open_shard
        self._open: dict[str, File] = {}
        self._lock = Lock()

    def read(self, entry: ShardEntry, offset: int, size: int) -> bytes:
        """Some bytes of a shard.

        Raises:
            SampleError: "unreadable" or "cut".
            ValueError: if the shard cannot be fetched.
        """
        try:
            file = self.file(entry)  # held by name: it closes with its last reference
            data = os.pread(file.descriptor, size, offset)
        except OSError as error:
            raise SampleError("unreadable", f": cannot be read ({error.strerror})") from error
        if len(data) != size:
            raise SampleError("cut", ": the shard ends within this sample; copy or pack it again")
        return data

    def file(self, entry: ShardEntry) -> "File":
        """The open file of a shard, for its descriptor while it is held; OSError, or ValueError if it cannot be fetched."""
        return self._open.get(entry.name) or self._opened(entry)

    def forget(self, entry: ShardEntry) -> None:
        """Open this shard anew when it is read next."""
        with self._lock:
            self._open.pop(entry.name, None)

    def close(self) -> None:
        """Close them all, those that are being read when that is done."""
        with self._lock:
            self._open.clear()

    def _opened(self, entry: ShardEntry) -> File:
        opened = File(self._open_shard(entry))  # outside the lock, for it may be fetched; of two at once, one is closed again
        with self._lock:
            file = self._open.setdefault(entry.name, opened)
            while len(self._open) > OPEN_SHARDS:
                del self._open[next(iter(self._open))]
            return file
