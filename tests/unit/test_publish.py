"""A packed folder takes its place whole, one packing at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from bigan.data.manifest import verify
from bigan.data.pack import pack
from bigan.data.sources import open_source

from .packed import checked
from .pictures import folder_of, written


def test_what_a_killed_replacing_left_is_swept_up(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png")
    pack(open_source(str(root)), tmp_path / "out", size=4)
    stale = written(tmp_path / "out.replaced" / "shard-000000.tar", b"old")
    pack(open_source(str(root)), tmp_path / "out", size=5, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]
    written(stale, b"old")
    mine = written(tmp_path / "out.replaced" / "thesis.txt", b"mine")
    with pytest.raises(ValueError, match=r"out\.replaced: is in the way and holds thesis\.txt; move it away"):
        pack(open_source(str(root)), tmp_path / "out", size=6, overwrite=True)
    assert mine.read_bytes() == b"mine"
    assert verify(tmp_path / "out").spec.image_shape == (1, 5, 5)


def test_one_packing_at_a_time(tmp_path: Path) -> None:
    root, out = folder_of(tmp_path / "set", "a.png", "b.png"), tmp_path / "out"
    refused: list[str] = []

    def another(_done: int, _total: int) -> None:
        with pytest.raises(ValueError, match=r"out: another `bigan pack` is writing it; .+$") as caught:
            pack(open_source(str(root)), out, size=5, overwrite=True)
        refused.append(str(caught.value))

    written(tmp_path / "out.lock", b"")  # a killed packing's: nobody holds it
    assert pack(open_source(str(root)), out, size=4, samples_per_shard=1, progress=another).manifest.spec.samples == 2
    assert len(refused) == 2
    assert checked(out).spec.image_shape == (1, 4, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]
    mine = written(tmp_path / "out.lock", b"mine")
    with pytest.raises(ValueError, match=r"out\.lock: is in the way"):
        pack(open_source(str(root)), out, size=5, overwrite=True)
    assert mine.read_bytes() == b"mine"


def test_packings_at_once_end_whole_or_in_one_line(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", *(f"{number}.png" for number in range(40)))
    code = (
        "import sys; from bigan.data.pack import pack; from bigan.data.sources import open_source\n"
        "try: pack(open_source(sys.argv[1]), sys.argv[2], size=4, samples_per_shard=2)\n"
        "except ValueError as error: sys.exit(0 if 'another `bigan pack`' in str(error) else repr(error))"
    )
    command = [sys.executable, "-c", code, str(root), str(tmp_path / "out")]
    running = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert checked(tmp_path / "out").spec.samples == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]
