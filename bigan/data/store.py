"""The folder of a cache: files named by their SHA-256, and the room that they may take.

    FOLDER/ab/abcdef…                    a whole file
    FOLDER/ab/abcdef….HOST-RANDOM.part   one that is being fetched; its length is the room that it will take
    FOLDER/ab/abcdef….lock               held by who fetches it
    FOLDER/lock                          held while room is made

What is named otherwise is not ours, and left alone.
"""

import contextlib
import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from bigan.data.fetch import StoreError
from bigan.data.lock import FileLock, try_lock

_NAME = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{8}-[0-9a-f]{8}\.part")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_TOUCH_S = 60.0
_DEAD_S = 600.0  # no live fetch goes without a byte for so long


@final
class Store:
    """Files of `limit` bytes together; least recently used ones make room for new ones.

    Every method raises StoreError, naming the folder, where the operating system refuses.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        with self.told():
            folder.mkdir(parents=True, exist_ok=True)

    def open(self, sha256: str, size: int) -> int | None:
        """A descriptor of the whole file, if it is there. It counts as used."""
        try:
            descriptor = os.open(self._path(sha256), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be read ({error.strerror})") from error
        status = os.fstat(descriptor)
        if status.st_size != size:  # the disk's fault, or a wrong manifest: what is fetched takes its place
            os.close(descriptor)
            return None
        if abs(time.time() - status.st_mtime) > _TOUCH_S:
            with contextlib.suppress(OSError):  # another user's, or a folder that is only read
                os.utime(descriptor)
        return descriptor

    def discard(self, sha256: str) -> None:
        """Forget a file; no error where it is not there, or cannot be removed."""
        with contextlib.suppress(OSError):
            self._path(sha256).unlink()

    def lock(self, sha256: str) -> FileLock | None:
        """The right to fetch a file, or None while another thread or process has it."""
        path = self._path(sha256)
        with self.told():
            path.parent.mkdir(exist_ok=True)
            return try_lock(_lock_of(path))

    def reserve(self, sha256: str, size: int, lock: FileLock) -> Path | None:
        """A part of `size` bytes to fetch into, or None where only waiting for other fetches makes room.

        Args:
            sha256: of the file to come.
            size: its length in bytes.
            lock: of that file, held by the caller.
        """
        part = self._path(sha256).with_name(f"{sha256}.{_host()}-{secrets.token_hex(4)}.part")
        with self.told():
            whole = try_lock(self.folder / "lock")
            if whole is None:
                return None
            with whole:
                if not self._make_room(size, sha256, lock):
                    return None
                with part.open("xb") as file:
                    file.truncate(size)
        return part

    def publish(self, part: Path, sha256: str) -> int:
        """Give a part that was verified its name; a descriptor to read it by."""
        with self.told():
            descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)  # at once: it may be evicted as soon as it has its name
            try:
                part.rename(self._path(sha256))
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor

    @contextmanager
    def told(self) -> Iterator[None]:
        """The operating system's errors, in words for the user."""
        try:
            yield
        except OSError as error:
            way_out = "free some space, or choose another folder for the cache"
            raise StoreError(f"{self.folder}: cannot be written ({error.strerror}); {way_out}") from error

    def _make_room(self, size: int, sha256: str, lock: FileLock) -> bool:
        whole: list[tuple[float, int, Path]] = []
        under_way = 0
        for path, status in self._files():
            if _NAME.fullmatch(path.name):
                whole.append((status.st_mtime, status.st_size, path))
            elif not _swept(path, status, lock if path.name.startswith(sha256) else None):
                under_way += status.st_size
        used = under_way + sum(length for _, length, _ in whole)
        for _, length, path in sorted(whole):
            if used + size <= self.limit:
                break
            with contextlib.suppress(PermissionError):  # another user's
                path.unlink(missing_ok=True)
                used -= length
        if used + size > self.limit and not under_way:
            raise StoreError(f"{self.folder}: holds {used} bytes that cannot be removed; delete them, or choose another folder")
        return used + size <= self.limit

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Whole files and parts."""
        with os.scandir(self.folder) as folders:
            found = [folder.path for folder in folders if _FOLDER.fullmatch(folder.name) and folder.is_dir()]
        for folder in found:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _NAME.fullmatch(entry.name) or _PART.fullmatch(entry.name):
                        with contextlib.suppress(FileNotFoundError):  # its process ended it meanwhile
                            yield Path(entry.path), entry.stat(follow_symlinks=False)

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256


def _swept(part: Path, status: os.stat_result, lock: FileLock | None) -> bool:
    """Delete a part whose process has ended. `lock`: its lock, if that is ours; else it is tried."""
    sha256, host, _ = re.split(r"[.-]", part.name, maxsplit=2)
    ours = lock is not None
    lock = lock or try_lock(_lock_of(part.with_name(sha256)))
    if lock is None:
        return False
    with contextlib.nullcontext() if ours else lock:
        # Network file systems may lack locks, or keep them within a host: then only time tells.
        dead = (lock.real and host == _host()) or time.time() - status.st_mtime > _DEAD_S
        if dead:
            part.unlink(missing_ok=True)
        return dead


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
