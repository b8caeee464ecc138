"""Put a packed folder in its place: one packing at a time, and a folder that appears whole or not at all."""

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bigan.data.index import MANIFEST

SKIPPED = "skipped.txt"
OURS = re.compile(r"shard-\d{6}\.(tar|index\.json)|" + re.escape(MANIFEST) + "|" + re.escape(SKIPPED))

_CANNOT_LOCK = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other packings away from `out`, by a lock on OUT.lock, which is gone at the end.

    Raises:
        ValueError: another packing is at work there, or nothing can be written there.
    """
    lock = _beside(out, ".lock")
    with _told(out):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(lock, out)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()  # while it is locked: whoever waits with it in hand sees that it is no longer the one
        os.close(descriptor)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A folder to write in, which takes the place of `out` at the end, or vanishes on any error.

    What a killed packing left is swept up: OUT.incomplete at once, OUT.replaced when the new folder is whole, for it
    may hold the only data set there is.
    """
    target, folder, old = out.resolve(), _beside(out, ".incomplete"), _beside(out, ".replaced")
    with _told(out):
        _refuse_foreign(old)
        _discard(folder)
        folder.mkdir()
    try:
        with _told(out):
            yield folder
            if target.exists() and any(target.iterdir()):
                _discard(old)
                os.rename(target, old)
            os.rename(folder, target)
            _discard(old)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _beside(out: Path, suffix: str) -> Path:
    target = out.resolve()
    return target.with_name(target.name + suffix)


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """The operating system's errors, in words for the user."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from error


def _lock(lock: Path, out: Path) -> int:
    """The descriptor of the locked file."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            if os.fstat(descriptor).st_size > 0:  # ours is empty
                raise ValueError(f"{lock}: is in the way; move it away")
            with contextlib.suppress(FileNotFoundError):
                _flock(descriptor)
                if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                    return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise ValueError(
                f"{out}: another `bigan pack` is writing it; wait for that one, or choose another folder"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another packing ended, and took its file away, between our open and our lock


def _flock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:  # some network file systems: then it goes without
            raise


def _discard(folder: Path) -> None:
    """Delete a folder of ours, if it is there."""
    if os.path.lexists(folder):
        _refuse_foreign(folder)
        shutil.rmtree(folder)


def _refuse_foreign(folder: Path) -> None:
    """ValueError if `folder` is there and not ours alone."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"{folder}: is in the way; move it away")
    foreign = [entry.name for entry in folder.iterdir() if not OURS.fullmatch(entry.name)]
    if foreign:
        raise ValueError(f"{folder}: is in the way and holds {foreign[0]}; move it away")
