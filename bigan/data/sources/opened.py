"""An open archive for each process: a file handle that is shared over a fork would be moved by both sides."""

import os
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Generic, TypeVar

Opened = TypeVar("Opened")


class PerProcess(Generic[Opened]):
    """Opens a file when it is first asked for in a process, and keeps the last few open.

    A file that was exchanged meanwhile is opened anew.
    """

    def __init__(self, opener: Callable[[str], Opened], kept: int = 4) -> None:
        self._get = lru_cache(maxsize=kept)(lambda path, _of: opener(path))

    def __call__(self, path: str) -> Opened:
        """The open file; raises what `opener` raises."""
        return self._get(path, file_identity(path))


def file_identity(path: str) -> Hashable:
    """Equal as long as it is the same process and the same file with the same content."""
    status = os.stat(path)
    return os.getpid(), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
