"""The event log: one JSON object a line."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from bigan.files import save


class EventLog:
    """Appends to a file; lines of rounds that a resumed run plays again are dropped first.

    Args:
        path: of the JSONL file.
        round: the round from which the run goes on.
        may_write: asked before each writing; it raises if this process may no longer write there.

    Raises:
        OSError: if it cannot be written.
    """

    def __init__(self, path: Path, round: int, may_write: Callable[[], None]) -> None:
        self._path, self._may_write = path, may_write
        self._waiting: list[bytes] = []
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith(b"\n") and _round(line) <= round]
            if len(kept) < len(lines):
                may_write()
                save(path, b"".join(kept))

    def write(self, event: Mapping[str, float | int]) -> str:
        """Add a line.

        Returns:
            what is wrong, if it cannot be written now: it is then written with the next one; "" otherwise.
        """
        self._waiting.append(json.dumps({key: _short(value) for key, value in event.items()}).encode() + b"\n")
        self._may_write()
        try:
            _append(self._path, b"".join(self._waiting))
        except OSError as error:
            return f"{self._path}: cannot be written ({error.strerror}); the lines are kept until it can"
        self._waiting.clear()
        return ""


def _append(path: Path, content: bytes) -> None:
    """Append all or nothing: half a line would spoil the next one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        before = os.fstat(descriptor).st_size
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def _short(value: float | int) -> float | int | None:
    """Nine digits: more than float32 holds; JSON has no word for what is no number."""
    if isinstance(value, int):
        return value
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _round(line: bytes) -> float:
    """A line's round; a line that a kill cut short counts as of the future."""
    try:
        return float(json.loads(line)["round"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
