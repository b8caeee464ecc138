"""Manifests and indices: what is whole loads, what is broken or hostile is refused by name."""

import io
import json
import os
import random
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigan.data.index import Manifest, ShardIndex, index_path, verify
from bigan.data.pack import pack
from bigan.data.source import Source, open_source


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


def write_tar(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_index_says_where_the_bytes_lie(packed: Path) -> None:
    manifest = verify(packed, checksums=True)
    assert [shard.samples for shard in manifest.shards] == [4, 4, 2]
    for entry in manifest.shards:
        index = ShardIndex.load(packed, entry)
        content = (packed / entry.name).read_bytes()
        with tarfile.open(packed / entry.name) as tar:
            for rank, key in enumerate(index.keys):
                places = index.locate(rank)
                assert sorted(places) == ["cls", "png"]
                for extension, (offset, size) in places.items():
                    member = tar.extractfile(f"{key}.{extension}")
                    assert member is not None
                    assert content[offset : offset + size] == member.read()


def test_a_manifest_survives_writing_and_reading(packed: Path) -> None:
    manifest = Manifest.load(packed)
    assert (packed / "manifest.json").read_bytes() == manifest.dump()
    assert manifest.image_shape == (1, 6, 4)
    assert manifest.classes == ("a", "b")


def test_an_index_that_is_missing_is_made_from_the_shard(packed: Path) -> None:
    entry = verify(packed).shards[0]
    stored = ShardIndex.load(packed, entry).dump()
    index_path(packed / entry.name).unlink()
    assert ShardIndex.load(packed, entry).dump() == stored


def test_members_a_sample_lacks_are_marked(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", b"12"), ("b.png", b"3"), ("b.cls", b"0"), ("d/c.x.jpg", b"")])
    index = ShardIndex.build(path)
    assert index.keys == ("a", "b", "d/c")
    assert [sorted(index.locate(rank)) for rank in range(3)] == [["png"], ["cls", "png"], ["x.jpg"]]
    assert index.members["cls"].tolist()[0] == [-1, 0]


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
        with pytest.raises(ValueError, match=r"shard-000001\.tar: its SHA-256"):
            verify(packed, checksums=True)


def test_a_missing_shard_is_named(packed: Path) -> None:
    (packed / "shard-000002.tar").unlink()
    with pytest.raises(ValueError, match=r"shard-000002\.tar: missing"):
        verify(packed)


def test_an_index_of_another_shard_is_noticed(packed: Path) -> None:
    stored = index_path(packed / "shard-000000.tar")
    document = json.loads(stored.read_text())
    document["members"]["png"].reverse()
    stored.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"shard-000000\.index\.json: does not describe"):
        verify(packed, checksums=True)
    stored.write_bytes(index_path(packed / "shard-000001.tar").read_bytes())
    with pytest.raises(ValueError, match=r"shard-000000\.index\.json: broken"):
        verify(packed, checksums=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"keys": [1, 2, 3, 4]},
        {"keys": ["a"]},
        {"members": []},
        {"members": {"png": [[0, 1]] * 3}},
        {"members": {"png": [[0, 1, 2]] * 4}},
        {"members": {"png": [[0, 10**30]] * 4}},
        {"members": {"png": [[0, 10**9]] * 4}},
        {"members": {"png": [[2**63 - 1, 2**63 - 1]] * 4}},
        {"members": {"png": [[-2, 1]] * 4}},
        {"members": {"png": [[0, -1]] * 4}},
        {"members": {"png": [["x", None]] * 4}},
    ],
)
def test_a_hostile_index_is_refused(packed: Path, changes: dict[str, Any]) -> None:
    edit_json(packed / "shard-000000.index.json", **changes)
    with pytest.raises(ValueError, match=r"shard-000000\.index\.json: broken"):
        ShardIndex.load(packed, Manifest.load(packed).shards[0])


def test_an_index_with_another_count_is_refused(packed: Path) -> None:
    shards = json.loads((packed / "manifest.json").read_text())["shards"]
    shards[0]["samples"], shards[1]["samples"] = 3, 5
    edit_json(packed / "manifest.json", shards=shards)
    with pytest.raises(ValueError, match="has 4 samples, the manifest says 3"):
        verify(packed, checksums=True)


SHARD = {"name": "shard-000000.tar", "samples": 10, "bytes": 1, "sha256": ""}


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
                verify(root / "packed", checksums=True)
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


@pytest.mark.parametrize(
    "name", ["../a.png", "a/../../b.png", "/etc/a.png", "a\\b.png", "a\nb.png", "noextension", ".png", "a/.png", "a."]
)
def test_a_hostile_member_name_is_refused(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "s.tar", [("good.png", b"1"), (name, b"2")])
    with pytest.raises(ValueError, match=r"s\.tar: .* is no name of the form"):
        ShardIndex.build(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("a.png")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(ValueError, match=r"s\.tar: 'a\.png' is no plain file"):
        ShardIndex.build(write_tar(tmp_path / "s.tar", [(info, b"")]))


@pytest.mark.parametrize("names", [["a.png", "a.png"], ["a.png", "b.png", "a.cls"], ["a.png", "a.PNG"]])
def test_a_key_that_comes_twice_is_refused(tmp_path: Path, names: list[str]) -> None:
    path = write_tar(tmp_path / "s.tar", [(name, b"0") for name in names])
    with pytest.raises(ValueError, match=r"s\.tar: 'a\.\w+' comes twice"):
        ShardIndex.build(path)


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with pytest.raises(ValueError, match=r"s\.tar: is no whole tar"):
        ShardIndex.build(path)
    for content in (b"", b"hello", b"x" * 2048):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"s\.tar: "):
            ShardIndex.build(path)
    write_tar(path, [])
    with pytest.raises(ValueError, match="holds no samples"):
        ShardIndex.build(path)
    path.write_bytes(write_tar(path, [("a.png", b"1")]).read_bytes() + b"hidden".ljust(512, b"\0"))
    with pytest.raises(ValueError, match="does not end as a tar"):
        ShardIndex.build(path)
