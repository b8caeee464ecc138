"""Several processes share a cache, and some of them die."""

import errno
import fcntl
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bigan.data.cache import ShardCache

from .cached import QUICK, SHARDS, SIZE, USE, file, kept, names, read, start
from .http_server import (
    FaultyServer,
    slow,
    stall_half_way,
)


def test_many_at_once_fetch_once(server: FaultyServer, tmp_path: Path) -> None:
    server.plans = {path: [slow] * 9 for path in SHARDS}
    files = [value for path in ("/a", "/b") for value in file(server, path)]
    running = [start(USE, tmp_path / "cache", 4 * SIZE, 4, *files * 2) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    assert server.asked == {"/a": 1, "/b": 1}
    assert kept(tmp_path / "cache") == "ab"
    for process in running:
        process.communicate()


def test_a_killed_fetcher_leaves_nothing_that_blocks(server: FaultyServer, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    server.plans["/a"] = [stall_half_way]
    killed = start(USE, folder, SIZE, 1, *file(server, "/a"))
    assert server.half_way.wait(60)
    while not (parts := [path for path in folder.rglob("*.part") if any(path.read_bytes())]):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert parts[0].stat().st_size == SIZE
    assert len(names(folder)) == 2  # the part and its lock
    with ShardCache(folder, SIZE, QUICK) as cache:
        assert read(cache.open(*file(server, "/b"))) == SHARDS["/b"]  # its room is free again
        assert kept(folder) == "b"
        assert read(cache.open(*file(server, "/a"))) == SHARDS["/a"]
    assert kept(folder) == "a"


def test_the_killed_fetchers_own_shard(server: FaultyServer, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    server.plans["/a"] = [stall_half_way]
    killed = start(USE, folder, SIZE, 1, *file(server, "/a"))
    assert server.half_way.wait(60)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    with ShardCache(folder, SIZE, QUICK) as cache:
        assert read(cache.open(*file(server, "/a"))) == SHARDS["/a"]
    assert kept(folder) == "a"


def test_a_forks_child_outlives_its_parent(server: FaultyServer, tmp_path: Path) -> None:
    """It neither waits for the parent's threads, which it has not, nor holds the parent's locks."""
    code = """
import os, sys, time
from bigan.data.cache import ShardCache
folder, url, size, sha256 = sys.argv[1:]
file = url, int(size), sha256
cache = ShardCache(folder, int(size))
cache.ahead([file])
sys.stdin.readline()
if os.fork() == 0:
    print(os.getpid(), flush=True)
    os.close(cache.open(*file))
    print("opened", flush=True)
time.sleep(600)
"""
    server.plans["/a"] = [stall_half_way]
    with start(code, tmp_path, *file(server, "/a")) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert server.half_way.wait(60)
        parent.stdin.write("\n")
        parent.stdin.flush()
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            assert parent.stdout.readline() == "opened\n"
            assert kept(tmp_path) == "a"
        finally:
            os.kill(child, signal.SIGKILL)
    assert server.asked["/a"] == 2


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_without_locks(
    number: int, server: FaultyServer, small_cache: ShardCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    server.plans["/a"] = [slow]
    with ThreadPoolExecutor(4) as pool:
        assert {
            read(descriptor) for descriptor in pool.map(small_cache.open, *zip(*[file(server, "/a")] * 8, strict=True))
        } == {SHARDS["/a"]}
    assert server.asked["/a"] == 1
    foreign = [tmp_path / "cache" / "00" / f"{'0' * 64}.00000000-0000000{number}.part" for number in range(2)]
    foreign[0].parent.mkdir()
    for part in foreign:
        part.write_bytes(b"x")
    os.utime(foreign[0], (0, 0))
    os.close(small_cache.open(*file(server, "/b")))
    assert not foreign[0].exists()  # nothing has come for years
    assert foreign[1].exists()  # may be alive
    foreign[1].unlink()
    assert kept(tmp_path / "cache") == "ab"


def test_the_limit_holds_while_processes_fetch(server: FaultyServer, tmp_path: Path) -> None:
    """Two processes with two threads each over four shards and room for two."""
    folder = tmp_path / "cache"
    taken: list[int] = []

    def measure() -> None:
        sizes: dict[int, int] = {}  # by inode: a part may get its name between two looks
        for path in folder.rglob("*"):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if len(path.name) >= 64:
                sizes[found.st_ino] = found.st_size
        taken.append(sum(sizes.values()))

    server.on_request = measure
    server.plans = {path: [slow] * 100 for path in SHARDS}
    forth = [value for path in "abcd" for value in file(server, f"/{path}")]
    back = [value for path in "dcba" for value in file(server, f"/{path}")]
    running = [start(USE, folder, 2 * SIZE + 1, 2, *files) for files in (forth, back)]
    assert [process.wait() for process in running] == [0, 0]
    for process in running:
        process.communicate()
    measure()
    assert set(taken) <= {SIZE, 2 * SIZE}
    assert len(kept(folder)) == 2
