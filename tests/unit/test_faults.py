"""Bad samples: found whatever was done to the shards, counted, replaced in a repeatable way, and too many end the run."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from bigan.batch import DataSpec
from bigan.data import reader as reader_module
from bigan.data.check import check
from bigan.data.faults import Faults, SampleError
from bigan.data.stream import Shards, ShardStream

from .tars import believed, encoded, read_tar, write_tar
from .test_decode import Image

SHARDS, EACH = 10, 6
SAMPLES = SHARDS * EACH
SPEC = DataSpec(samples=SAMPLES, image_shape=(1, 5, 4), classes=tuple("abcdef"))
TARGET = "shard-000003.tar"


def pixels(number: int) -> np.ndarray:
    """[H, W]; no two samples look alike."""
    return np.random.default_rng(number).integers(0, 256, (5, 4), dtype=np.uint8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "whole"
    folder.mkdir()
    for shard in range(SHARDS):
        numbers = range(shard * EACH, (shard + 1) * EACH)
        members = [
            member
            for number in numbers
            for member in (
                (f"{number:04d}.png", encoded(Image.fromarray(pixels(number)))),
                (f"{number:04d}.cls", str(number % 6).encode()),
            )
        ]
        write_tar(folder / f"shard-{shard:06d}.tar", members)
    return believed(folder, SPEC)


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "copy")


def stream_of(folder: Path, bad_samples: float = 0.0, *, decoded_bytes: int = 0, seed: int = 3) -> ShardStream:
    return ShardStream(Shards(path=str(folder), bad_samples=bad_samples, window=20), seed, decoded_bytes=decoded_bytes)


def replace_member(folder: Path, name: str, content: bytes, new_name: str | None = None) -> None:
    """Write a shard again, and let the manifest believe it: what was packed was bad."""
    members = [(new_name or n, content) if n == name else (n, c) for n, c in read_tar(folder / TARGET)]
    write_tar(folder / TARGET, members)
    believed(folder, SPEC)


def flip_bit(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def offset_of(folder: Path, key: str) -> int:
    return (folder / TARGET).read_bytes().index(f"{key}.png".encode()) + 512 + 60


def cut(folder: Path) -> None:
    os.truncate(folder / TARGET, (folder / TARGET).stat().st_size // 2)


def exchange(folder: Path) -> None:
    a, b = folder / "shard-000003.tar", folder / "shard-000004.tar"
    contents = a.read_bytes(), b.read_bytes()
    a.write_bytes(contents[1])
    b.write_bytes(contents[0])


RGB = Image.new("RGB", (4, 5))

FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "bit": (lambda folder: flip_bit(folder / TARGET, offset_of(folder, "0020")), "changed", r"0020\.png: its bytes are not"),
    "cut": (cut, "cut", r"copy/shard-000003\.tar.*|00\d\d: the shard ends within"),
    "missing": (lambda folder: (folder / TARGET).unlink(), "unreadable", "missing"),
    "exchanged": (exchange, "changed|cut", "its bytes are not|has .* bytes|ends within"),
    "index": (lambda folder: flip_bit(folder / "shard-000003.index.json", 50), "index", r"index\.json: its SHA-256"),
    "broken image": (lambda folder: replace_member(folder, "0020.png", b"x"), "image", r"0020\.png: is no PNG"),
    "other size": (lambda folder: replace_member(folder, "0020.png", encoded(RGB)), "shape", r"0020\.png: is RGB 4x5"),
    "label": (lambda folder: replace_member(folder, "0020.cls", b"6"), "label", r"0020\.cls: class 6"),
    "hostile": (
        lambda folder: replace_member(folder, "0020.cls", b"0", "0020.pyd"),
        "member",
        r"0020: member \.pyd is not read",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_without_a_budget_the_first_fault_ends_the_run_by_name(copy: Path, fault: str) -> None:
    damage, _, message = FAULTS[fault]
    damage(copy)
    with pytest.raises(ValueError, match=message) as caught:
        with stream_of(copy) as stream:
            stream.read(0, SAMPLES)
    assert "shard-00000" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("decoded_bytes", "native"), [(0, True), (2**20, True), (0, False)])
@pytest.mark.parametrize("fault", FAULTS)
def test_within_the_budget_they_are_counted_and_replaced(
    copy: Path, fault: str, decoded_bytes: int, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(reader_module, "compiled", lambda: None)
    damage, kinds, _ = FAULTS[fault]
    with stream_of(copy) as stream:
        expected = stream.read(0, 2 * SAMPLES)
    damage(copy)
    known = {pixels(number).tobytes() for number in range(SAMPLES)}
    with stream_of(copy, 0.5, decoded_bytes=decoded_bytes) as stream, stream_of(copy, 0.5) as other:
        found = stream.read(0, 2 * SAMPLES)
        parts = [other.read(start, 8) for start in reversed(range(0, 2 * SAMPLES, 8))]
        counts, records = stream.faults.kinds, stream.faults.records
    assert set(counts) <= set(kinds.split("|"))
    assert sum(counts.values()) >= 1
    changed = [row for row in range(2 * SAMPLES) if not torch.equal(found.images[row], expected.images[row])]
    assert len(changed) == 2 * len(records)  # every one of them, in both epochs, and no other
    assert all(image.numpy().tobytes() in known for image in found.images)  # a whole sample, never half of one
    assert torch.equal(torch.cat([part.images for part in reversed(parts)]), found.images)  # in whatever order they are read
    assert torch.equal(torch.cat([part.labels for part in reversed(parts)]), found.labels)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_finds_every_fault(copy: Path, fault: str) -> None:
    assert check(copy)[1] == []
    damage, _, _ = FAULTS[fault]
    damage(copy)
    found = check(copy)[1]
    assert found
    assert all("shard-00000" in finding.message for finding in found)
    assert check(copy, workers=2)[1] == found


def test_the_check_names_what_is_not_in_the_manifest(copy: Path) -> None:
    shutil.copy(copy / TARGET, copy / "shard-000099.tar")
    assert [str(finding) for finding in check(copy)[1]] == [f"foreign: {copy}/shard-000099.tar: is not in the manifest"]


def test_the_budget_is_of_the_whole_run(copy: Path) -> None:
    for key in ("0018", "0020", "0021"):
        flip_bit(copy / TARGET, offset_of(copy, key))
    with stream_of(copy, 3 / SAMPLES + 1e-9) as stream:
        stream.read(0, 3 * SAMPLES)  # three bad samples, read three times each
        assert stream.faults.kinds == {"changed": 3}
        stream.faults.learn(stream.faults.records)  # what is known already counts once
        with pytest.raises(
            ValueError, match=r"elsewhere \(bad samples so far: 3 changed, 1 image; `bad_samples` allows 3 of 60"
        ):
            stream.faults.learn({59: ("image", "elsewhere")})


def test_what_other_ranks_found_is_replaced_here_too(whole: Path) -> None:
    with stream_of(whole, 0.1) as stream, stream_of(whole, 0.1) as plain:
        stream.faults.learn({7: ("image", "elsewhere")})
        found, expected = stream.read(0, SAMPLES), plain.read(0, SAMPLES)
    differ = [row for row in range(SAMPLES) if not torch.equal(found.images[row], expected.images[row])]
    assert [expected.images[row, 0].numpy().tobytes() for row in differ] == [pixels(7).tobytes()]


def test_a_set_that_is_all_bad_ends(copy: Path) -> None:
    for number in range(SHARDS):
        shard = copy / f"shard-{number:06d}.tar"
        write_tar(shard, [(name, b"x" if name.endswith("png") else content) for name, content in read_tar(shard)])
    believed(copy, SPEC)
    with stream_of(copy, 0.999) as stream, pytest.raises(ValueError, match=r"is no PNG"):
        stream.read(0, 2 * SAMPLES)


def test_bytes_that_are_right_the_second_time_are_taken(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network file system may give them."""
    monkeypatch.setattr(reader_module, "compiled", lambda: None)
    real, calls = os.pread, [0]

    def flaky(descriptor: int, size: int, offset: int) -> bytes:
        data = real(descriptor, size, offset)
        calls[0] += 1
        return data[:-1] + bytes([data[-1] ^ 1]) if calls[0] % 2 else data

    with stream_of(whole) as stream:
        expected = stream.read(0, SAMPLES)
    monkeypatch.setattr(os, "pread", flaky)
    with ShardStream(Shards(path=str(whole), workers=1, window=20), 3, decoded_bytes=0) as stream:
        assert torch.equal(stream.read(0, SAMPLES).images, expected.images)
        assert not stream.faults.kinds


def test_replacements_are_the_same_for_good() -> None:
    faults = Faults([10, 20, 30], 0.5, seed=11)
    found = list(islice(faults.replacements(14), 16))
    assert all(10 <= sample < 30 for sample in found[:8])  # of the same shard, which is at hand
    assert all(0 <= sample < 60 for sample in found)
    assert found == [16, 26, 10, 22, 17, 10, 25, 24, 18, 49, 3, 49, 25, 19, 17, 52]
    assert found != list(islice(Faults([10, 20, 30], 0.5, seed=12).replacements(14), 16))


def test_any_good_sample_is_found(copy: Path) -> None:
    """Also where nine of ten shards are gone, and random draws would have to be lucky."""
    for number in range(SHARDS):
        if number != 3:
            (copy / f"shard-{number:06d}.tar").unlink()
    left = {pixels(number).tobytes() for number in range(18, 24)}
    with stream_of(copy, 0.95) as stream:
        assert {image.numpy().tobytes() for image in stream.read(0, SAMPLES).images} <= left
        assert stream.faults.kinds == {"unreadable": 54}


def test_what_was_learned_reaches_samples_that_were_decoded_before(whole: Path) -> None:
    """Else a rank that kept its pixels in memory would differ from the others, and from itself after a resume."""
    with stream_of(whole, 0.2, decoded_bytes=2**20) as stream, stream_of(whole, 0.2) as fresh:
        stream.read(0, SAMPLES)
        for records in ({7: ("image", "elsewhere")}, {8: ("image", "elsewhere"), 9: ("image", "elsewhere")}):
            stream.faults.learn(records)  # pyright: ignore[reportArgumentType]
            fresh.faults.learn(records)  # pyright: ignore[reportArgumentType]
            assert torch.equal(stream.read(0, SAMPLES).images, fresh.read(0, SAMPLES).images)


def test_no_reader_sees_a_row_before_it_is_whole(tmp_path: Path) -> None:
    """Of an image that is cut, decoders write a part before they raise: that must never be in a batch."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((400, 400)) for _ in range(4)]
    contents = [encoded(photo, "JPEG", quality=95) for photo in photos]
    contents[2] = contents[2][: len(contents[2]) * 3 // 4]
    write_tar(tmp_path / "s.tar", [(f"{number}.jpg", content) for number, content in enumerate(contents)])
    settings = Shards(path=str(believed(tmp_path, DataSpec(samples=4, image_shape=(3, 400, 400)))), bad_samples=0.5)
    with settings.open(0) as stream:
        expected = stream.read(0, 4).images
    for _ in range(15):
        with settings.open(0) as stream, ThreadPoolExecutor(3) as pool:
            for batch in pool.map(lambda _: stream.read(0, 4), range(3)):
                assert torch.equal(batch.images, expected)


def test_a_small_set_tolerates_none() -> None:
    faults = Faults([999], 0.001, seed=0)
    with pytest.raises(ValueError, match="here"):
        faults.add(5, SampleError("image", "here"))
