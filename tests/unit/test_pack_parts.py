"""Parts of one packing, in processes that know nothing of each other: one data set, whoever comes first, last or twice."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigan.data import pack as packing
from bigan.data import publish
from bigan.data.pack import PackReport, pack
from bigan.data.sources import open_source
from bigan.data.unfinished import Unfinished

from .packed import ROOT, checked
from .pictures import contents, folder_of, written

PARTS = 3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "set", *(f"{n:02d}.png" for n in range(13)))


def packed(root: Path, out: Path, number: int | None = None, **settings: Any) -> PackReport:
    part = None if number is None else (number, PARTS)
    return pack(open_source(str(root)), out, **{"size": 4, "channels": 1, "samples_per_shard": 2, "part": part, **settings})


@pytest.fixture
def ready(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OUT, all of whose shards lie in OUT.incomplete: nobody has published it yet."""
    out = tmp_path / "out"
    for part in range(PARTS - 1):
        packed(root, out, part)
    with monkeypatch.context() as patch:
        patch.setattr(packing, "put_in_place", die)
        with pytest.raises(RuntimeError):
            packed(root, out, PARTS - 1)
    assert len(list((tmp_path / "out.incomplete").glob("*.done.json"))) == 7
    return out


def die(*_: Any, **__: Any) -> None:
    raise RuntimeError


def alone(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("part", "settings", "message"),
    [
        ((3, 3), {}, "part: 3/3; give I/N with I from 0 to N-1"),
        ((-1, 3), {}, "part: -1/3"),
        ((0, 0), {}, "part: 0/0"),
        ((0, 3), {"channels": None}, "part: needs --grey or --rgb"),
        ((0, 3), {"overwrite": True}, "part: cannot overwrite, .* delete .*out and start them again"),
    ],
)
def test_parts_that_do_not_go(tmp_path: Path, root: Path, part: tuple[int, int], settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        packed(root, tmp_path / "out", part=part, **settings)
    assert alone(tmp_path) == ["set"]


def test_more_parts_than_shards(tmp_path: Path, root: Path) -> None:
    reports = [packed(root, tmp_path / "out", part=(part, 9)) for part in reversed(range(9))]
    assert [report.finished for report in reports] == [0, 0, 1, 2, 3, 4, 5, 6, 7]
    checked(tmp_path / "out")
    assert packed(root, tmp_path / "out", part=(8, 9)).up_to_date


def test_finishers_at_once_publish_one_data_set(tmp_path: Path, root: Path, ready: Path) -> None:
    packed(root, tmp_path / "alone")
    code = (
        "import sys; from bigan.data.pack import pack; from bigan.data.sources import open_source\n"
        "source = open_source(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
        f"assert pack(source, sys.argv[2], size=4, channels=1, samples_per_shard=2, part=(int(sys.argv[3]), {PARTS})).published"
    )
    finishers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root), str(ready), str(part)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for part in [*range(PARTS), 0]
    ]  # fmt: skip
    for process in finishers:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in finishers:
        process.communicate("go\n")
    assert [process.returncode for process in finishers] == [0] * 4
    assert contents(ready) == contents(tmp_path / "alone")
    assert alone(tmp_path) == ["alone", "out", "set"]


@pytest.mark.parametrize("moment", ["read", "save", "rename", "sweep"])
def test_another_publishes_at_the_worst_moment(
    tmp_path: Path, root: Path, ready: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this one reads what is finished, writes the manifest, renames the folder, sweeps it."""
    place, name = {
        "read": (Unfinished, "finished"), "save": (publish, "save"), "rename": (os, "rename"), "sweep": (publish, "_sweep")
    }[moment]  # fmt: skip
    before: Callable[..., Any] = getattr(place, name)
    came: list[PackReport] = []

    def another_first(*arguments: Any) -> Any:
        monkeypatch.setattr(place, name, before)
        came.append(packed(root, ready, 1))
        return before(*arguments)

    monkeypatch.setattr(place, name, another_first)
    report = packed(root, ready, 0)
    assert came
    assert came[0].published == report.published == checked(ready)
    assert alone(tmp_path) == ["out", "set"]


@pytest.mark.parametrize("size", [4, 6])
def test_a_data_set_from_elsewhere_comes_first(
    tmp_path: Path, root: Path, ready: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone copies one to OUT, the same or another, while OUT.incomplete is there, too."""
    packed(root, tmp_path / "alone", size=size)
    before = os.rename

    def copied_first(*arguments: Any) -> None:
        shutil.copytree(tmp_path / "alone", ready)
        before(*arguments)

    monkeypatch.setattr(os, "rename", copied_first)
    if size == 4:
        assert packed(root, ready, 0).published == checked(ready)
        assert alone(tmp_path) == ["alone", "out", "set"]
    else:
        with pytest.raises(ValueError, match="out: was packed from another source or with other settings"):
            packed(root, ready, 0)
        assert alone(tmp_path) == ["alone", "out", "out.incomplete", "set"]
    assert contents(ready) == contents(tmp_path / "alone")


def test_giving_up_beside_parts_leaves_them_their_folder(tmp_path: Path, root: Path) -> None:
    def give_up(done: int, _total: int) -> None:
        if done == 1:
            with pytest.raises(RuntimeError):
                packed(root, tmp_path / "out", progress=die)

    for part in range(PARTS):
        packed(root, tmp_path / "out", part, progress=give_up)
    checked(tmp_path / "out")


def test_a_task_whose_twin_was_faster(tmp_path: Path, root: Path) -> None:
    """Slurm starts a task anew while the lost one still writes: the slower finds its folder published, and all is well."""
    out = tmp_path / "out"
    for part in (1, 2):
        packed(root, out, part)

    def twin(done: int, _total: int) -> None:
        if done == 3:
            assert packed(root, out, 0).published

    report = packed(root, out, 0, progress=twin)
    assert report.published == checked(out)
    assert alone(tmp_path) == ["out", "set"]


def test_two_writers_of_one_shard(tmp_path: Path, root: Path) -> None:
    unfinished = tmp_path / "out.incomplete"
    stamps: list[int] = []

    def twin(done: int, _total: int) -> None:
        if done == 1:
            packed(root, tmp_path / "out", 0)
            stamps.extend(path.stat().st_ino for path in sorted(unfinished.glob("shard-*")))

    packed(root, tmp_path / "out", 0, progress=twin)
    assert [path.stat().st_ino for path in sorted(unfinished.glob("shard-*"))] == stamps
    assert not list(unfinished.glob(".*"))
    packed(root, tmp_path / "out")
    checked(tmp_path / "out")


def test_a_folder_that_became_another_packings_is_left_alone(tmp_path: Path, root: Path) -> None:
    """The user gave up on the parts, and packs otherwise with --overwrite, before the last part knew of it."""
    out = tmp_path / "out"

    def otherwise(done: int, _total: int) -> None:
        if done == 2:
            packed(root, out, size=6, overwrite=True, progress=lambda done, _: None if done < 6 else die())

    with pytest.raises(RuntimeError):
        packed(root, out, 0, progress=otherwise)
    before = contents(tmp_path / "out.incomplete")
    packed(root, tmp_path / "elsewhere", size=6)

    def again(done: int, _total: int) -> None:
        if done == 1:
            for name, content in before.items():
                written(tmp_path / "late.incomplete" / name, content)

    with pytest.raises(ValueError, match=r"late\.incomplete: is now another packing's"):
        packed(root, tmp_path / "late", 0, progress=again)
    assert contents(tmp_path / "late.incomplete") == before
    assert contents(packed(root, out, size=6).folder) == contents(tmp_path / "elsewhere")


def test_a_part_that_starts_after_the_end_finds_it_done(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    before = Unfinished.begin

    def end_first(self: Unfinished, *arguments: Any, **settings: Any) -> bool:
        monkeypatch.setattr(Unfinished, "begin", before)
        packed(root, out)
        return before(self, *arguments, **settings)

    monkeypatch.setattr(Unfinished, "begin", end_first)
    assert packed(root, out, 0).published == checked(out)
    assert alone(tmp_path) == ["out", "set"]


def test_what_killed_writers_left_is_swept_at_the_end(tmp_path: Path, root: Path) -> None:
    packed(root, tmp_path / "out", 0)
    unfinished = tmp_path / "out.incomplete"
    half = ".shard-000001.tar.host-1-00000000.tmp"
    for name in (half, ".request.json.host-1-00000000.tmp", "shard-000099.tar", "skipped.txt"):
        written(unfinished / name, b"half")
    packed(root, tmp_path / "out", 1)
    assert (unfinished / half).is_file()  # its writer may live
    packed(root, tmp_path / "out", 2)
    checked(tmp_path / "out")
    for name in ("request.json", "shard-000001.done.json", ".manifest.json.host-1-00000000.tmp"):
        written(tmp_path / "out" / name, b"left by one that was killed as it swept")
    assert packed(root, tmp_path / "out").up_to_date
    checked(tmp_path / "out")


def test_parts_of_nothing_readable_leave_nothing_behind(tmp_path: Path, root: Path) -> None:
    for path in root.iterdir():
        path.write_bytes(b"broken")
    for part in range(PARTS - 1):
        assert packed(root, tmp_path / "out", part).skipped
    with pytest.raises(ValueError, match="none of its 13 images can be read"):
        packed(root, tmp_path / "out", PARTS - 1)
    assert alone(tmp_path) == ["set"]


def test_a_finished_shard_that_is_gone_at_once_is_an_error(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Unfinished.finished

    def lose(self: Unfinished) -> list[int]:
        (self.folder / "shard-000003.tar").unlink(missing_ok=True)
        return before(self)

    monkeypatch.setattr(Unfinished, "finished", lose)
    with pytest.raises(ValueError, match=r"out\.incomplete: shard 3 was written and is gone; run the same command again"):
        packed(root, tmp_path / "out", 0)
