"""Remote shards on the local disk: fetched once, verified, shared by all processes, and evicted when room is needed.

fsspec's own caches neither verify what came nor keep to a size.
"""

import contextlib
import hashlib
import os
import re
import threading
import weakref
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self, final

from bigan.data.fetch import RETRIES, RetryPolicy, UnfitError, persist, pour, shown
from bigan.data.lock import FileLock
from bigan.data.store import Store

AHEAD_THREADS = 2  # one connection seldom fills a line; many take it from the other ranks

_SHA256 = re.compile(r"[0-9a-f]{64}")
_POLL_S = 0.05


@final
class ShardCache:
    """Files by SHA-256 in a folder that several runs, ranks and data sets may share. Its methods may be called by any thread.

    Users who share one need a common group and `umask 002`. Where the file system has no locks it goes without: then
    several processes may fetch the same file, each for itself, and the limit is kept only roughly.

    A fork's child may go on with it; what the parent was fetching stays the parent's.
    """

    def __init__(self, folder: str | Path, limit_bytes: int, policy: RetryPolicy = RETRIES) -> None:
        """Make the folder, if it is not there.

        Args:
            folder: where the files lie; what the cache did not make itself it leaves alone.
            limit_bytes: of all files together, those under way included; what was evicted under a reader takes its room
                until the reader closes it.
            policy: of the retries.

        Raises:
            ValueError: the folder cannot be made.
        """
        if limit_bytes < 1:
            raise ValueError(f"{folder}: a cache of {limit_bytes} bytes holds nothing; make it larger")
        self._store = Store(Path(folder).expanduser(), limit_bytes)
        self._policy = policy
        self._begin()
        _caches.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, url: str, size: int, sha256: str) -> int:
        """A descriptor to read the file by, which the caller closes; fetched first where it is not there.

        A descriptor and no path, since a file may be evicted at any time, and stays readable to who has it open.

        Args:
            url: where to fetch it; one that `is_remote`.
            size: its length in bytes.
            sha256: of its content, in lower-case hexadecimal.

        Raises:
            ValueError: it cannot be fetched, cannot be stored, or is larger than the cache; in one line.
            CancelledError: the cache was closed meanwhile.
        """
        if not _SHA256.fullmatch(sha256):  # it becomes a path
            raise ValueError(f"{shown(url)}: {sha256[:80]!r} is no SHA-256 in lower-case hexadecimal")
        if not 0 <= size <= self._store.limit:
            raise ValueError(
                f"{shown(url)}: {size} bytes do not fit the cache {self._store.folder} of {self._store.limit}; make it larger"
            )
        while True:
            descriptor = self._store.open(sha256, size)
            if descriptor is not None:
                return descriptor
            mine: Future[None] = Future()
            with self._guard:
                flight = self._flights.setdefault(sha256, mine)
            if flight is mine:
                return self._fly(mine, url, size, sha256)
            flight.result()  # another thread's attempts were ours, too, and so is its error

    def ahead(self, files: Iterable[tuple[str, int, str]]) -> None:
        """Fetch (url, size, sha256) in the background, in this order; drops what an earlier call asked for and was not begun.

        An error is told by the `open` that comes for the file, which tries again. Files beyond the cache's size are left
        out, since they would push out the first ones.
        """
        room = self._store.limit
        with self._guard:
            for task in self._scheduled:
                task.cancel()
            self._scheduled.clear()
            for url, size, sha256 in files:
                room -= size
                if room < 0:
                    break
                self._scheduled.append(self._pool.submit(self._look_ahead, url, size, sha256))

    def discard(self, sha256: str) -> None:
        """Forget a file, so that the next `open` fetches it again: for a reader that finds it damaged on the disk."""
        self._store.discard(sha256)

    def close(self) -> None:
        """End the fetches that are under way, and what waits for them. Nothing may be asked of the cache afterwards."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self) -> None:
        self._guard = threading.Lock()
        self._flights: dict[str, Future[None]] = {}
        self._scheduled: list[Future[None]] = []
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(AHEAD_THREADS, thread_name_prefix="bigan-fetch")

    def _look_ahead(self, url: str, size: int, sha256: str) -> None:
        with contextlib.suppress(ValueError, CancelledError):
            os.close(self.open(url, size, sha256))

    def _fly(self, flight: "Future[None]", url: str, size: int, sha256: str) -> int:
        """Fetch for all threads of this process that wait for `flight`."""
        error: Exception | None = None
        try:
            return self._fetch(url, size, sha256)
        except Exception as caught:
            error = caught
            raise
        finally:  # on a Ctrl-C the others try by themselves
            with self._guard:
                del self._flights[sha256]
            if error is None:
                flight.set_result(None)
            else:
                flight.set_exception(error)

    def _fetch(self, url: str, size: int, sha256: str) -> int:
        """Fetch, unless another process does, and then wait for that one."""
        while True:
            lock = self._store.lock(sha256)
            if lock is not None:
                with lock:
                    descriptor = self._store.open(sha256, size)  # again: another process may have brought it
                    return self._download(url, size, sha256, lock) if descriptor is None else descriptor
            self._pause()
            descriptor = self._store.open(sha256, size)
            if descriptor is not None:
                return descriptor

    def _download(self, url: str, size: int, sha256: str, lock: FileLock) -> int:
        while (part := self._store.reserve(sha256, size, lock)) is None:
            self._pause()
        try:
            with self._store.told(), part.open("r+b", buffering=0) as file:
                persist(url, lambda: self._receive(file.fileno(), url, size, sha256), self._policy, self._stopped)
                os.fsync(file.fileno())  # the name must not overtake the content
            return self._store.publish(part, sha256)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def _receive(self, descriptor: int, url: str, size: int, sha256: str) -> None:
        """One attempt, from the file's beginning."""
        digest = hashlib.sha256()
        os.lseek(descriptor, 0, os.SEEK_SET)

        def write(piece: bytes) -> None:
            digest.update(piece)
            rest = memoryview(piece)
            with self._store.told():
                while rest:
                    rest = rest[os.write(descriptor, rest) :]

        received = pour(url, write, limit=size, stall_s=self._policy.stall_s, stopped=self._stopped)
        if received != size:
            raise UnfitError(f"ended after {received} of {size} bytes")
        if digest.hexdigest() != sha256:
            raise UnfitError(f"its SHA-256 is {digest.hexdigest()}, and should be {sha256}")

    def _pause(self) -> None:
        if self._stopped.wait(_POLL_S):
            raise CancelledError


_caches: "weakref.WeakSet[ShardCache]" = weakref.WeakSet()


def _renew() -> None:
    """In a fork's child, where the parent's threads and what they hold are no more."""
    for cache in _caches:
        cache._begin()


os.register_at_fork(after_in_child=_renew)
