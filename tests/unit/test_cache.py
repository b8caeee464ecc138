"""The cache fetches once for all, verifies what came, reads ahead and ends when it is told to."""

import os
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from bigan.data import cache as cache_module
from bigan.data.cache import ShardCache
from bigan.data.fetch import RetryPolicy
from bigan.data.lock import FileLock
from bigan.data.store import Store

from .cached import IMPATIENT, QUICK, SHARDS, SIZE, file, kept, names, read, sha256
from .http_server import (
    Behaviour,
    FaultyServer,
    cut,
    endless,
    flipped,
    reset_half_way,
    short,
    silent,
    stall_half_way,
    status,
)

# Fetching


def test_a_shard_is_fetched_once(server: FaultyServer, small_cache: ShardCache, tmp_path: Path) -> None:
    for _ in range(3):
        assert read(small_cache.open(*file(server, "/a"))) == SHARDS["/a"]
    with ShardCache(tmp_path / "cache", SIZE) as another:  # another run, and a data set that has the shard by another name
        assert read(another.open("http://127.0.0.1:1/z", SIZE, sha256("/a"))) == SHARDS["/a"]
    assert server.asked["/a"] == 1
    assert (tmp_path / "cache" / sha256("/a")[:2] / sha256("/a")).read_bytes() == SHARDS["/a"]
    assert kept(tmp_path / "cache") == "a"


def test_a_file_url_is_copied(small_cache: ShardCache, tmp_path: Path) -> None:
    source = tmp_path / "a b.tar"
    source.write_bytes(SHARDS["/a"])
    assert read(small_cache.open(source.as_uri(), SIZE, sha256("/a"))) == SHARDS["/a"]
    assert kept(tmp_path / "cache") == "a"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (cut, "broke off"),
        (short, "ended after 50000 of 100000 bytes"),
        (endless, "sends more than the 100000 bytes"),
        (flipped, "its SHA-256 is [0-9a-f]{64}, and should be [0-9a-f]{64}"),
        (reset_half_way, "reset|broke off"),
        (stall_half_way, "stalled after 50000 bytes"),
        (status(503), "HTTP status 503"),
    ],
)
def test_what_is_wrong_is_fetched_again_and_never_seen(
    fault: Behaviour, said: str, server: FaultyServer, tmp_path: Path
) -> None:
    server.plans["/a"] = [fault] * 5
    with ShardCache(tmp_path, SIZE, IMPATIENT if fault is stall_half_way else QUICK) as cache:
        with pytest.raises(ValueError, match=rf"^http://.*/a: .*({said}).*\(tried 3 times\)"):
            cache.open(*file(server, "/a"))
        assert names(tmp_path) == []
        assert read(cache.open(*file(server, "/a"))) == SHARDS["/a"]
    assert server.asked["/a"] == 6
    assert kept(tmp_path) == "a"


def test_what_is_not_there_is_told_at_once(server: FaultyServer, small_cache: ShardCache, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/z: not found; check the address$"):
        small_cache.open(server.url("/z"), SIZE, "0" * 64)
    assert server.asked["/z"] == 1
    assert names(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["../" * 20 + "etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_hash_that_is_none(name: str, small_cache: ShardCache) -> None:
    with pytest.raises(ValueError, match=r"^http://h/a: '.*' is no SHA-256 in lower-case hexadecimal$"):
        small_cache.open("http://u:p@h/a?p", SIZE, name)


def test_a_damaged_file_is_replaced(server: FaultyServer, small_cache: ShardCache, tmp_path: Path) -> None:
    path = tmp_path / "cache" / sha256("/a")[:2] / sha256("/a")
    os.close(small_cache.open(*file(server, "/a")))
    os.truncate(path, SIZE - 1)
    assert read(small_cache.open(*file(server, "/a"))) == SHARDS["/a"]
    path.write_bytes(bytes(SIZE))  # only a reader can see it
    small_cache.discard(sha256("/a"))
    small_cache.discard(sha256("/a"))
    assert read(small_cache.open(*file(server, "/a"))) == SHARDS["/a"]
    assert server.asked["/a"] == 3


def test_what_came_meanwhile_is_not_fetched_again(
    server: FaultyServer, small_cache: ShardCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process brings it between the look for it and the lock."""
    lock = Store.lock

    def late(store: Store, name: str) -> FileLock | None:
        monkeypatch.setattr(Store, "lock", lock)
        with ShardCache(tmp_path / "cache", SIZE) as other:
            os.close(other.open(*file(server, "/a")))
        return store.lock(name)

    monkeypatch.setattr(Store, "lock", late)
    assert read(small_cache.open(*file(server, "/a"))) == SHARDS["/a"]
    assert server.asked["/a"] == 1


# Threads, and reading ahead


def test_threads_share_the_error(server: FaultyServer, small_cache: ShardCache, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Semaphore(0)

    class Flight(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            waiting.release()
            return super().result(timeout)

    def fail_when_all_wait(handler: object, content: bytes) -> None:
        for _ in range(3):
            waiting.acquire(timeout=60)
        status(404)(handler, content)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(cache_module, "Future", Flight)
    server.plans["/a"] = [fail_when_all_wait]
    with ThreadPoolExecutor(4) as pool:
        patient = ShardCache(small_cache._store.folder, SIZE, RetryPolicy(stall_s=60))
        tasks = [pool.submit(patient.open, *file(server, "/a")) for _ in range(4)]
        errors = [str(task.exception()) for task in tasks]
    patient.close()
    assert set(errors) == {f"{server.url('/a')}: not found; check the address"}
    assert server.asked["/a"] == 1


def test_what_is_asked_ahead_is_there(server: FaultyServer, small_cache: ShardCache, tmp_path: Path) -> None:
    small_cache.ahead(file(server, path) for path in ("/a", "/b", "/c"))
    while kept(tmp_path / "cache") != "ab":
        time.sleep(0.01)
    for path in ("/a", "/b"):
        assert read(small_cache.open(*file(server, path))) == SHARDS[path]
    assert server.asked == {"/a": 1, "/b": 1}  # c would have pushed out a


def test_an_error_ahead_is_told_by_open(server: FaultyServer, small_cache: ShardCache) -> None:
    small_cache.ahead([(server.url("/z"), 1, "0" * 64), file(server, "/b")])
    while server.asked["/b"] == 0:
        time.sleep(0.01)
    with pytest.raises(ValueError, match=r"/z: not found"):
        small_cache.open(server.url("/z"), 1, "0" * 64)
    assert server.asked["/z"] in (1, 2)  # it may be on its way still
    assert read(small_cache.open(*file(server, "/b"))) == SHARDS["/b"]


def test_a_later_call_drops_what_was_not_begun(server: FaultyServer, tmp_path: Path) -> None:
    server.plans = {"/a": [silent], "/b": [silent], "/c": [], "/d": []}
    with ShardCache(tmp_path, 4 * SIZE, RetryPolicy(stall_s=60)) as cache:
        cache.ahead(file(server, path) for path in ("/a", "/b", "/c"))
        while server.asked.keys() != {"/a", "/b"}:
            time.sleep(0.01)
        cache.ahead([file(server, "/d")])
        server.released.set()
        assert read(cache.open(*file(server, "/d"))) == SHARDS["/d"]
    assert "/c" not in server.asked


@pytest.mark.parametrize("waits", ["for the server", "for another process", "for room", "to try again"])
def test_closing_ends_what_waits(waits: str, server: FaultyServer, tmp_path: Path) -> None:
    """Else this would take an hour."""
    hour = RetryPolicy(stall_s=3600, delay_s=3600)
    server.plans["/a"] = [status(503) if waits == "to try again" else silent]
    with ShardCache(tmp_path, SIZE, hour) as first, ShardCache(tmp_path, SIZE, hour) as second, ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(first.open, *file(server, "/a"))]
        while server.asked["/a"] == 0:
            time.sleep(0.01)
        if waits.startswith("for a"):
            tasks.append(pool.submit(second.open, *file(server, "/a")))
        elif waits == "for room":
            tasks.append(pool.submit(second.open, *file(server, "/b")))
        second.close()
        first.close()
        assert all(isinstance(task.exception(), CancelledError) for task in tasks)
    assert names(tmp_path) == []
    assert server.asked == {"/a": 1}
