"""A job that was given up for dead wakes up after another has taken its run over: it writes nothing, and says why it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..cli.launch import ENVIRONMENT, kimg, saved, tree, write_config

FORGOTTEN = Path(__file__).with_name("forgotten.py")
HOME = Path("runs/run")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, FORGOTTEN, "train", *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rounds() -> int:
    file = HOME / "events.jsonl"
    return file.read_text().count("\n") if file.is_file() else 0


def wait_for(round: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while rounds() < round:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "no round was played"
        time.sleep(0.01)


def test_a_forgotten_job_writes_nothing(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits)
    old = start(config, f"length_kimg={kimg(1_000_000)}")
    try:
        wait_for(5, old)
        old.send_signal(signal.SIGSTOP)
        new = start(config, f"length_kimg={kimg(40)}", "hang_timeout_s=1.5")  # waiting for the old one is no hang
        out, err = new.communicate(timeout=120)
        assert (new.returncode, err) == (0, "")
        assert "waiting to see whether" in out
        assert saved(HOME).clock.round == 40
        left = tree(HOME)
        old.send_signal(signal.SIGCONT)
        out, err = old.communicate(timeout=120)
    finally:
        old.kill()
    assert old.returncode == 1
    assert len(err.splitlines()) == 1, err
    assert err.startswith("bigan: runs/run: its lease is gone, as another process took this run over and ended")
    assert tree(HOME) == left
    assert not (HOME / "lease.json").exists()


@pytest.mark.soak
def test_a_job_that_lives_is_not_taken_over(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits)
    old = start(config, f"length_kimg={kimg(1_000_000)}")
    try:
        wait_for(5, old)
        new = start(config, f"length_kimg={kimg(40)}")
        _, err = new.communicate(timeout=120)
        assert new.returncode == 2
        assert "another process is training this run (" in err
        assert old.poll() is None
        old.send_signal(signal.SIGINT)
        assert old.wait(timeout=60) == 0
    finally:
        old.kill()
        old.communicate()
