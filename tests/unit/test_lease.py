"""The lease of a run folder, between processes that take each other's place."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bigan.distributed import lease as module
from bigan.distributed.lease import FencedError, Lease
from bigan.files import save

LEFT = {"token": "old", "job": "", "restart": 0, "host": "far", "machine": "m", "pid": 7, "beat": "000000000005"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWAL_S", 0.05)
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    monkeypatch.setattr(module, "SETTLING_S", 0.05)
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Lease]:
    lease = Lease(tmp_path)
    lease.take(sole=True)
    yield lease
    lease.release()


def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "lease.json").read_text())


def left_behind(folder: Path, **changes: Any) -> None:
    """A lease whose holder is dead."""
    save(folder / "lease.json", json.dumps(LEFT | changes).encode())


def beats(folder: Path, until: int) -> None:
    while int(content(folder)["beat"]) < until:
        time.sleep(0.01)


def test_it_is_taken_renewed_and_released(tmp_path: Path) -> None:
    lease = Lease(tmp_path)
    lease.take(sole=False)
    beats(tmp_path, 3)
    assert content(tmp_path)["pid"] == os.getpid()
    lease.check()
    assert not lease.lost
    lease.release()
    lease.release()
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_lives_keeps_it(tmp_path: Path, held: Lease) -> None:
    """On another machine, or where no lock says that it is dead."""
    with pytest.raises(ValueError, match="another process is training this run"):
        Lease(tmp_path).take(sole=False)
    held.check()


def test_a_dead_holders_is_taken_after_a_while(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_behind(tmp_path)
    lease = Lease(tmp_path)
    lease.take(sole=True)  # the lock is of this machine, the holder was on another
    lease.check()
    assert "waiting to see whether far, pid 7 still trains this run" in capsys.readouterr().out
    lease.release()


@pytest.mark.parametrize(
    ("before", "sole", "job", "restart"),
    [
        ({"machine": module._machine()}, True, "", "0"),  # the lock of this machine is ours, so it is dead
        ({"job": "12", "restart": 1}, False, "12", "2"),  # Slurm ended it before it started the job again
    ],
)
def test_a_holder_that_is_known_to_be_dead_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, Any], sole: bool, job: str, restart: str
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 1e6)
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
    left_behind(tmp_path, **before)
    lease = Lease(tmp_path)
    lease.take(sole=sole)
    lease.check()
    lease.release()


@pytest.mark.parametrize(("job", "restart"), [("12", "1"), ("12", "0"), ("13", "5"), ("", "0")])
def test_any_other_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, restart: str) -> None:
    class WaitedError(Exception):
        pass

    def wait(*_: object) -> None:
        raise WaitedError

    monkeypatch.setattr(Lease, "_watch", wait)
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
    left_behind(tmp_path, job="12", restart=1)
    with pytest.raises(WaitedError):
        Lease(tmp_path).take(sole=False)


def test_who_lost_it_may_write_no_more_and_leaves_the_new_one_alone(tmp_path: Path, held: Lease) -> None:
    left_behind(tmp_path, token="new", host="near", job="99")
    newer = (tmp_path / "lease.json").read_bytes()
    with pytest.raises(FencedError, match=r"taken this run over \(job 99, near, pid 7\); this process \(.*\) ends, and writes"):
        held.check()
    held.release()
    assert (tmp_path / "lease.json").read_bytes() == newer


def test_the_thread_that_renews_sees_it_too(tmp_path: Path, held: Lease) -> None:
    left_behind(tmp_path)
    newer = (tmp_path / "lease.json").read_bytes()
    while not held.lost:
        time.sleep(0.01)
    assert (tmp_path / "lease.json").read_bytes() == newer


def test_a_lease_that_is_gone_is_lost(tmp_path: Path, held: Lease) -> None:
    """Its successor may have ended already."""
    (tmp_path / "lease.json").unlink()
    with pytest.raises(FencedError, match="is gone"):
        held.check()


def test_a_renewal_never_counts_in_the_successors_file(tmp_path: Path, held: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the lease is lost between the question and the write."""
    asked, written = threading.Event(), threading.Event()
    ask: Callable[[Lease], None] = Lease._ask

    def lose(lease: Lease) -> None:
        if asked.is_set():
            written.set()
            held._over.set()
        else:
            ask(lease)
            left_behind(tmp_path)
            asked.set()

    newer = json.dumps(LEFT).encode()
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "_ask", lose)
        assert written.wait(60)
    assert (tmp_path / "lease.json").read_bytes() == newer


def test_a_file_system_that_hesitates_ends_nothing(tmp_path: Path, held: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*_: object) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", stale)
        patch.setattr(module, "_read", stale)
        held._over.wait(0.2)
        assert not held.lost
        with pytest.raises(OSError, match="Stale"):
            held.check()
    now = int(content(tmp_path)["beat"])
    beats(tmp_path, now + 2)
    held.check()


def test_a_file_that_is_no_lease_is_named(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text("{}")
    with pytest.raises(ValueError, match=r"lease\.json: is no lease"):
        Lease(tmp_path).take(sole=False)


def test_of_two_newcomers_one_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path)

    def slower(seconds: float) -> None:
        if seconds == module.SETTLING_S:
            left_behind(tmp_path, token="another")

    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(module.time, "sleep", slower)
    with pytest.raises(ValueError, match="another process is training this run"):
        Lease(tmp_path).take(sole=False)
    assert content(tmp_path)["token"] == "another"
