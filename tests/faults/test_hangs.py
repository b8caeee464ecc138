"""A rank that hangs, is stopped, or is gone: the others say which one, where it was, and end."""

import signal
import time
from pathlib import Path

import pytest

from bigan.distributed.heartbeats import Awake, Beat
from bigan.distributed.watchdog import EXIT_HUNG, _line

from .ranks import ended, pair, torchrun

HANGING = Path(__file__).with_name("hanging.py")


def said(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("bigan: ")]


def test_a_rank_that_hangs_is_named_and_all_ranks_stacks_are_kept(tmp_path: Path) -> None:
    run = torchrun(HANGING, tmp_path / "hangs", 1, "loop", 3)
    assert run.returncode != 0
    (line,) = said(run.stderr)
    assert line.startswith("bigan: no progress for ")
    assert "s: rank 1: round 5, move critic; rank 0 waits in round 5, move critic; the stacks are in" in line
    for rank, call in enumerate(("in highest", "in befall")):
        stacks = (tmp_path / "hangs" / f"rank_{rank}.txt").read_text()
        assert call in stacks
        assert call in run.stderr
        assert "in _keep_stacks" in stacks  # every thread's


def test_a_rank_that_is_stopped_says_nothing_even_if_it_keeps_the_store(tmp_path: Path) -> None:
    processes = pair(HANGING, tmp_path / "hangs", 0, "stop", 3)
    try:
        status, _, err = ended(processes[1:])[0]
        assert status == EXIT_HUNG
        (line,) = said(err)
        assert "rank 1 waits in round 5, move critic; rank 0 says nothing: stopped, or its host is gone" in line
        assert "the store at 127.0.0.1 does not answer" in line
        assert "in highest" in (tmp_path / "hangs" / "rank_1.txt").read_text()
        assert processes[0].poll() is None
    finally:
        for process in processes:
            process.kill()
    ended(processes)


@pytest.mark.parametrize("what", [pytest.param("kill", marks=pytest.mark.soak), "raise"])
def test_a_rank_that_is_gone_is_named_at_once(tmp_path: Path, what: str) -> None:
    """Long before the watchdog's time."""
    (status, _, err), (victims, _, why) = ended(pair(HANGING, tmp_path / "hangs", 1, what, 600))
    assert status == 1
    (line,) = said(err)
    if what == "kill":
        assert victims == -signal.SIGKILL
        assert line.startswith("bigan: lost contact with rank 1 (")
        assert "in round 5, move critic" in line
    else:
        assert "ValueError: no such file" in why
        assert line.startswith("bigan: rank 1 (")
        assert line.endswith(") ended: ValueError: no such file")
    assert not (tmp_path / "hangs").exists()


def test_what_takes_long_and_says_so_is_no_hang(tmp_path: Path) -> None:
    for status, out, err in ended(pair(HANGING, tmp_path / "hangs", 1, "wait", 1)):
        assert (status, out, said(err)) == (0, "played\n", [])


def test_a_process_that_was_stopped_has_missed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 2.0, 5000.0, 5001.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    awake = Awake(1.0)
    for expected in (1.0, 2.0, 4.0, 5.0):
        awake.tick()
        assert awake.now == expected


def beat(count: int, *, waits: bool = False) -> Beat:
    return Beat(count=count, where=f"step {count}", process="node, pid 1", waits=waits)


@pytest.mark.parametrize(
    ("beats", "silent", "expected"),
    [
        ({0: beat(4)}, (), "rank 0: step 4"),
        ({0: beat(4), 1: beat(4)}, (), "ranks 0, 1: step 4"),
        ({0: beat(5), 1: beat(4)}, (), "rank 1: step 4; rank 0 waits in step 5"),
        ({0: beat(4, waits=True), 1: beat(4)}, (), "rank 1: step 4; rank 0 waits in step 4"),
        ({0: beat(4, waits=True), 1: beat(5)}, (), "rank 1: step 5; rank 0 waits in step 4"),
        ({0: beat(4, waits=True), 1: beat(4, waits=True)}, (), "ranks 0, 1: step 4"),
        (
            {0: beat(4, waits=True), 1: beat(3)}, (1,),
            "rank 0 waits in step 4; rank 1 says nothing: stopped, or its host is gone (node, pid 1; last in step 3)",
        ),
        ({rank: beat(5 if rank else 4) for rank in range(20)}, (), "rank 0: step 4; 19 ranks, 1 among them, waits in step 5"),
    ],
)  # fmt: skip
def test_the_line_says_who_is_behind(beats: dict[int, Beat], silent: tuple[int, ...], expected: str) -> None:
    assert _line("why", beats, {rank: beats[rank] for rank in silent}) == f"why: {expected}"
