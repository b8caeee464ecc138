"""OUT.incomplete: what a packing has finished so far, so that any other process may go on with it.

`request.json` says what is being packed, and `shard-000000.done.json`, written last, that a shard beside it is finished.
"""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, final

from bigan.data.index import ShardIndex
from bigan.data.manifest import VERSION, ShardEntry, missing, parsed, sha256_of
from bigan.data.publish import REQUEST, discard, refuse_foreign
from bigan.files import save, temporary, write

_DONE = re.compile(r"shard-(\d+)\.done\.json")


class Skipped(NamedTuple):
    """An item that is in no shard: its number in the listing, its name in the source, and why."""

    number: int
    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of the items of one shard: the shard, or None where none of them could be read, and those left out."""

    entry: ShardEntry | None
    skipped: tuple[Skipped, ...]

    def dump(self, request: str) -> bytes:
        """The content of the file that says so."""
        entry = self.entry and asdict(self.entry)
        return json.dumps({"version": VERSION, "request": request, "entry": entry, "skipped": self.skipped}).encode()

    @classmethod
    def parse(cls, content: bytes, request: str) -> "Done":
        """Read what `dump` gave; ValueError, KeyError or TypeError if it is damaged or of another request."""
        document = parsed(content, "")
        if (document["version"], document["request"]) != (VERSION, request):
            raise ValueError("of another request")
        entry, skipped = document["entry"], []
        for number, name, reason in document["skipped"]:
            skipped.append(Skipped(int(number), str(name), str(reason)))
        return cls(entry=None if entry is None else ShardEntry.of(entry), skipped=tuple(skipped))


@final
@dataclass(frozen=True)
class Unfinished:
    """The folder of an unfinished packing. Any number of processes may write in it at once, even the same shard.

    Attributes:
        folder: OUT.incomplete.
        request: what is being packed.
    """

    folder: Path
    request: str

    def begin(self, shards: int, made_by: Mapping[str, str], *, overwrite: bool) -> bool:
        """Make the folder, or go on with the one that is there.

        Args:
            shards: how many there are to be.
            made_by: versions of the libraries that decide about the bytes.
            overwrite: discard what is there if it is of another request.

        Returns:
            Whether it was made.

        Raises:
            ValueError: there is something else.
            OSError: it cannot be written.
        """
        refuse_foreign(self.folder)
        if (reason := self._another(made_by)) is not None:
            if not overwrite:
                raise ValueError(f"{self.folder}: is {reason}; delete it (--overwrite does), or choose another folder")
            discard(self.folder)
        created = _made(self.folder)
        path = self.folder / REQUEST
        document = {"version": VERSION, "request": self.request, "shards": shards, "made_by": made_by}
        try:
            with temporary(path) as name:
                write(name, json.dumps(document, indent=1).encode())
                _rename_to_free(name, path)
        except OSError:
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if it is empty
            raise
        if (reason := self._another(made_by)) is not None:  # whoever came first
            raise ValueError(f"{self.folder}: is {reason}; choose another folder")
        return created

    def _another(self, made_by: Mapping[str, str]) -> str | None:
        """What the folder holds, if it is not of this request; None if it is, or there is none yet."""
        path = self.folder / REQUEST
        try:
            document = parsed(path.read_bytes(), str(path))
        except FileNotFoundError:
            return None
        except ValueError:
            return "damaged"
        if (document.get("version"), document.get("request")) != (VERSION, self.request):
            return "an unfinished packing of another source or with other settings"
        if document.get("made_by") != made_by:
            pair = [_named(document.get("made_by")), _named(made_by)]
            return f"an unfinished packing by {pair[0]}, and here is {pair[1]}; finish it there"
        return None

    def read(self, shard: int) -> Done | None:
        """What came of a shard, if it is finished and has its length."""
        try:
            done = Done.parse(self._done(shard).read_bytes(), self.request)
        except (OSError, KeyError, TypeError, ValueError):
            return None
        if done.entry is not None and (done.entry.name != shard_name(shard) or missing(self.folder, done.entry)):
            return None
        return done

    def whole(self, done: Done) -> bool:
        """Whether the bytes of a finished shard are still those that were written."""
        entry = done.entry
        return entry is None or (
            _is(self.folder / entry.name, entry.sha256) and _is(self.folder / entry.index_name, entry.index_sha256)
        )

    def keep(self, shard: int, tar: Path | None, skipped: tuple[Skipped, ...]) -> None:
        """Finish a shard.

        Args:
            shard: its number.
            tar: its file, under a temporary name; None if it has no samples.
            skipped: the items left out.

        Raises:
            OSError: it cannot be written, or the folder is gone.
            ValueError: the folder is now another packing's.
        """
        if parsed((self.folder / REQUEST).read_bytes(), str(self.folder)).get("request") != self.request:
            raise ValueError(f"{self.folder}: is now another packing's")
        if self.read(shard) is not None:
            return  # another process was faster, with the same bytes
        entry = index = None
        name = shard_name(shard)
        if tar is not None:
            read = ShardIndex.build(tar)
            index = ShardIndex(name, read.keys, read.members).dump()
            entry = ShardEntry(
                name=name, samples=len(read.keys), bytes=tar.stat().st_size, sha256=sha256_of(tar),
                index_sha256=sha256(index).hexdigest(),
            )  # fmt: skip
        if tar is not None and entry is not None and index is not None:
            os.replace(tar, self.folder / name)
            save(self.folder / entry.index_name, index)
        save(self._done(shard), Done(entry=entry, skipped=skipped).dump(self.request))

    def forget(self, shard: int) -> None:
        """A shard is to be made anew."""
        self._done(shard).unlink(missing_ok=True)

    def finished(self) -> list[int]:
        """The numbers of the shards that seem to be finished; nothing is read."""
        names = os.listdir(self.folder) if self.folder.is_dir() else ()
        return [int(match[1]) for match in map(_DONE.fullmatch, names) if match]

    def _done(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:06d}.done.json"


def shard_name(shard: int) -> str:
    """The file name of the shard of this number."""
    return f"shard-{shard:06d}.tar"


def _made(folder: Path) -> bool:
    """Make a folder if there is none, and say so."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _rename_to_free(name: Path, path: Path) -> None:
    """Rename, unless there is a file of the new name already."""
    try:
        os.link(name, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.replace(name, path)


def _is(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except ValueError:
        return False


def _named(made_by: Any) -> str:
    return " ".join(f"{name} {version}" for name, version in made_by.items()) if isinstance(made_by, dict) else "others"
