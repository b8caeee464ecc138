"""A packing that was ended goes on, alone or in parts, and nobody can tell from the bytes."""

import json
import os
import signal
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from bigan.data import pack as packing
from bigan.data.pack import PackReport, pack
from bigan.data.sources import open_source

from .packed import ROOT, checked
from .pictures import contents, folder_of, written

KILLED = (sys.executable, str(Path(__file__).with_name("pack_and_die.py")))
SETTINGS: dict[str, Any] = {"size": 5, "samples_per_shard": 3, "channels": 3}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty images, two of them broken: seven shards."""
    root = folder_of(tmp_path / "set", *(f"{'ab'[n % 2]}/{n:02d}.png" for n in range(20)), mode="RGB")
    for name in ("a/02.png", "b/17.png"):
        written(root / name, b"broken")
    return root


def packed(root: Path, out: Path, **settings: Any) -> PackReport:
    return pack(open_source(str(root)), out, **{**SETTINGS, **settings})


def killed(root: Path, out: Path, *, at: int, workers: int = 1) -> None:
    """A packing in a process of its own that is ended without a word once so many images are done."""
    command = [*KILLED, str(root), str(out), str(at), str(workers), json.dumps(SETTINGS)]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == -signal.SIGKILL


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def finished(folder: Path) -> list[int]:
    return sorted(int(path.name[6:12]) for path in folder.glob("shard-*.done.json"))


def test_bytes_do_not_depend_on_workers_or_parts(tmp_path: Path, root: Path) -> None:
    expected = packed(root, tmp_path / "one")
    assert expected.manifest.spec.samples == 18
    checked(tmp_path / "one")
    seen: list[tuple[int, int]] = []
    assert packed(root, tmp_path / "two", workers=2, progress=lambda *each: seen.append(each)) == PackReport(
        folder=tmp_path / "two", shards=7, finished=7, published=expected.manifest, skipped=expected.skipped
    )
    assert seen == sorted(set(seen))
    assert seen[-1] == (20, 20)
    for place, order in enumerate(permutations(range(3))):
        out = tmp_path / f"parts{place}"
        reports = [packed(root, out, part=(part, 3)) for part in order]
        assert [report.finished for report in reports][-1] == 7
        assert [report.published is None for report in reports] == [True, True, False]
        assert reports[-1].skipped == expected.skipped
        assert contents(out) == contents(tmp_path / "one")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert not list(tmp_path.glob("*.incomplete")) + list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_packing_goes_on(tmp_path: Path, root: Path, workers: int) -> None:
    packed(root, tmp_path / "straight")
    out, unfinished = tmp_path / "out", tmp_path / "out.incomplete"
    killed(root, out, at=15, workers=workers)
    assert not out.exists()
    there = finished(unfinished)
    assert 3 <= len(there) < 7, there
    damaged, lost, cut, *_ = (unfinished / f"shard-{shard:06d}.tar" for shard in there)
    bytes_of = damaged.read_bytes()
    damaged.write_bytes(bytes_of[:600] + bytes([bytes_of[600] ^ 1]) + bytes_of[601:])
    lost.with_suffix(".index.json").write_bytes(b"{}")
    cut.write_bytes(cut.read_bytes()[:-1])
    before = stamps(unfinished)
    report = packed(root, out, workers=workers)
    assert contents(out) == contents(tmp_path / "straight")
    assert not report.up_to_date
    after = stamps(out)
    made_anew = {name for name in after if before.get(name) != after[name]}
    again = {path.name for path in (damaged, lost, cut)}
    assert {name for name in made_anew if name.endswith(".tar")} == again | {
        f"shard-{shard:06d}.tar" for shard in range(7) if shard not in there
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set", "straight"]


def test_a_part_goes_on_with_its_own_shards(tmp_path: Path, root: Path) -> None:
    unfinished = tmp_path / "out.incomplete"
    for part in (0, 1):
        packed(root, tmp_path / "out", part=(part, 3))
    assert finished(unfinished) == [0, 1, 3, 4, 6]
    before = stamps(unfinished)
    (unfinished / "shard-000003.tar").write_bytes((unfinished / "shard-000003.tar").read_bytes()[::-1])
    report = packed(root, tmp_path / "out", part=(0, 3))
    assert (report.finished, report.published) == (5, None)
    after = stamps(unfinished)
    assert {name for name in before if before[name] != after[name]} == {
        "shard-000003.tar", "shard-000003.index.json", "shard-000003.done.json"
    }  # fmt: skip
    assert packed(root, tmp_path / "out").manifest.spec.samples == 18  # whoever packs without parts makes the rest
    checked(tmp_path / "out")


def test_a_part_makes_a_shard_of_another_that_is_found_short(tmp_path: Path, root: Path) -> None:
    packed(root, tmp_path / "out", part=(0, 2))
    tar = tmp_path / "out.incomplete" / "shard-000002.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    report = packed(root, tmp_path / "out", part=(1, 2))
    assert (report.finished, report.published) == (6, None)
    assert packed(root, tmp_path / "out", part=(0, 2)).published
    checked(tmp_path / "out")


def test_progress_counts_what_was_finished_before(tmp_path: Path, root: Path) -> None:
    killed(root, tmp_path / "out", at=15)
    seen: list[tuple[int, int]] = []
    packed(root, tmp_path / "out", progress=lambda *each: seen.append(each))
    assert seen[0] == (3, 20)
    assert seen[-1] == (20, 20)


def test_an_unfinished_packing_below_its_source_is_no_part_of_it(tmp_path: Path, root: Path) -> None:
    packed(root, tmp_path / "elsewhere")
    killed(root, root / "packed", at=15)
    assert {"packed.incomplete", "packed.lock"} < {path.name for path in root.iterdir()}
    packed(root, root / "packed")
    assert contents(root / "packed") == contents(tmp_path / "elsewhere")
    assert sorted(path.name for path in root.iterdir()) == ["a", "b", "packed"]


def test_an_unfinished_packing_of_another_request_is_refused(tmp_path: Path, root: Path) -> None:
    packed(root, tmp_path / "out", part=(0, 2))
    unfinished = tmp_path / "out.incomplete"
    before = stamps(unfinished)
    others = ({"size": 6}, {"format": "webp"}, {"samples_per_shard": 4}, {"keep_order": True}, {"part": (0, 2), "size": 6})
    for settings in others:
        with pytest.raises(ValueError, match=r"out\.incomplete: is an unfinished packing of another source or with other sett"):
            packed(root, tmp_path / "out", **settings)
    assert stamps(unfinished) == before
    assert packed(root, tmp_path / "out", size=6, overwrite=True).manifest.spec.image_shape == (3, 6, 6)
    checked(tmp_path / "out")
    assert not unfinished.exists()


def test_other_encoders_are_refused(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one version some shards, of another the rest: the same request would give other bytes each time."""
    packed(root, tmp_path / "out", part=(0, 2))
    monkeypatch.setattr(packing, "encoders", lambda: {"pillow": "99.0"})
    for settings in ({}, {"part": (1, 2)}):
        message = r"out\.incomplete: is an unfinished packing by pillow \d.* webp .*, and here is pillow 99\.0; finish it there"
        with pytest.raises(ValueError, match=message):
            packed(root, tmp_path / "out", **settings)
    packed(root, tmp_path / "out", overwrite=True)
    checked(tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 1}', b"\xff"])
def test_a_damaged_request_is_refused(tmp_path: Path, root: Path, content: bytes) -> None:
    packed(root, tmp_path / "out", part=(0, 2))
    (tmp_path / "out.incomplete" / "request.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"out\.incomplete: is (damaged|an unfinished packing of another).*; delete it"):
        packed(root, tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"[]",
        lambda content: content.replace(b'"samples": 3', b'"samples": -3'),
        lambda content: content.replace(b'"skipped": []', b'"skipped": [7]'),
        lambda content: content.replace(b'"request": "', b'"request": "0'),
        lambda content: content.replace(b"shard-000003.tar", b"shard-000004.tar"),
        lambda content: json.dumps({**json.loads(content), "entry": 5}).encode(),
    ],
)
def test_a_shard_that_only_seems_finished_is_made_anew(tmp_path: Path, root: Path, change: Any) -> None:
    packed(root, tmp_path / "straight")
    packed(root, tmp_path / "out", part=(0, 3))
    done = tmp_path / "out.incomplete" / "shard-000003.done.json"
    content = done.read_bytes()
    assert change(content) != content
    done.write_bytes(change(content))
    packed(root, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_a_shard_that_claims_another_is_made_anew(tmp_path: Path, root: Path) -> None:
    packed(root, tmp_path / "out", part=(0, 3))
    done = tmp_path / "out.incomplete" / "shard-000003.done.json"
    done.write_bytes(done.with_name("shard-000000.done.json").read_bytes())
    assert packed(root, tmp_path / "out").manifest.spec.samples == 18
    checked(tmp_path / "out")


def test_a_colour_image_among_grey_ones_ends_it_for_good(tmp_path: Path) -> None:
    """What is finished could be no part of either: the user must say which it is to be."""
    folder_of(tmp_path / "set", *(f"{n:02d}.png" for n in range(20)))
    folder_of(tmp_path / "set", "30.png", mode="RGB")
    for workers in (1, 2):
        with pytest.raises(ValueError, match=r"30\.png: is in colour.* --grey or --rgb"):
            pack(open_source(str(tmp_path / "set")), tmp_path / "out", size=4, samples_per_shard=2, workers=workers)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]
