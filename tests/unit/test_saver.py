"""Saving while a run goes on: it waits for a copy alone, and whatever goes wrong with the rest is told and costs nothing."""

import errno
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import candidates, load, newest
from bigan.distributed.saver import Saver

from .saved import made


class Gate:
    """Holds the writes up until it is opened, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.entered, self.at_once, self.most = threading.Event(), threading.Event(), 0, 0
        write = checkpoint._write

        def held(*arguments: Any) -> None:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self.entered.set()
            assert self.open.wait(60)
            write(*arguments)
            self.at_once -= 1

        monkeypatch.setattr(checkpoint, "_write", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def test_what_is_written_is_what_was_there_when_it_was_asked_for(tmp_path: Path, gate: Gate) -> None:
    """Steps in place follow at once; tied weights, views and any layout are copied as they are."""
    rows, nhwc = torch.randn(4, 3), torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    tied = nn.Linear(2, 2)
    live = {"a": rows, "head": rows[:2], "wide": rows[0].expand(5, 3), "nhwc": nhwc, "n": torch.tensor(7), "w": tied.weight}
    wanted = {name: tensor.detach().clone() for name, tensor in live.items()}
    with Saver(tmp_path, keep=1) as saver:
        saver.save(replace(made(1), tensors={**live, "tied": tied.weight, "bf16": torch.ones(3).bfloat16()}))
        assert gate.entered.wait(60)
        with torch.no_grad():
            for name in ("a", "nhwc", "n", "w"):
                live[name].zero_()
        assert newest(tmp_path) is None
        assert saver.problem is None
        gate.open.set()
    read = load(tmp_path / "round_00000001").tensors
    assert read["bf16"].dtype == torch.bfloat16
    for name, tensor in (wanted | {"tied": wanted["w"]}).items():
        assert torch.equal(read[name], tensor), name


def test_one_write_at_a_time_into_memory_that_is_used_again(tmp_path: Path, gate: Gate) -> None:
    """A second save waits for the first, or it would copy into what is being written."""
    value = torch.ones(1000)
    with Saver(tmp_path, keep=9) as saver:
        saver.save(replace(made(1), tensors={"v": value, "gone": value}))
        before = saver._memory["v"].data_ptr()
        assert gate.entered.wait(60)

        def rest() -> None:
            for round in (2, 3):
                value.fill_(round)
                saver.save(replace(made(round), tensors={"v": value}))

        second = threading.Thread(target=rest)
        second.start()
        second.join(0.2)
        assert second.is_alive()
        gate.open.set()
        second.join(60)
        saver.wait()
        assert saver._memory["v"].data_ptr() == before
        saver.save(replace(made(4), tensors={"v": torch.full((7,), 4.0)}), wait=True)
        assert newest(tmp_path) == tmp_path / "round_00000004"
    assert gate.most == 1
    for path in candidates(tmp_path):
        assert load(path).tensors["v"].eq(checkpoint.round_of(path)).all(), path


def full(*_: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def closed(*_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system", "state.json")


@pytest.mark.parametrize(
    ("what", "fail", "told"),
    [
        ("save_file", full, "tensors.safetensors: cannot be written (No space left on device)"),
        ("_seal", closed, "state.json: cannot be written (Read-only file system)"),
    ],
)
def test_a_write_that_fails_is_told_until_somebody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, fail: Callable[..., None], told: str
) -> None:
    with Saver(tmp_path, keep=1) as saver:
        saver.save(made(1), wait=True)
        assert saver.problem is None
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, what, fail)
            saver.save(made(2), wait=True)
        saver.save(made(3))
        assert str(saver.problem).endswith(told)
        assert not saver.diverged
        assert [path.name for path in tmp_path.iterdir()] == ["round_00000001"]
    with Saver(tmp_path, keep=1) as saver:
        saver.save(made(3), wait=True)
        assert saver.problem is None
    assert [path.name for path in tmp_path.iterdir()] == ["round_00000003"]


def test_a_disk_that_is_full_costs_nothing_that_stood(tmp_path: Path) -> None:
    """A real limit on the size of files, in a process of its own; whatever file is the first to be too large."""
    script = (
        "import resource, sys, torch; from dataclasses import replace; from pathlib import Path\n"
        "from bigan.clock import Clock; from bigan.distributed.checkpoint import Checkpoint, newest\n"
        "from bigan.distributed.saver import Saver\n"
        "folder = Path(sys.argv[1])\n"
        "small = Checkpoint(Clock(batch=1, round=1), {}, {}, {'w': torch.ones(5)})\n"
        "with Saver(folder, keep=1) as saver: saver.save(small, wait=True)\n"
        "assert saver.problem is None\n"
        "large = replace(small, clock=Clock(batch=1, round=2), tensors={'w': torch.ones(100_000)})\n"
        "wordy = replace(small, clock=Clock(batch=1, round=3), config={'name': 'x' * 100_000})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "for each, file in ((large, 'tensors.safetensors'), (wordy, '')):\n"
        "    with Saver(folder, keep=1) as saver: saver.save(each, wait=True)\n"
        "    assert file + ': cannot be written (File too large)' in saver.problem, saver.problem\n"
        "    assert [p.name for p in folder.iterdir()] == ['round_00000001'], list(folder.iterdir())\n"
        "    assert newest(folder) is not None\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_never_published(tmp_path: Path, value: float) -> None:
    bad = {f"player.a.{k}": torch.tensor([1.0, value]) for k in range(5)}
    with Saver(tmp_path, keep=1) as saver:
        saver.save(made(1), wait=True)
        saver.save(made(2, **bad), wait=True)
        assert saver.problem == (
            "infinite or NaN at round 2: player.a.0, player.a.1, player.a.2 and 2 more; what was saved before stands"
        )
        assert saver.diverged
    assert [path.name for path in tmp_path.iterdir()] == ["round_00000001"]


def test_a_fence_keeps_a_forgotten_job_out(tmp_path: Path) -> None:
    allowed = True

    def fence() -> None:
        if not allowed:
            raise RuntimeError("job 7 has the run")

    with Saver(tmp_path, keep=1, fence=fence) as saver:
        saver.save(made(1), wait=True)
        allowed = False
        saver.save(made(2), wait=True)
        assert saver.problem == "job 7 has the run"
    assert [path.name for path in tmp_path.iterdir()] == ["round_00000001"]


def test_a_mistake_of_ours_is_no_problem_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_write", lambda *_: {}["missing"])
    with Saver(tmp_path, keep=1) as saver:
        saver.save(made(1), wait=True)
        with pytest.raises(KeyError, match="missing"):
            _ = saver.problem


def test_closing_waits_for_what_is_being_written(tmp_path: Path, gate: Gate) -> None:
    saver = Saver(tmp_path, keep=1)
    saver.save(made(1))
    assert gate.entered.wait(60)
    closing = threading.Thread(target=saver.close)
    closing.start()
    gate.open.set()
    closing.join(60)
    assert newest(tmp_path) == tmp_path / "round_00000001"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bigan-save")]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    left = tmp_path / "round_00000001.x.incomplete"
    left.mkdir()
    with Saver(tmp_path, keep=1, writes=False) as saver:
        saver.save(made(1), wait=True)
        assert saver.problem is None
    assert list(tmp_path.iterdir()) == [left]
    with Saver(tmp_path, keep=1):
        assert not left.exists()
