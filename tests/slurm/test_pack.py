"""`sbatch slurm/pack.sh` without Slurm: its tasks are processes with the variables that Slurm would set."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ..unit.packed import ROOT, checked
from ..unit.pictures import contents, folder_of

SCRIPT = ROOT / "slurm" / "pack.sh"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the job is submitted: nine images, and `bigan` on the path."""
    folder_of(tmp_path / "set", *(f"{n}.png" for n in range(9)))
    command = tmp_path / "bin" / "bigan"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bigan "$@"\n')
    command.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def task(here: Path, number: int, indices: Sequence[int], *options: str, cpus: int | None = 1) -> subprocess.Popen[str]:
    """One task of `sbatch --array=…`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {
        "PATH": f"{here / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SLURM_ARRAY_TASK_ID": str(number),
        "SLURM_ARRAY_TASK_COUNT": str(len(indices)), "SLURM_ARRAY_TASK_MIN": str(min(indices)),
        "SLURM_ARRAY_TASK_MAX": str(max(indices)),
        "SLURM_ARRAY_TASK_STEP": str(indices[1] - indices[0] if len(indices) > 1 else 1),
    }  # fmt: skip
    if cpus is not None:
        environment["SLURM_CPUS_PER_TASK"] = str(cpus)
    return subprocess.Popen(
        [str(SCRIPT), "set", "out", *(options or ("--size", "4", "--grey", "--samples-per-shard", "2"))],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def said(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = running.communicate()
    return running.returncode, out, error


@pytest.mark.parametrize("indices", [range(3), range(5, 8), range(1, 10, 4)])
def test_tasks_at_once_make_one_data_set(here: Path, indices: range) -> None:
    running = [task(here, number, indices) for number in indices]
    ended = [said(each) for each in running]
    assert [(status, error) for status, _, error in ended] == [(0, "")] * 3
    assert sum("9 images [1, 4, 4]" in out for _, out, _ in ended) >= 1
    assert checked(here / "out").spec.samples == 9
    assert sorted(path.name for path in here.iterdir()) == ["bin", "out", "set"]


def test_what_a_failed_task_left_is_finished(here: Path) -> None:
    status, out, _ = said(task(here, 1, range(2)))
    assert status == 0
    assert out.startswith("out: 2 of 5 shards are there, among them all of part 1/2; ")
    status, out, _ = said(task(here, 0, range(1), cpus=None))
    assert (status, out) == (0, "out: packed: 9 images [1, 4, 4] of 0 classes in 5 shards; 0 skipped\n")
    before = contents(here / "out")
    status, out, _ = said(task(here, 0, range(1), cpus=2))
    assert (status, out.split(":")[1]) == (0, " is up to date")
    assert contents(here / "out") == before


def test_what_does_not_go_is_told(here: Path) -> None:
    assert said(task(here, 7, (1, 3, 7)))[0] == 2
    assert "--array must be one range without gaps" in said(task(here, 7, (1, 3, 7)))[2]
    assert "part: needs --grey or --rgb" in said(task(here, 0, range(2), "--size", "4"))[2]
    ended = subprocess.run([str(SCRIPT), "set"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: sbatch")
    assert sorted(path.name for path in here.iterdir()) == ["bin", "set"]
