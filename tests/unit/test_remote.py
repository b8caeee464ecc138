"""Shards behind a real server: the same stream as from the folder, whatever the server does; and the mode that is not exact."""

import gzip
import logging
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from bigan.data import ahead as ahead_module
from bigan.data import places as places_module
from bigan.data.ahead import Prefetcher
from bigan.data.augmentation import Augmentation
from bigan.data.fetch import RetryPolicy
from bigan.data.stream import Shards, ShardStream, cache_folder
from bigan.data.streamed import Webdataset

from .http_server import FaultyServer, cut, flipped, good, reset_half_way, serving, short, silent, status
from .tars import read_tar, write_tar
from .test_faults import SAMPLES, TARGET, pixels, whole

__all__ = ["whole"]


@pytest.fixture
def server(whole: Path) -> Iterator[FaultyServer]:
    with serving({f"/set/{path.name}": path.read_bytes() for path in whole.iterdir()}) as server:
        yield server


def remote(server: FaultyServer, cache: Path, **settings: object) -> ShardStream:
    options = {"path": server.url("/set"), "cache": str(cache), "window": 20, **settings}
    return ShardStream(Shards(**options), 3, decoded_bytes=0)  # pyright: ignore[reportArgumentType]


def local(folder: Path) -> ShardStream:
    return ShardStream(Shards(path=str(folder), window=20), 3, decoded_bytes=0)


def test_a_url_gives_what_the_folder_gives_and_each_shard_comes_once(whole: Path, server: FaultyServer, tmp_path: Path) -> None:
    with local(whole) as folder, remote(server, tmp_path) as one, remote(server, tmp_path) as other:
        assert one.fingerprint == folder.fingerprint
        expected = folder.read(7, 2 * SAMPLES)
        found = [(one if step % 2 else other).read(7 + 8 * step, 8) for step in range(SAMPLES // 4)]
    assert torch.equal(torch.cat([batch.images for batch in found]), expected.images)
    assert torch.equal(torch.cat([batch.labels for batch in found]), expected.labels)
    assert {path: times for path, times in server.asked.items() if path.endswith(".tar")} == {
        f"/set/shard-{number:06d}.tar": 1 for number in range(10)
    }


def test_the_next_windows_shards_come_before_they_are_read(server: FaultyServer, tmp_path: Path) -> None:
    with remote(server, tmp_path) as stream:
        first, _ = stream._order.window_at(0)  # pyright: ignore[reportPrivateUsage]
        second, _ = stream._order.window_at(len(first))  # pyright: ignore[reportPrivateUsage]
        wanted = {f"/set/shard-{sample // 6:06d}.tar" for sample in [*first.tolist(), *second.tolist()]}
        stream.read(0, 1)
        deadline = time.monotonic() + 20
        while not wanted <= set(server.asked) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert {path for path in server.asked if path.endswith(".tar")} == wanted


def test_a_server_that_fails_now_and_then_is_asked_again(
    whole: Path, server: FaultyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    for number, behaviours in enumerate([[reset_half_way], [cut], [short], [flipped, flipped], [status(503)], [status(429)]]):
        server.plans[f"/set/shard-{number:06d}.tar"] = behaviours
    with local(whole) as folder, remote(server, tmp_path) as stream:
        stream._place._cache._policy = RetryPolicy(delay_s=0.01)  # pyright: ignore
        assert torch.equal(stream.read(0, SAMPLES).images, folder.read(0, SAMPLES).images)
        assert not stream.faults.kinds


def test_a_shard_that_cannot_be_had_ends_the_run_and_is_never_replaced(server: FaultyServer, tmp_path: Path) -> None:
    server.plans[f"/set/{TARGET}"] = [status(404)] * 100
    with remote(server, tmp_path, bad_samples=0.9) as stream:
        with pytest.raises(ValueError, match=rf"{TARGET}: not found"):
            stream.read(0, SAMPLES)
        assert not stream.faults.kinds


def test_a_damaged_copy_in_the_cache_is_fetched_again(whole: Path, server: FaultyServer, tmp_path: Path) -> None:
    with local(whole) as folder, remote(server, tmp_path) as stream:
        expected = folder.read(0, SAMPLES).images
        assert torch.equal(stream.read(0, SAMPLES).images, expected)
        content = (whole / TARGET).read_bytes()
        (copy,) = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == content]
        with copy.open("r+b") as file:
            file.seek(600)
            file.write(bytes(400))
        assert torch.equal(stream.read(0, SAMPLES).images, expected)
        assert not stream.faults.kinds
    assert server.asked[f"/set/{TARGET}"] == 2


def test_a_cache_that_holds_no_two_windows_is_refused(whole: Path, server: FaultyServer, tmp_path: Path) -> None:
    size = (whole / TARGET).stat().st_size
    with pytest.raises(
        ValueError, match=r"cache_gb: .* cannot hold two windows of 20 samples \(.* from 8 shards\); raise it, or lower"
    ):
        remote(server, tmp_path, cache_gb=7.5 * size / 1e9)
    with remote(server, tmp_path, cache_gb=9.5 * size / 1e9) as stream:
        for epoch in range(3):
            assert len(stream.read(epoch * SAMPLES, SAMPLES)) == SAMPLES


QUICK = RetryPolicy(attempts=3, delay_s=0.01)


@pytest.mark.parametrize("name", ["manifest.json", "shard-000000.index.json"])
def test_a_lying_server_is_asked_again_and_named(
    whole: Path, server: FaultyServer, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places_module, "RETRIES", QUICK)
    server.plans[f"/set/{name}"] = [lambda handler, content: good(handler, content[:40])]
    with local(whole) as folder, remote(server, tmp_path / "one") as stream:
        assert torch.equal(stream.read(0, SAMPLES).images, folder.read(0, SAMPLES).images)
    assert server.asked[f"/set/{name}"] in (2, 3)  # by two threads at once, perhaps
    server.files[f"/set/{name}"] = b"{}"
    with pytest.raises(ValueError, match=f"/set/{name}: "), remote(server, tmp_path) as stream:
        stream.read(0, SAMPLES)


def test_file_urls_and_where_the_cache_lies(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    monkeypatch.setenv("BIGAN_CACHE", str(tmp_path / "cache"))
    with ShardStream(Shards(path=f"file://{copy}"), 3, decoded_bytes=0) as stream:
        stream.read(0, SAMPLES)
    assert sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()) > 10_000
    assert cache_folder("x") == Path("x")
    monkeypatch.delenv("BIGAN_CACHE")
    assert cache_folder(None) == Path.home() / ".cache" / "bigan"


def test_a_stalled_fetch_ends_with_its_stream(server: FaultyServer, tmp_path: Path) -> None:
    server.plans[f"/set/{TARGET}"] = [silent] * 9
    stream = remote(server, tmp_path)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(stream.read, 0, SAMPLES)
        deadline = time.monotonic() + 20
        while not server.asked[f"/set/{TARGET}"] and time.monotonic() < deadline:
            time.sleep(0.02)
        stream.close()
        with pytest.raises(CancelledError):
            reading.result(timeout=20)


def test_a_run_that_is_asked_to_stop_does_not_wait_for_a_network(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead_module, "PATIENCE_S", 0.2)
    server.plans[f"/set/{TARGET}"] = [silent] * 9
    stream = remote(server, tmp_path)
    with Prefetcher(stream, 0, SAMPLES, SAMPLES) as ahead:
        ahead.stopping = lambda: True
        with pytest.raises(ValueError, match="asked to stop, and has waited"):
            ahead.get(0, SAMPLES)
        stream.interrupt()
    stream.close()


@pytest.mark.parametrize("path", ["pipe:cat x", "ssh://host/x", "simplecache::http://host/x"])
def test_other_schemes_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not opened"):
        Shards(path=path).open(0)


# The mode that is not exact


def streamed(urls: str, **settings: object) -> Webdataset:
    options = {"urls": urls, "image_shape": (1, 5, 4), "classes": 6, "samples": SAMPLES, "shuffle": 15, **settings}
    return Webdataset(**options)  # pyright: ignore[reportArgumentType]


def test_shards_without_an_index_are_streamed(whole: Path, server: FaultyServer) -> None:
    known = {(pixels(number).tobytes(), number % 6) for number in range(SAMPLES)}
    for urls in (f"{whole}/shard-{{000000..000009}}.tar", server.url("/set/shard-{000000..000009}.tar")):
        with streamed(urls).open(4) as stream:
            assert stream.spec.samples == SAMPLES
            first, second = stream.read(0, SAMPLES), stream.read(SAMPLES, SAMPLES)
        seen = [(image.numpy().tobytes(), int(label)) for image, label in zip(first.images, first.labels, strict=True)]
        assert set(seen) <= known
        assert len(set(seen)) > SAMPLES * 0.7  # a pass and a little of the next, out of a buffer
        assert not torch.equal(first.images, second.images)


def test_streamed_images_are_augmented_by_their_positions_too(whole: Path) -> None:
    urls = f"{whole}/shard-{{000000..000009}}.tar"
    with streamed(urls).open(4) as plain, streamed(urls, flip=True, jitter=1).open(4) as stream:
        straight, seen = plain.read(0, 20), stream.read(0, 20)
    rows = {"images": straight.images.permute(0, 2, 3, 1).numpy().copy()}
    expected = Augmentation(4, flip=True, jitter=1).augmented(rows, ["images"], 0)["images"]
    assert (seen.images.permute(0, 2, 3, 1).numpy() == expected).all()
    assert not torch.equal(seen.images, straight.images)


def test_bad_samples_are_left_out_and_counted(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    os.truncate(copy / TARGET, 1300)
    urls = f"{copy}/shard-{{000000..000009}}.tar"
    with streamed(urls, bad_samples=0.5).open(4) as stream:
        assert len(stream.read(0, 3 * SAMPLES)) == 3 * SAMPLES
        assert sum(stream.faults.kinds.values()) >= 1
    with streamed(urls, classes=3, bad_samples=0.0).open(4) as stream:
        with pytest.raises(ValueError, match=r"shard-00000\d\.tar.*(class \d, but|unexpected end)"):
            stream.read(0, 3 * SAMPLES)


def test_a_bad_sample_counts_once_however_often_and_by_whomever_it_is_met(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    members = read_tar(copy / TARGET)
    write_tar(copy / TARGET, [(name, b"x" if name == "0020.png" else content) for name, content in members])
    settings = streamed(f"{copy}/shard-{{000000..000009}}.tar", bad_samples=1.5 / SAMPLES)
    with settings.open(4) as stream, settings.open(5) as other_rank:
        for start in range(0, 5 * SAMPLES, SAMPLES):
            stream.read(start, SAMPLES)
            other_rank.read(start, SAMPLES)
        assert stream.faults.records == other_rank.faults.records
        stream.faults.learn(other_rank.faults.records)
        assert stream.faults.kinds == {"image": 1}


def test_a_shard_that_is_gone_or_compressed_is_named(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    urls = f"{copy}/shard-{{000000..000009}}.tar"
    with streamed(urls).open(4) as stream:
        (copy / TARGET).unlink()
        for _ in range(2):
            with pytest.raises(ValueError, match=rf"{TARGET}: cannot be read \(No such file"):
                stream.read(0, 2 * SAMPLES)
    (copy / TARGET).write_bytes(gzip.compress((whole / TARGET).read_bytes()))
    with streamed(urls).open(4) as stream, pytest.raises(ValueError, match=rf"{TARGET}: is compressed"):
        stream.read(0, 2 * SAMPLES)


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ("", "urls: is empty"),
        ("{000..99999999999}.tar", "more than 1000000 shards"),
        ("{a,b}" * 25 + ".tar", "more than 1000000 shards"),
        ("pipe:cat {0..3}.tar", "is not opened"),
        ("none-{0..3}.tar", r"none-0\.tar is no file"),
        ("{0..9999999}.tar", "more than 1000000 shards"),
    ],
)
def test_urls_that_are_refused(urls: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        streamed(urls).open(0)


def test_shards_without_samples_are_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [])
    with streamed(f"{tmp_path}/a.tar").open(0) as stream, pytest.raises(ValueError, match="hold no samples"):
        stream.read(0, 1)
