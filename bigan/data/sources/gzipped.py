"""Read a gzip file at any place, without unpacking it to disk."""

import bisect
import io
import zlib
from typing import Any, NamedTuple

_READ = 2**16  # compressed bytes at a time
_SPACING = 2**22  # unpacked bytes between two states that are kept; each takes some 50 KB
_MOST_STATES = 1000
_GZIP = 31  # zlib's window bits for a gzip head


class _State(NamedTuple):
    """What it takes to go on from a place: there, the place in the file, and the inflater."""

    position: int
    packed: int
    inflater: Any  # zlib gives its type no name


class SeekableGzip(io.RawIOBase):
    """A gzip file that seeks as a plain file does.

    The way to a place is unpacked once; after that a seek starts from the inflater's state that was kept before it.
    Wrap it into an `io.BufferedReader`. Reading raises EOFError where the file is cut, zlib.error where it is damaged.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  # closed by `close`
        self._now = _State(0, 0, zlib.decompressobj(_GZIP))
        self._states = [_State(0, 0, self._now.inflater.copy())]
        self._spacing = _SPACING

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place in the unpacked bytes."""
        return self._now.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, or to the end where the file ends before it."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end is not known")
        target = offset + (self._now.position if whence == io.SEEK_CUR else 0)
        state = self._states[bisect.bisect_right(self._states, target, key=lambda state: state.position) - 1]
        if not state.position <= self._now.position <= target:
            self._now = state._replace(inflater=state.inflater.copy())
        while self._now.position < target and self._unpacked(min(_READ, target - self._now.position)):
            pass
        return self._now.position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as it goes; 0 at the end."""
        content = self._unpacked(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _unpacked(self, most: int) -> bytes:
        """The next bytes, at most so many; none at the end."""
        while most:
            position, packed, inflater = self._now
            self._file.seek(packed)
            content = self._file.read(_READ)
            if inflater.eof:
                if not content.startswith(b"\x1f\x8b"):  # what follows the last member is padding
                    return b""
                inflater = zlib.decompressobj(_GZIP)
            out = inflater.decompress(content, most)
            if not content and not out:
                raise EOFError("the gzip file is cut short")
            packed += len(content) - len(inflater.unused_data if inflater.eof else inflater.unconsumed_tail)
            self._now = _State(position + len(out), packed, inflater)
            if self._now.position >= self._states[-1].position + self._spacing:
                self._keep()
            if out:
                return out
        return b""

    def _keep(self) -> None:
        self._states.append(self._now._replace(inflater=self._now.inflater.copy()))
        if len(self._states) > _MOST_STATES:
            self._states = self._states[::2]
            self._spacing *= 2
