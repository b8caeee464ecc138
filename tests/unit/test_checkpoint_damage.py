"""A checkpoint that a disk damaged, a full disk or a kill cut short, or another bigan wrote."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import load, newest, problem, save, verifies

from .saved import DAMAGES, FILES, flip, made

DIE = Path(__file__).with_name("save_and_die.py")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_one_before_is_taken_where_the_newest_is_damaged(tmp_path: Path, file: str, damage: Callable[[Path], None]) -> None:
    good, bad = save(tmp_path, made(1), keep=3), save(tmp_path, made(2), keep=3)
    assert newest(tmp_path) == bad
    damage(bad / file)
    assert not verifies(bad)
    assert file == "manifest.json" or str(problem(bad)).startswith(f"{file} ")
    assert newest(tmp_path) == good
    damage(good / file)
    with pytest.raises(ValueError, match="all 2 checkpoints are damaged"):
        newest(tmp_path)


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    """A flipped bit (each third is) is damage wherever it is, and never a newer schema, a file elsewhere, or a traceback."""
    path = save(tmp_path, made(1), keep=1) / "manifest.json"
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 3):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        assert problem(path.parent) is not None, bytes(content)


@pytest.mark.parametrize(
    "manifest",
    ["[]", "null", '{"schema": 1}', '{"schema": 1, "files": {}}', '{"schema": 2, "files": {}}', '{"schema":1,"files":3}'],
)
def test_a_manifest_that_vouches_for_nothing_does_not_verify(tmp_path: Path, manifest: str) -> None:
    path = save(tmp_path, made(1), keep=1)
    (path / "manifest.json").write_text(manifest)
    assert not verifies(path)


@pytest.mark.parametrize("file", FILES[:2])
def test_a_manifest_that_leaves_a_file_out_does_not_verify(tmp_path: Path, file: str) -> None:
    path = save(tmp_path, made(1), keep=1)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"][file]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert problem(path) == f"manifest.json vouches for no {file}"


def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    path = save(tmp_path, made(1), keep=1)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../secret"] = manifest["files"]["state.json"]
    shutil.copy(path / "state.json", tmp_path / "secret")
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert problem(path) == "manifest.json cannot be read"


def rewritten(path: Path, schema: int) -> None:
    """As a bigan of another schema would have written it."""
    state = json.loads((path / "state.json").read_text()) | {"schema": schema, "clocks": "of another kind"}
    (path / "state.json").write_text(json.dumps(state))
    files = {"state.json": checkpoint._seal(path / "state.json")}
    (path / "manifest.json").write_text(json.dumps({"schema": schema, "files": files}))


def test_a_newer_schema_is_refused_as_what_it_is(tmp_path: Path) -> None:
    """Neither damaged, nor passed over for an older one: that would throw away what was trained since."""
    save(tmp_path, made(1), keep=2)
    path = save(tmp_path, made(2), keep=2)
    rewritten(path, checkpoint.SCHEMA + 1)
    with pytest.raises(ValueError, match=rf"{path}: was written by a newer bigan \(schema 2; this one reads 1\)"):
        newest(tmp_path)
    flip(path / "state.json")
    assert newest(tmp_path) == tmp_path / "round_00000001"


def test_what_verifies_and_is_no_checkpoint_is_refused_in_a_line(tmp_path: Path) -> None:
    path = save(tmp_path, made(1), keep=1)
    (path / "state.json").write_text('{"schema": 1, "clock": {"rounds": 3}}')
    with pytest.raises(ValueError, match="is no checkpoint that bigan wrote"):
        load(path)


@pytest.mark.parametrize("again", [False, True], ids=["next round", "same round"])
def test_a_kill_at_any_call_leaves_a_checkpoint_that_loads(tmp_path: Path, again: bool) -> None:
    """SIGKILL before the k-th call that changes the disk, for every k: the one before or the new one, whole, is found."""
    command = [sys.executable, str(DIE), str(tmp_path), "again" if again else "next"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert len(told["calls"]) > 15
    assert {"os.fsync", "os.rename", "open", "os.rmdir"} <= set(told["calls"])
    assert told["found"] == sorted(told["found"])
    assert {*told["found"]} == {1, 2}
    assert told["left"] == []
