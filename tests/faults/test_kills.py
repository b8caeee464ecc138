"""Killed at random moments, also within a save, and gone on with: as if nothing had been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bigan.distributed import checkpoint

from ..cli.launch import BATCH, ENVIRONMENT, bigan, differing, kimg, saved, write_config
from .kill import BATCH as BATCH_OF_KILL
from .ranks import LIMIT_S, TORCHRUN, workers

KILL = Path(__file__).with_name("kill.py")
EVERY = 5
"""Rounds between two checkpoints."""
HOME, WHOLE = Path("runs/run"), Path("runs/whole")
MEASURED = ("images/s", "s/kimg", "loader_wait")


def events(home: Path) -> list[dict[str, Any]]:
    """What the log holds, but for what is measured by the clock on the wall."""
    file = home / "events.jsonl"
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [{key: value for key, value in event.items() if key not in MEASURED} for event in whole]


def as_if_nothing_had_been() -> None:
    """Networks, averages, optimizers, positions and the log are those of the run that was left alone."""
    one, other = saved(HOME), saved(WHOLE)
    assert one.clock == other.clock
    assert sum(name.endswith("/exp_avg_sq") for name in one.tensors) > 4
    assert any(".average." in name for name in one.tensors)
    assert differing(one, other) == []
    assert [event["round"] for event in events(HOME)] == list(range(1, one.clock.round + 1))
    assert events(HOME) == events(WHOLE)


def least_saved(played: int) -> int:
    """A save is written while the next interval is played, and a round's line is in the log before its save waits for that.

    So with the line of round 30, but not yet that of 31, the save of round 25 may be under way; that of 20 is there.
    """
    return max(0, ((played - 1) // EVERY - 1) * EVERY)


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.soak)])
def test_a_process_that_is_killed(here: Path, digits: Path, kills: int) -> None:
    assert BATCH == BATCH_OF_KILL
    seed = int(os.environ.get("BIGAN_SEED", random.SystemRandom().randrange(10**6)))
    chance = random.Random(seed)
    plans = [{"at": chance.randint(1, 30)} if n % 2 else {"after_s": chance.uniform(0.0, 0.3)} for n in range(kills)]
    print(f"BIGAN_SEED={seed}: {plans}")
    config = write_config(here / "run.yaml", digits, checkpoint_kimg=kimg(EVERY))
    command = [sys.executable, str(KILL), json.dumps(plans), "train", str(config)]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT_S)
    assert run.returncode == 0, run.stderr
    left = json.loads(run.stdout)
    print("\n".join(map(str, left)))
    assert [start["ended"] for start in left] == [-signal.SIGKILL] * kills + [0], run.stderr
    assert [start["unloadable"] for start in left] == [[]] * (kills + 1)
    for start in left:
        assert start["saved"] >= least_saved(start["played"])
    print(f"lost at most {max(start['played'] - start['saved'] for start in left)} rounds of {EVERY} between saves")
    assert bigan("train", config, "name=whole", f"length_kimg={kimg(saved(HOME).clock.round)}").status == 0
    as_if_nothing_had_been()


class Launch:
    """`torchrun -m bigan train …` on two ranks, and its ranks' processes."""

    def __init__(self, config: Path, *arguments: object, restarts: int = 0) -> None:
        command = [*TORCHRUN, f"--max-restarts={restarts}", "-m", "bigan", "train", str(config), *map(str, arguments)]
        with Path("stderr").open("w") as err:
            self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=err, text=True)

    @property
    def err(self) -> str:
        return Path("stderr").read_text()

    def ranks_after(self, before: set[int]) -> dict[int, int]:
        """The processes of both ranks, none of which is among those before, once they play."""
        until = time.monotonic() + LIMIT_S
        begun: int | None = None
        while time.monotonic() < until and self.process.poll() is None:
            found = workers(self.process.pid)
            played = max((event["round"] for event in events(HOME)), default=0)
            if len(found) < 2 or before & set(found.values()):
                begun = None
            elif begun is None or played < begun:  # the log is cut where the run goes on
                begun = played
            elif played > begun:
                return found
            time.sleep(0.02)
        raise AssertionError(self.err)

    def end(self) -> int:
        try:
            return self.process.wait(LIMIT_S)
        finally:
            self.process.kill()


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])])
def test_a_rank_of_two_that_is_killed(here: Path, digits: Path, kills: int) -> None:
    """torchrun starts both again; at last one of them, and no other, is asked to stop."""
    seed = int(os.environ.get("BIGAN_SEED", random.SystemRandom().randrange(10**6)))
    chance = random.Random(seed)
    print(f"BIGAN_SEED={seed}")
    config = write_config(here / "run.yaml", digits, checkpoint_kimg=kimg(EVERY))
    launch = Launch(config, "length_kimg=1e6", restarts=kills)
    victims: list[int] = []
    ranks: dict[int, int] = {}
    try:
        for _ in range(kills):
            ranks = launch.ranks_after(set(ranks.values()))
            time.sleep(chance.uniform(0.0, 1.0))
            victims.append(chance.randrange(2))
            os.kill(ranks[victims[-1]], signal.SIGKILL)
            time.sleep(0.1)
            found = checkpoint.candidates(HOME / "checkpoints")
            assert all(checkpoint.verifies(path) or not path.is_dir() for path in found)  # the other rank may yet prune one
            played = max(event["round"] for event in events(HOME))
            print(f"rank {victims[-1]} killed; {played} rounds played, {[path.name for path in found]} saved")
            assert (checkpoint.round_of(found[0]) if found else 0) >= least_saved(played)
        os.kill(launch.ranks_after(set(ranks.values()))[chance.randrange(2)], signal.SIGTERM)
    except BaseException:
        launch.process.terminate()
        raise
    finally:
        status = launch.end()
    assert status == 0, launch.err
    assert (HOME / "STATUS").read_text().startswith("preempted\n")
    for rank in set(victims):
        assert launch.err.count(f"bigan: runs/run: lost contact with rank {rank} (") == victims.count(rank), launch.err
    whole = Launch(config, "name=whole", f"length_kimg={kimg(saved(HOME).clock.round)}")
    assert whole.end() == 0, whole.err
    as_if_nothing_had_been()


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_both(here: Path, digits: Path, number: signal.Signals, rank: int) -> None:
    config = write_config(here / "run.yaml", digits, checkpoint_kimg=0)
    launch = Launch(config, "length_kimg=1e6")
    try:
        os.kill(launch.ranks_after(set())[rank], number)
    finally:
        status = launch.end()
    assert status == 0, launch.err
    assert (HOME / "STATUS").read_text().startswith("stopped\n" if number == signal.SIGINT else "preempted\n")
    assert saved(HOME).clock.round == events(HOME)[-1]["round"]
