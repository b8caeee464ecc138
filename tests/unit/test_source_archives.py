"""Zips and tars as sources: class folders, webdataset's samples, and what a hostile or broken archive does."""

import contextlib
import gzip
import io
import json
import multiprocessing
import os
import random
import tarfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from bigan.data.pack import pack
from bigan.data.sources import open_source
from bigan.data.sources.gzipped import SeekableGzip
from bigan.data.sources.opened import PerProcess

from .pictures import folder_of, image, written
from .sets import is_picture, pickled, pixels, png, samples_of, tar_of

TREE = {"set/b/1.png": png(0), "set/a/2.png": png(1), "set/a/1.png": png(2), "set/a/note.txt": b"x", "set/.hidden.png": b""}


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.tgz", "set.bin"])
def test_a_tar_is_read_as_a_zip_is(tmp_path: Path, name: str) -> None:
    tree = {key: content for key, content in TREE.items() if not key.endswith(".txt")} | {"set/a/readme.md": b"x"}
    path = tar_of(tmp_path / name, tree, mode="w:gz" if name.endswith("gz") else "w")
    from_tar, from_zip = open_source(str(path)), open_source(str(zip_of(tmp_path / "set.zip", tree)))
    assert [item[:1] + item[2:] for item in from_tar] == [item[:1] + item[2:] for item in from_zip]
    assert [item.key for item in from_tar] == ["set/a/1.png", "set/a/2.png", "set/b/1.png"]
    assert from_tar.classes == from_zip.classes == ("a", "b")
    assert from_tar.others == from_zip.others == ("set/a/readme.md",)
    for source in (from_tar, from_zip):
        pickled(source)
        assert all(is_picture(item, seed) for item, seed in zip(source, (2, 1, 0), strict=True))


def test_a_text_that_is_no_images_own_leaves_a_tar_of_folders(tmp_path: Path) -> None:
    source = open_source(str(tar_of(tmp_path / "set.tar", TREE)))
    assert source.classes == ("a", "b")
    assert source.others == ("set/a/note.txt",)


def test_times_in_a_tar_are_no_part_of_its_fingerprint(tmp_path: Path) -> None:
    one = open_source(str(tar_of(tmp_path / "one" / "set.tar", TREE)))
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in TREE.items():
            info = tarfile.TarInfo("./" + name)
            info.size, info.mtime, info.uname = len(content), 5.5, "me"
            tar.addfile(info, io.BytesIO(content))
    assert open_source(str(path)).fingerprint == one.fingerprint
    other = open_source(str(tar_of(path, {**TREE, "set/a/3.png": png(9)})))
    assert other.fingerprint != one.fingerprint


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_webdatasets_samples_have_labels_attributes_and_captions(tmp_path: Path, mode: str) -> None:
    path = tar_of(tmp_path / "part.tar", samples_of(), mode=mode)
    source = pickled(open_source(str(path)))
    assert source.classes == ("0", "1", "2")
    assert source.attributes == ("Smiling", "age")
    assert [item.key for item in source] == [f"000{number}.png" for number in range(6)]
    for number, item in enumerate(source):
        assert is_picture(item, number)
        assert item.label == number % 3
        assert item.attributes == (number % 2, number / 4)
        assert item.caption == f"a größe {number}"
    changed = samples_of() | {"0003.txt": b"another"}
    assert open_source(str(tar_of(path, changed, mode=mode))).fingerprint != source.fingerprint


def test_a_folder_of_tars_is_one_set(tmp_path: Path) -> None:
    for shard in range(3):
        tar_of(tmp_path / "set" / f"x-{shard}.tar", samples_of(2, first=2 * shard))
    written(tmp_path / "set" / "sizes.json", b"{}")
    source = pickled(open_source(str(tmp_path / "set")))
    assert [item.key for item in source] == [f"x-{number // 2}.tar/000{number}.png" for number in range(6)]
    assert all(is_picture(item, number) for number, item in enumerate(source))
    assert source.classes == ("0", "1", "2")
    for shard in range(2):  # without notes: the folders in them are the classes, not the tars
        tar_of(tmp_path / "trees" / f"{shard}.tar", {f"{name}/{shard}.png": png(shard) for name in ("cat", "dog")})
    source = open_source(str(tmp_path / "trees"))
    assert source.classes == ("cat", "dog")
    assert [item.key for item in source] == ["0.tar/cat/0.png", "0.tar/dog/0.png", "1.tar/cat/1.png", "1.tar/dog/1.png"]


def test_what_bigan_packed_can_be_packed_again(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", "dog/1.png", "cat/1.png", "cat/2.png")
    pack(open_source(str(root)), tmp_path / "packed", size=(6, 4), samples_per_shard=2)
    source = open_source(str(tmp_path / "packed"))
    assert source.classes == ("cat", "dog")
    assert sorted(item.label for item in source if item.label is not None) == [0, 0, 1]
    assert {pixels(item).tobytes() for item in source} == {image(seed).tobytes() for seed in range(3)}


def test_names_may_stand_for_labels_and_json_may_hold_all(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for number, name in enumerate(("dog", "cat", "dog")):
        members[f"{number}.jpg"] = png(number)
        members[f"{number}.mask.png"] = png(number)
        members[f"{number}.json"] = json.dumps({"label": name, "text": f"a {name}", "size": 3, "none": None}).encode()
    source = open_source(str(tar_of(tmp_path / "set.tar", members)))
    assert source.classes == ("cat", "dog")
    assert [(item.label, item.caption, item.attributes) for item in source] == [
        (1, "a dog", (3.0,)),
        (0, "a cat", (3.0,)),
        (1, "a dog", (3.0,)),
    ]
    assert source.others == ("0.mask.png", "1.mask.png", "2.mask.png")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"0002.cls": None}, "has no label"),
        ({"0002.cls": b"\xff"}, r"its \.cls cannot be read"),
        ({"0002.cls": b" "}, r"its \.cls cannot be read \(is empty\)"),
        ({"0002.cls": b"dog"}, "has no label, or one that is none of the classes"),
        ({"0002.txt": None}, "has no caption"),
        ({"0002.json": b"{"}, r"its \.json cannot be read"),
        ({"0002.json": b"[" * 100_000}, r"its \.json cannot be read"),
        ({"0002.json": b'{"age": 1, "Smiling": "yes"}'}, "has no number 'Smiling'"),
        ({"0002.json": b'{"age": NaN, "Smiling": 1}'}, "has no number 'age'"),
        ({"0002.json": b'{"age": 1' + b"0" * 400 + b', "Smiling": 1}'}, "has no number 'age'"),
        ({"0002.json": b'{"age": 1, "Smiling": 1, "text": "\\ud800"}'}, r"its \.json cannot be read"),
        ({"0002.json": b" " * 2**21}, r"its \.json cannot be read"),
        ({"0002.png": b"no image"}, "cannot identify"),
    ],
)
def test_a_sample_that_lacks_something_fails_alone(tmp_path: Path, change: dict[str, bytes | None], reason: str) -> None:
    members = {name: content for name, content in (samples_of() | change).items() if content is not None}
    source = open_source(str(tar_of(tmp_path / "set.tar", members)))
    assert len(source) == 6
    for number, item in enumerate(source):
        if number == 2:
            with pytest.raises((ValueError, OSError), match=reason):
                item.load()
        else:
            assert is_picture(item, number)
            assert (item.label, item.attributes) == (number % 3, (number % 2, number / 4))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_a_tar_is_not_followed(tmp_path: Path, kind: bytes) -> None:
    path = tar_of(tmp_path / "set.tar", {"a.png": png(0), "b.png": png(1)})
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("c.png")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    source = open_source(str(path))
    assert [item.key for item in source] == ["a.png", "b.png", "c.png"]
    assert is_picture(source.items[1], 1)
    with pytest.raises(ValueError, match="is a link, a device or a sparse file"):
        source.items[2].load()


def cut(path: Path, keep: float) -> Path:
    content = path.read_bytes()
    return written(path, content[: int(len(content) * keep)])


def flipped(path: Path, place: int) -> Path:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x55
    return written(path, bytes(content))


def cut_between_members(path: Path) -> Path:
    with tarfile.open(tar_of(path, samples_of())) as tar:
        place = tar.getmembers()[8].offset
    return written(path, path.read_bytes()[:place])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: tar_of(tmp / "h.tar", {"a.png": png(0), "../b.png": png(1)}), r"h\.tar: .*'\.\./b\.png' leads out"),
        (lambda tmp: tar_of(tmp / "h.tar", {"a.png": png(0), "/etc/b.png": png(1)}), r"h\.tar: .*'/etc/b\.png' leads out"),
        (lambda tmp: tar_of(tmp / "h.tar", {"a.png": png(0), "../b.txt": b""}), r"h\.tar: .*leads out"),
        (lambda tmp: tar_of(tmp / "h.tgz", {"a.png": png(0), "a/../../b.png": b""}, mode="w:gz"), r"h\.tgz: .*leads out"),
        (lambda tmp: tar_of(tmp / "empty.tar", {}), "empty.tar: has no images"),
        (lambda tmp: tar_of(tmp / "t.tar", {"a.txt": b"x"}), "t.tar: has no images"),
        (lambda tmp: cut(tar_of(tmp / "cut.tar", TREE), 0.3), "cut.tar: cannot be read as a tar"),
        (lambda tmp: cut(tar_of(tmp / "cut.tgz", TREE, mode="w:gz"), 0.7), "cut.tgz: cannot be read as a tar"),
        (lambda tmp: flipped(tar_of(tmp / "f.tgz", TREE, mode="w:gz"), 300), "f.tgz: cannot be read as a tar"),
        (lambda tmp: flipped(tar_of(tmp / "f.tar", samples_of()), 1024 + 3), "f.tar: .*cut short or damaged"),
        (lambda tmp: cut_between_members(tmp / "m.tar"), "m.tar: .*cut short or damaged"),
        (lambda tmp: written(tmp / "n.tar", b"no tar"), "n.tar: cannot be read as a tar"),
        (lambda tmp: written(tmp / "n.tar.gz", b"\x1f\x8bno gzip"), "n.tar.gz: cannot be read as a tar"),
        (lambda tmp: tar_of(tmp / "x.tar.xz", TREE, mode="w:xz"), "x.tar.xz: .*unpack it to a .tar"),
        (lambda tmp: tar_of(tmp / "two.tar", samples_of() | {"0001.jpg": png(0)}), "two.tar: 0001.jpg is the second image"),
        (lambda tmp: tar_of(tmp / "l.tar", {"a.png": png(0), "a.cls": b"9" * 30}), "l.tar: label 9+ is above"),
        (lambda tmp: zip_of(tmp / "h.zip", {"a.png": png(0), "../b.txt": b""}), r"h\.zip: member '\.\./b\.txt' leads out"),
    ],
)
def test_a_hostile_or_broken_archive_is_one_line(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    path = make(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        open_source(str(path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "set.tar", {"a.png": png(0)})
    with tarfile.open(path, "a") as tar:
        tar.addfile(tar.getmembers()[0], io.BytesIO(png(1)))
    with pytest.raises(ValueError, match=r"set\.tar: has two members 'a\.png'"):
        open_source(str(path))
    path = zip_of(tmp_path / "set.zip", {"a.png": png(0), "b.png": png(1)})
    written(path, path.read_bytes().replace(b"b.png", b"a.png"))
    with pytest.raises(ValueError, match=r"set\.zip: has two members of one name"):
        open_source(str(tmp_path / "set.zip"))


def test_items_load_in_a_spawned_process_and_in_threads(tmp_path: Path) -> None:
    paths = [zip_of(tmp_path / "set.zip", TREE), tar_of(tmp_path / "set.tgz", TREE, mode="w:gz")]
    paths += [folder_of(tmp_path / "folder", "a.png", "b.png"), tar_of(tmp_path / "set.tar", samples_of())]
    items = [item for path in paths for item in open_source(str(path))]
    here = [pixels(item).tobytes() for item in items]  # with files that are open here
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert [pool.submit(item.load).result().tobytes() for item in items] == here
    seen: list[bool] = []
    threads = [threading.Thread(target=lambda: seen.append([pixels(item).tobytes() for item in items] == here)) for _ in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True, True]


def test_a_file_is_opened_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    get = PerProcess(opened.append)
    path = str(written(tmp_path / "a", b"x"))
    for _ in range(3):
        get(path)
    assert len(opened) == 1
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
    get(path)
    assert len(opened) == 2
    written(Path(path), b"xy")
    get(path)
    assert len(opened) == 3


def test_a_gzip_seeks_as_a_file_does(tmp_path: Path) -> None:
    generator = random.Random(0)
    content = generator.randbytes(300_000) + bytes(12_000_000) + bytes(generator.choices(b"abcdef", k=1_000_000))
    path = written(tmp_path / "x.gz", gzip.compress(content[:7_000_000]) + gzip.compress(content[7_000_000:]) + bytes(512))
    with io.BufferedReader(SeekableGzip(str(path))) as file:
        assert file.read() == content
        for _ in range(40):
            start, size = generator.randrange(len(content)), generator.randrange(60_000)
            file.seek(start)
            assert file.read(size) == content[start : start + size]
        assert file.seek(len(content) + 5) == len(content)
        assert file.read(1) == b""


@pytest.mark.parametrize("name", ["set.tar", "set.tgz", "set.zip"])
def test_damage_at_random_is_refused_or_fails_an_image(tmp_path: Path, name: str) -> None:
    generator = random.Random(name)
    path = tmp_path / name
    whole = (
        zip_of(path, samples_of())
        if name.endswith("zip")
        else tar_of(path, samples_of(), mode="w:gz" if name == "set.tgz" else "w")
    )
    content = whole.read_bytes()
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(generator.choice([1, 3])):
            start, size = generator.randrange(len(damaged)), generator.randrange(1, 300)
            damaged[start : start + size] = generator.choice([b"", b"\xff", generator.randbytes(4), damaged[-size:]])
        written(path, bytes(damaged))
        try:
            source = open_source(str(path))
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017  # most damage is one, some is none
            continue
        for item in source:
            with contextlib.suppress(Exception):
                item.load()
