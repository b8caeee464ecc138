"""Locks between processes and threads, as files that are gone at the end."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Self, final

CANNOT_LOCK = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK})  # some network file systems: then it goes without

_held: set[int] = set()


@final
class FileLock:
    """A lock that is held until it is released, or until its process ends, however it ends.

    Attributes:
        real: False where the file system has no locks, so that others may hold it too.
    """

    def __init__(self, path: Path, descriptor: int, *, real: bool) -> None:
        self.real = real
        self._path = path
        self._descriptor = descriptor
        _held.add(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()  # while it is locked: whoever waits with it in hand sees that it is no longer the one
        _held.discard(self._descriptor)
        os.close(self._descriptor)


def try_lock(path: Path) -> FileLock | None:
    """The lock on the file `path`, which is made, or None while another thread or process has it.

    Raises:
        OSError: the file cannot be made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return FileLock(path, descriptor, real=True)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno in CANNOT_LOCK:
                return FileLock(path, descriptor, real=False)
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder ended, and took the file away, between our open and our lock


def _let_go() -> None:
    """In a fork's child: the locks are the parent's, and must end with it."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
