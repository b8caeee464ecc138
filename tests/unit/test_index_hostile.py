"""Tars that an attacker, or a broken tool, may have written: refused in one line, whatever tarfile makes of them."""

import tarfile
from pathlib import Path

import pytest

from bigan.data.index import ShardIndex

from .tars import write_tar


@pytest.mark.parametrize(
    "name", ["../a.png", "a/../../b.png", "/etc/a.png", "a\\b.png", "a\nb.png", "noextension", ".png", "a/.png", "a."]
)
def test_a_hostile_member_name_is_refused(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "s.tar", [("good.png", b"1"), (name, b"2")])
    with pytest.raises(ValueError, match=r"s\.tar: .* is no name of the form"):
        ShardIndex.build(path)


def pax(size: int, records: bytes) -> bytes:
    """A PAX header of so many bytes before a member."""
    info = tarfile.TarInfo("./PaxHeaders/a")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.GNU_FORMAT) + records.ljust(512, b"\0")


@pytest.mark.parametrize(
    "head",
    [
        pax(2**33, b""),
        pax(20, b"20 size=-5\n"),
        pax(30, b"27 GNU.sparse.map=a,b\n"),
        pax(0, b"") * 3000,
    ],
)
def test_hostile_headers_are_one_line(tmp_path: Path, head: bytes) -> None:
    """tarfile raises ValueError, RecursionError and MemoryError on them, or passes them over."""
    path = write_tar(tmp_path / "s.tar", [("a.png", b"1")])
    path.write_bytes(head + path.read_bytes())
    with pytest.raises(ValueError, match=r"s\.tar: ") as caught:
        ShardIndex.build(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
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
