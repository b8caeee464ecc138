"""Files that appear whole, or not at all, whenever the process or the machine ends."""

import contextlib
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` that no other process has: of a file to be renamed. It is gone at the end if it is not."""
    name = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):
            name.unlink()


def save(path: Path, content: bytes) -> None:
    """Write a file that appears whole, or not at all."""
    with temporary(path) as name:
        write(name, content)
        os.replace(name, path)


def write(path: Path, content: bytes) -> None:
    """Write a file, down to the disk: the rename that publishes it must not overtake its content."""
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say which
        raise
