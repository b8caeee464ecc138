"""The room of a cache: who is evicted, and disks that refuse."""

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from bigan.data.cache import ShardCache
from bigan.data.lock import try_lock

from .cached import QUICK, SHARDS, SIZE, file, names, read, sha256
from .http_server import (
    FaultyServer,
)


def age(folder: Path, path: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder / sha256(path)[:2] / sha256(path), (then, then))


def test_the_least_recently_used_make_room(server: FaultyServer, small_cache: ShardCache, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    foreign = [folder / "notes.txt", folder / "ab" / "thesis.tar", folder / "papers" / ("0" * 64)]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine" * SIZE)

    def present() -> set[str]:
        return {path for path in SHARDS if sha256(path) in names(folder)}

    os.close(small_cache.open(*file(server, "/a")))
    held = small_cache.open(*file(server, "/b"))
    age(folder, "/a", 200)
    age(folder, "/b", 100)
    os.close(small_cache.open(*file(server, "/a")))  # now it is the younger one
    os.close(small_cache.open(*file(server, "/c")))
    assert present() == {"/a", "/c"}
    assert read(held) == SHARDS["/b"]  # who has it open reads on
    age(folder, "/c", 30)  # use within a minute is not written down
    os.close(small_cache.open(*file(server, "/c")))
    os.close(small_cache.open(*file(server, "/d")))
    assert present() == {"/a", "/d"}
    assert all(path.exists() for path in foreign)
    with ShardCache(folder, SIZE, QUICK) as smaller:
        os.close(smaller.open(*file(server, "/b")))
    assert present() == {"/b"}


def test_a_shard_that_cannot_fit(server: FaultyServer, small_cache: ShardCache, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/a: 300000 bytes do not fit the cache .+/cache of 250000; make it larger$"):
        small_cache.open(server.url("/a?token"), 3 * SIZE, sha256("/a"))
    with pytest.raises(ValueError, match="a cache of 0 bytes holds nothing"):
        ShardCache(tmp_path, 0)
    assert not server.asked


# Disks


def test_a_folder_that_cannot_be(server: FaultyServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^/proc/bigan: cannot be written \(.+\); free some space, or choose another folder"):
        ShardCache("/proc/bigan", SIZE)
    (tmp_path / sha256("/a")[:2]).write_bytes(b"in the way")
    with ShardCache(tmp_path, SIZE, QUICK) as cache:
        with pytest.raises(ValueError, match=rf"^{tmp_path}: cannot be (written|read) \(.+\)"):
            cache.open(*file(server, "/a"))
    assert not server.asked


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk(
    call: str, server: FaultyServer, small_cache: ShardCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def written(descriptor: int, data: bytes) -> int:
        return full() or 0 if len(data) > 1000 else write(descriptor, data)  # asyncio wakes itself by a byte

    monkeypatch.setattr(os, call, written if call == "write" else full)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/cache: cannot be written \(No space left on device\); free some space"):
        small_cache.open(*file(server, "/a"))
    assert server.asked["/a"] == 1  # no other attempt would help
    assert names(tmp_path / "cache") == []


def test_what_cannot_be_evicted(
    server: FaultyServer, small_cache: ShardCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/a", "/b"):
        os.close(small_cache.open(*file(server, path)))
    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(ValueError, match=r"/cache: holds 200000 bytes that cannot be removed; delete them, or choose another"):
        small_cache.open(*file(server, "/c"))


def denied(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


# Locks


def test_a_lock_whose_file_is_taken_away_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder ends between the open and the lock of the next one."""
    path, flock = tmp_path / "lock", fcntl.flock
    first = try_lock(path)
    assert first is not None
    assert try_lock(path) is None

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.__exit__()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    second = try_lock(path)
    assert second is not None
    with second:
        assert try_lock(path) is None
    assert not path.exists()
