"""Put a packed folder in its place: files and folders that appear whole or not at all, and who may write where."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bigan.data.lock import try_lock
from bigan.data.manifest import MANIFEST, Manifest, verify
from bigan.files import save

SKIPPED = "skipped.txt"
REQUEST = "request.json"  # of an unfinished packing
_SHARD = re.compile(r"shard-\d{6,}\.(tar|index\.json)")
_LEFT = re.compile(r"shard-\d{6,}\.done\.json|\..+\.tmp|" + re.escape(REQUEST))  # what a packing needs while it goes on
OURS = re.compile(f"{_SHARD.pattern}|{_LEFT.pattern}|{re.escape(MANIFEST)}|{re.escape(SKIPPED)}")

_FULL = {errno.ENOSPC, errno.EDQUOT}


def without_ours(files: Sequence[str], folders: Sequence[str]) -> list[str]:
    """The files of a folder that no packing made, so that a source may hold the data set that is made of it.

    Args:
        files: names of the files in the folder.
        folders: names of the folders in it.
    """
    packed = REQUEST in files or (MANIFEST in files and any(_SHARD.fullmatch(name) for name in files))
    locks = {f"{name.removesuffix('.incomplete')}.lock" for name in folders}
    return [name for name in files if name not in locks and not (packed and OURS.fullmatch(name))]


@contextmanager
def told(out: Path) -> Iterator[None]:
    """The operating system's errors, in words for the user."""
    try:
        yield
    except OSError as error:
        more = "; make room, and the same command goes on" if error.errno in _FULL else ""
        raise ValueError(f"{out}: cannot be written ({error.strerror}){more}") from error


def beside(out: Path, suffix: str) -> Path:
    """The place beside `out` where a packing works."""
    target = out.resolve()
    return target.with_name(target.name + suffix)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other packings away from `out`, by a lock on OUT.lock, which is gone at the end.

    Raises:
        ValueError: another packing is at work there, or nothing can be written there.
    """
    lock = beside(out, ".lock")
    with told(out):
        lock.parent.mkdir(parents=True, exist_ok=True)
        if lock.is_file() and lock.stat().st_size > 0:  # ours is empty
            raise ValueError(f"{lock}: is in the way; move it away")
        held = try_lock(lock)
    if held is None:
        raise ValueError(f"{out}: another `bigan pack` is writing it; wait for that one, or choose another folder")
    with held:
        yield


def present(out: Path, request: str, *, overwrite: bool = False) -> Manifest | None:
    """The manifest at `out` if it answers the request; None where it is to be written.

    What a packing that was killed at its very end left in there is swept up.

    Raises:
        ValueError: nothing may be written there.
    """
    try:
        names = sorted(os.listdir(out)) if os.path.lexists(out) else []
    except NotADirectoryError as error:
        raise ValueError(f"{out}: is no folder; choose another place") from error
    except OSError as error:
        raise ValueError(f"{out}: cannot be read ({error.strerror})") from error
    if not names:
        return None
    foreign = [name for name in names if not OURS.fullmatch(name)]
    if MANIFEST not in names or (overwrite and foreign):
        raise ValueError(f"{out}: holds more than a packed data set ({[*foreign, *names][0]}); choose another folder")
    if overwrite:
        return None
    try:
        manifest = verify(out)
    except ValueError as error:
        raise ValueError(f"{out}: holds a damaged data set, overwrite it or choose another folder ({error})") from error
    if manifest.request != request:
        raise ValueError(f"{out}: was packed from another source or with other settings; overwrite it or choose another folder")
    _sweep(out)
    return manifest


def put_in_place(folder: Path, out: Path, manifest: Manifest, skipped: bytes, *, overwrite: bool = False) -> None:
    """Make a data set of a folder whose shards are all there, and give it the name `out`.

    Several processes may do so at once, for the same data set: one succeeds. With `overwrite`, only one may, and what stands
    at `out` is moved to OUT.replaced until the new one is there.

    Raises:
        OSError: `out` cannot be written, or another process was faster.
    """
    target, old = out.resolve(), beside(out, ".replaced")
    named = {MANIFEST, SKIPPED} if skipped else {MANIFEST}
    named.update(name for entry in manifest.shards for name in (entry.name, entry.index_name))
    if skipped:
        save(folder / SKIPPED, skipped)
    save(folder / MANIFEST, manifest.dump())
    for name in os.listdir(folder):
        if name not in named and not _LEFT.fullmatch(name):
            (folder / name).unlink(missing_ok=True)  # an earlier packing's
    if overwrite and target.exists() and any(target.iterdir()):
        discard(old)
        os.rename(target, old)
    os.rename(folder, target)
    # It is only now that a slower process can do without them.
    _sweep(target)
    discard(old)


def discard(folder: Path) -> None:
    """Delete a folder of ours, if it is there; ValueError if it is not ours alone."""
    if os.path.lexists(folder):
        refuse_foreign(folder)
        shutil.rmtree(folder)


def refuse_foreign(folder: Path) -> None:
    """ValueError if `folder` is there and not ours alone."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"{folder}: is in the way; move it away")
    foreign = [name for name in os.listdir(folder) if not OURS.fullmatch(name)]
    if foreign:
        raise ValueError(f"{folder}: is in the way and holds {foreign[0]}; move it away")


def _sweep(folder: Path) -> None:
    for name in os.listdir(folder):
        if _LEFT.fullmatch(name):
            with contextlib.suppress(OSError):  # another process sweeps, too, or the data set is not ours to write
                (folder / name).unlink()
