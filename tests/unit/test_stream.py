"""Reading by position: the same samples however they are asked for, errors that name the key, and reading ahead."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bigan.batch import Batch, DataSpec
from bigan.data import places as places_module
from bigan.data.ahead import Prefetcher
from bigan.data.decode import Rows
from bigan.data.hashing import flips, shifts
from bigan.data.order import Order
from bigan.data.pack import pack
from bigan.data.reader import ShardReader
from bigan.data.sources import Item, Source, open_source
from bigan.data.stream import Shards, ShardStream

from .tars import repacked

SHAPE = (3, 6, 4)
SAMPLES = 11


def pixels(number: int) -> np.ndarray:
    """[H, W, C]"""
    return np.random.default_rng(number).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def item(number: int) -> Item:
    return Item(str(number), lambda: Image.fromarray(pixels(number)), number % 3)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven RGB images of three classes in shards of four."""
    folder = tmp_path_factory.mktemp("stream") / "packed"
    source = Source(description="test", items=[item(n) for n in range(SAMPLES)], classes=("a", "b", "c"), fingerprint="")
    pack(source, folder, size=(6, 4), samples_per_shard=4, keep_order=True)
    return folder


def shards(folder: Path, *, flip: bool = False, workers: int = 2) -> Shards:
    return Shards(path=str(folder), flip=flip, workers=workers)


def equal(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.index, other.index)
        and one.fields.keys() == other.fields.keys()
        and all(torch.equal(one[name], other[name]) for name in one.fields)
    )


# The stream


@pytest.mark.parametrize("decoded_bytes", [0, 2**20])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_read_gives_the_samples_of_its_positions(packed: Path, decoded_bytes: int, workers: int) -> None:
    with ShardStream(shards(packed, workers=workers), 5, decoded_bytes=decoded_bytes) as stream:
        assert stream.spec == DataSpec(samples=SAMPLES, image_shape=SHAPE, classes=("a", "b", "c"))
        for start in (0, 3, 30, 10**6):
            batch = stream.read(start, 25)
            expected = Order([4, 4, 3], 5).samples_at(start, 25)
            assert batch.index.tolist() == list(range(start, start + 25))
            assert batch.images.dtype == torch.uint8
            assert batch.images.shape == (25, *SHAPE)
            assert batch.labels.dtype == torch.int64
            assert batch.labels.tolist() == [sample % 3 for sample in expected]
            for image, sample in zip(batch.images, expected, strict=True):
                assert (image.permute(1, 2, 0).numpy() == pixels(int(sample))).all()


@pytest.mark.parametrize("decoded_bytes", [0, 2**20])
def test_any_slicing_gives_the_same_stream(packed: Path, decoded_bytes: int) -> None:
    settings = shards(packed, flip=True)
    with ShardStream(settings, 1, decoded_bytes=0) as whole, ShardStream(settings, 1, decoded_bytes=decoded_bytes) as parts:
        expected = whole.read(7, 48)
        for ranks, share in ((1, 16), (2, 8), (4, 3), (3, 4)):
            stride = ranks * share
            pieces = [
                parts.read(7 + step * stride + rank * share, share) for step in range(48 // stride) for rank in range(ranks)
            ]
            assert torch.equal(torch.cat([piece.images for piece in pieces]), expected.images)
            assert torch.equal(torch.cat([piece.labels for piece in pieces]), expected.labels)


def test_a_batch_is_the_callers_own(packed: Path) -> None:
    """Writing into it must not reach the cache."""
    with shards(packed).open(0) as stream:
        first = stream.read(0, SAMPLES).images.clone()
        stream.read(0, SAMPLES).images.zero_()
        assert torch.equal(stream.read(0, SAMPLES).images, first)


def test_a_small_set_is_decoded_once(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []

    read = ShardReader.read

    def counting(reader: ShardReader, shard: int, rank: int, into: Rows, row: int, data: bytes | None = None) -> None:
        decoded.append((shard, rank))
        read(reader, shard, rank, into, row, data)

    monkeypatch.setattr(ShardReader, "read", counting)
    size = SAMPLES * (3 * 6 * 4 + 8)
    for decoded_bytes, times in ((size, 1), (size - 1, 3)):
        decoded.clear()
        with ShardStream(shards(packed), 0, decoded_bytes=decoded_bytes) as stream:
            for epoch in range(3):
                stream.read(epoch * SAMPLES, SAMPLES)
        assert len(decoded) == times * SAMPLES
        assert len(set(decoded)) == SAMPLES


def test_the_cache_fills_as_it_is_read(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shards(packed).open(0) as stream:
        stream.read(0, 2)
        monkeypatch.setattr(ShardReader, "read", None)
        stream.read(0, 2)
        with pytest.raises(TypeError):
            stream.read(0, 3)


def test_threads_share_a_stream(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "OPEN_SHARDS", 1)  # so that files close under the readers
    for decoded_bytes in (0, 2**20):
        with ShardStream(shards(packed), 2, decoded_bytes=decoded_bytes) as stream, ThreadPoolExecutor(4) as pool:
            expected = [stream.read(start, 5) for start in range(0, 100, 5)]
            found = list(pool.map(lambda start: stream.read(start, 5), range(0, 100, 5)))
        assert all(map(equal, found, expected))


def test_a_closed_stream_holds_no_file(packed: Path) -> None:
    def open_tars() -> int:
        return sum(".tar" in str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())

    before = open_tars()
    with shards(packed).open(0) as stream:
        stream.read(0, SAMPLES)
        assert open_tars() == before + 3
    assert open_tars() == before


def test_data_without_classes_has_no_labels(tmp_path: Path) -> None:
    Image.fromarray(pixels(0)[..., 0]).save(tmp_path / "a.png")
    pack(open_source(str(tmp_path)), tmp_path / "out", size=(6, 4))
    with shards(tmp_path / "out").open(0) as stream:
        batch = stream.read(0, 2)
    assert list(batch.fields) == ["images"]
    assert (batch.images[:, 0].numpy() == pixels(0)[..., 0]).all()
    assert stream.spec == DataSpec(samples=1, image_shape=(1, 6, 4), classes=())


# Flips


def test_a_flip_belongs_to_its_position(packed: Path) -> None:
    with shards(packed).open(3) as plain, shards(packed, flip=True).open(3) as flipped:
        straight, mirrored = plain.read(5, 40), flipped.read(5, 40)
    for row, flip in enumerate(flips(3, 5, 40)):
        expected = straight.images[row].flip(-1) if flip else straight.images[row]
        assert torch.equal(mirrored.images[row], expected)
    assert torch.equal(mirrored.labels, straight.labels)


@pytest.mark.parametrize("flip", [False, True])
def test_a_shift_belongs_to_its_position_too_and_repeats_the_border(packed: Path, flip: bool) -> None:
    with shards(packed).open(3) as plain, replace(shards(packed, flip=flip), jitter=2).open(3) as shifted:
        straight, seen = plain.read(5, 40), shifted.read(5, 40)
        part = shifted.read(20, 10)
    assert torch.equal(part.images, seen.images[15:25])
    for image, view, mirrored, (down, right) in zip(
        straight.images, seen.images, flips(3, 5, 40), shifts(3, 5, 40, 2), strict=True
    ):
        wider = F.pad(image[None].float(), (2, 2, 2, 2), mode="replicate")[0]
        expected = wider[:, 2 - down : wider.shape[1] - 2 - down, 2 - right : wider.shape[2] - 2 - right]
        assert torch.equal(view.float(), expected.flip(-1) if flip and mirrored else expected)
    side = min(straight.images.shape[2:])
    replace(shards(packed), jitter=side - 1).open(3).close()
    with pytest.raises(ValueError, match=rf"jitter: {side} pixels leave nothing of images of \d+x\d+"):
        replace(shards(packed), jitter=side).open(3)


# Errors


def test_a_shard_that_shrinks_or_vanishes_while_reading_is_named(packed: Path, tmp_path: Path) -> None:
    folder = repacked(packed, tmp_path / "one", lambda name, content: (name, content))
    shard = folder / "shard-000000.tar"
    with ShardStream(shards(folder), 0, decoded_bytes=0) as stream:
        stream.read(0, 4)
        with shard.open("r+b") as file:
            file.truncate(600)
        with pytest.raises(ValueError, match=r"shard-000000\.tar: 0000000\d: the shard ends within"):
            stream.read(0, 4)
    folder = repacked(packed, tmp_path / "two", lambda name, content: (name, content))
    with shards(folder).open(0) as stream:
        (folder / "shard-000000.tar").unlink()
        with pytest.raises(ValueError, match=r"shard-000000\.tar: 0000000\d: cannot be read \(No such file"):
            stream.read(0, 4)


def test_a_users_mistake_is_refused_when_the_stream_opens(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        shards(tmp_path / "nowhere").open(0)
    with pytest.raises(ValueError, match=r"has no manifest\.json; make a data set with `bigan pack"):
        shards(tmp_path).open(0)


def test_reading_ahead_gives_what_the_stream_gives(packed: Path) -> None:
    with shards(packed, flip=True).open(9) as stream:
        with Prefetcher(stream, 4, 3, 6) as even, Prefetcher(stream, 7, 3, 6) as odd:
            for step in range(12):
                at = 4 + 6 * step
                assert equal(even.get(at, 3), stream.read(at, 3))
                assert equal(odd.get(at + 3, 3), stream.read(at + 3, 3))
