"""Manifests and indices: what is whole loads, what is broken or hostile is refused by name."""

import json
import os
import random
import re
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigan.data.check import check
from bigan.data.index import ShardIndex
from bigan.data.manifest import Manifest, ShardEntry, sha256_of, verify
from bigan.data.pack import pack
from bigan.data.sources import Source, open_source

from .tars import locate, write_tar


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Ten grey 6x4 images of two classes in shards of four."""
    rng = np.random.default_rng(0)
    for number in range(10):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 4), dtype=np.uint8)).save(folder / f"{number}.png")
    pack(open_source(str(tmp_path / "images")), tmp_path / "packed", size=(6, 4), samples_per_shard=4)
    return tmp_path / "packed"


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_index_says_where_the_bytes_lie(packed: Path) -> None:
    manifest, findings = check(packed)
    assert findings == []
    assert [shard.samples for shard in manifest.shards] == [4, 4, 2]
    for entry in manifest.shards:
        index = ShardIndex.load(packed, entry)
        content = (packed / entry.name).read_bytes()
        with tarfile.open(packed / entry.name) as tar:
            for rank, key in enumerate(index.keys):
                places = locate(index, rank)
                assert sorted(places) == ["cls", "png"]
                for extension, (offset, size, crc) in places.items():
                    member = tar.extractfile(f"{key}.{extension}")
                    assert member is not None
                    assert content[offset : offset + size] == member.read()
                    assert zlib.crc32(content[offset : offset + size]) == crc


def test_a_manifest_survives_writing_and_reading(packed: Path) -> None:
    manifest = Manifest.load(packed)
    assert (packed / "manifest.json").read_bytes() == manifest.dump()
    assert manifest.spec.image_shape == (1, 6, 4)
    assert manifest.spec.classes == ("a", "b")


def test_an_index_that_is_missing_is_made_from_the_shard(packed: Path) -> None:
    entry = verify(packed).shards[0]
    stored = ShardIndex.load(packed, entry).dump()
    (packed / entry.index_name).unlink()
    assert ShardIndex.load(packed, entry).dump() == stored
    with (packed / entry.name).open("r+b") as shard:  # but not from other bytes than the manifest's
        shard.seek(600)
        shard.write(b"!")
    with pytest.raises(ValueError, match=r"shard-000000\.tar: its SHA-256"):
        ShardIndex.load(packed, entry)


def test_members_a_sample_lacks_are_marked(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", b"12"), ("b.png", b"3"), ("b.cls", b"0"), ("d/c.x.jpg", b"")])
    index = ShardIndex.build(path)
    assert index.keys == ("a", "b", "d/c")
    assert [sorted(locate(index, rank)) for rank in range(3)] == [["png"], ["cls", "png"], ["x.jpg"]]
    assert index.members["cls"].tolist()[0] == [-1, 0, 0]


def test_folders_within_a_tar_are_passed_over(tmp_path: Path) -> None:
    """`tar cf x.tar folder` writes them."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.png").write_bytes(b"12")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(tmp_path / "d", "d")
    assert ShardIndex.build(tmp_path / "s.tar").keys == ("d/a",)


def test_every_truncation_is_noticed(packed: Path) -> None:
    """Also those at a member's end, which tarfile and webdataset read without a word."""
    shard = packed / "shard-000000.tar"
    whole = shard.read_bytes()
    for size in range(0, len(whole), 512):
        shard.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"shard-000000\.tar: has \d+ bytes"):
            verify(packed)
    used = len(whole.rstrip(b"\0"))
    for size in [*range(0, used, 512), used + 100, -(-used // 512) * 512 + 512]:
        shard.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"shard-000000\.tar: "):
            ShardIndex.build(shard)


def test_any_flipped_bit_is_noticed(packed: Path) -> None:
    shard = packed / "shard-000001.tar"
    whole = shard.read_bytes()
    rng = random.Random(0)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        shard.write_bytes(damaged)
        verify(packed)  # the length is right
        assert re.search(r"sha256: .*shard-000001\.tar: its SHA-256", "\n".join(map(str, check(packed)[1])))


def test_a_missing_shard_is_named(packed: Path) -> None:
    (packed / "shard-000002.tar").unlink()
    with pytest.raises(ValueError, match=r"shard-000002\.tar: missing"):
        verify(packed)


def test_an_index_of_another_shard_is_noticed(packed: Path) -> None:
    entries = Manifest.load(packed).shards
    stored = packed / entries[0].index_name
    document = json.loads(stored.read_text())
    document["members"]["png"].reverse()
    for content in (json.dumps(document).encode(), (packed / entries[1].index_name).read_bytes()):
        stored.write_bytes(content)
        assert [finding.kind for finding in check(packed)[1]] == ["index"]
        with pytest.raises(ValueError, match=r"shard-000000\.index\.json: its SHA-256"):
            ShardIndex.load(packed, entries[0])


def with_index(packed: Path, **changes: Any) -> ShardEntry:
    """The first shard, with another index that the manifest believes."""
    entry = Manifest.load(packed).shards[0]
    edit_json(packed / entry.index_name, **changes)
    return replace(entry, index_sha256=sha256_of(packed / entry.index_name))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1},
        {"keys": [1, 2, 3, 4]},
        {"keys": ["a"]},
        {"members": []},
        {"members": {"png": [[0, 1, 0]] * 3}},
        {"members": {"png": [[0, 1]] * 4}},
        {"members": {"png": [[0, 10**30, 0]] * 4}},
        {"members": {"png": [[0, 10**9, 0]] * 4}},
        {"members": {"png": [[2**63 - 1, 2**63 - 1, 0]] * 4}},
        {"members": {"png": [[-2, 1, 0]] * 4}},
        {"members": {"png": [[0, -1, 0]] * 4}},
        {"members": {"png": [["x", None, 0]] * 4}},
    ],
)
def test_a_hostile_index_is_refused(packed: Path, changes: dict[str, Any]) -> None:
    entry = with_index(packed, **changes)
    with pytest.raises(ValueError, match=r"shard-000000\.index\.json: broken"):
        ShardIndex.load(packed, entry)


def test_an_index_with_another_count_is_refused(packed: Path) -> None:
    entry = replace(Manifest.load(packed).shards[0], samples=3)
    with pytest.raises(ValueError, match="has 4 samples, the manifest says 3"):
        ShardIndex.load(packed, entry)


SHA = "0" * 64
SHARD = {"name": "shard-000000.tar", "samples": 10, "bytes": 20_000, "sha256": SHA, "index_sha256": SHA}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "version"),
        ({"version": 99}, "version 99"),
        ({"samples": 11}, "samples"),
        ({"samples": "10"}, "samples"),
        ({"samples": True}, "samples"),
        ({"samples": 0, "shards": []}, "samples"),
        ({"image_shape": [1, 6]}, "image_shape"),
        ({"image_shape": [2, 6, 4]}, "image_shape"),
        ({"image_shape": [1, 10**9, 4]}, "image_shape"),
        ({"image_shape": [1, 6.0, 4]}, "image_shape"),
        ({"classes": [1]}, "classes"),
        ({"classes": "ab"}, "classes"),
        ({"source": None}, "source"),
        ({"skipped": -1}, "skipped"),
        ({"shards": [{**SHARD, "name": "../shard.tar"}]}, "no shard's name"),
        ({"shards": [{**SHARD, "name": "/etc/x.tar"}]}, "no shard's name"),
        ({"shards": [{**SHARD, "name": "pipe:x.tar"}]}, "no shard's name"),
        ({"shards": [{**SHARD, "bytes": -1}]}, "bytes"),
        ({"shards": [{"name": "s.tar"}]}, "samples"),
        ({"shards": ["s.tar"]}, "broken"),
        ({"shards": [{**SHARD, "bytes": 5000}]}, "cannot hold 10 samples"),
        ({"shards": [{**SHARD, "sha256": "x"}]}, "no sha256"),
        ({"shards": [{**SHARD, "samples": 5}] * 2}, "comes twice"),
        ({"shuffled": 1}, "shuffled"),
        ({"samples": 10**11, "shards": [{**SHARD, "samples": 10**11, "bytes": 10**15}]}, "cannot hold"),
        ({"samples": 10**20, "shards": [{**SHARD, "samples": 10**20, "bytes": 10**30}]}, "samples"),
        ({"image_shape": [3, 16384, 16384]}, "a sample of more than"),
        ({"arrays": [{"name": f"x{n}", "shape": [2**24], "dtype": "uint8"} for n in range(9)]}, "a sample of more than"),
        ({"arrays": [{"name": "x", "shape": [1] * 71, "dtype": "uint8"}]}, "shape"),
        ({"attributes": ["a", "a"]}, "attributes"),
        ({"caption_bytes": 2**17}, "caption_bytes"),
        ({"caption_bytes": -1}, "caption_bytes"),
        ({"more_images": [{"name": "Labels", "shape": [1, 6, 4]}]}, "more_images"),
        ({"more_images": [{"name": "x", "shape": [2, 6, 4]}]}, "image_shape"),
        ({"arrays": [{"name": "labels", "shape": [4], "dtype": "uint8"}]}, "arrays"),
        ({"arrays": [{"name": "x", "shape": [4], "dtype": "object"}]}, "dtype"),
        ({"arrays": [{"name": "x", "shape": [2**20, 2**20], "dtype": "uint8"}]}, "shape"),
        ({"arrays": [{"name": "x", "shape": [4], "dtype": "uint8"}] * 2}, "comes twice"),
        ({"image_shape": None, "classes": []}, "image_shape"),
    ],
)
def test_a_broken_manifest_is_refused(packed: Path, changes: dict[str, Any], message: str) -> None:
    edit_json(packed / "manifest.json", **changes)
    with pytest.raises(ValueError, match=rf"manifest\.json: .*{message}"):
        verify(packed)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_json_is_refused(packed: Path, content: bytes) -> None:
    (packed / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json: "):
        verify(packed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without rights")
@pytest.mark.parametrize("closed", ["packed", "packed/manifest.json", "packed/shard-000000.tar"])
def test_what_is_closed_to_the_user_is_named(closed: str) -> None:
    with TemporaryDirectory() as name:  # not in tmp_path, whose parents only its owner may enter
        root = Path(name)
        root.chmod(0o755)
        (root / "images").mkdir()
        Image.new("L", (4, 4)).save(root / "images" / "a.png")
        pack(open_source(str(root / "images")), root / "packed", size=4)
        (root / closed).chmod(0o000)
        (root / "images").chmod(0o000)
        os.seteuid(65534)
        try:
            with pytest.raises(ValueError, match=rf"^{root / 'packed'}.*: (cannot be read|no such folder, or closed)"):
                sha256_of(root / "packed" / verify(root / "packed").shards[0].name)
            with pytest.raises(ValueError, match=rf"^{root / 'images'}.*: cannot be read \(Permission denied\)"):
                open_source(str(root / "images"))
            for source in ("images/a.png", "images/deeper", "x" * 5000):
                with pytest.raises(ValueError, match="no such folder or file, or closed"):
                    open_source(str(root / source))
            with pytest.raises(ValueError, match=r"new: cannot be written \(Permission denied\)$"):
                pack(Source(description="", items=[], classes=(), fingerprint=""), root / "new", size=4)
        finally:
            os.seteuid(0)


def test_a_wrong_path_is_named(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        verify(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"manifest\.json: is a file"):
        verify(packed / "manifest.json")
    with pytest.raises(ValueError, match=r"images: has no manifest\.json; .*bigan pack"):
        verify(tmp_path / "images")
