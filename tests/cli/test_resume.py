"""A run that was stopped or killed and goes on ends, to the last bit, where the run ends that was neither."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bigan.config as bigan_config

from .launch import BIGAN, ENVIRONMENT, GAMES, bigan, differing, kimg, saved, write_config

ENDLESS = kimg(1_000_000)


def events(home: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's log, which it may be writing."""
    file = home / "events.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def interrupted(config: Path, rounds: int, number: int) -> tuple[int, str, str]:
    """Train without end in a process of its own, which is sent the signal after so many rounds."""
    command = [*BIGAN, "train", str(config), f"length_kimg={ENDLESS}"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while len(events(Path("runs/run"))) < rounds and process.poll() is None:
            assert time.monotonic() < deadline, "no round was played"
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


def goes_on_as_if_nothing_had_been(config: Path, last: int) -> None:
    """Resume for five rounds more, and compare with a run that goes through."""
    length = f"length_kimg={kimg(last + 5)}"
    resumed = bigan("train", config, length)
    assert (resumed.status, resumed.err) == (0, "")
    assert "from 0 kimg" not in resumed.out
    assert bigan("train", config, length, "name=whole").status == 0
    one, other = saved(Path("runs/run")), saved(Path("runs/whole"))
    assert one.clock == other.clock
    assert one.clock.round == last + 5
    assert any(name.endswith("/exp_avg_sq") for name in one.tensors)
    assert any(".average." in name for name in one.tensors)
    assert differing(one, other) == []
    measured = ("images/s", "s/kimg", "loader_wait")
    told = [[{k: v for k, v in e.items() if k not in measured} for e in events(Path("runs") / n)] for n in ("run", "whole")]
    assert [event["round"] for event in told[0]] == list(range(1, last + 6))
    assert told[0] == told[1]


@pytest.mark.parametrize("game", GAMES)
def test_ctrl_c_loses_nothing(here: Path, digits: Path, game: str) -> None:
    config = write_config(here / "run.yaml", digits, game, checkpoint_kimg=0)
    status, out, err = interrupted(config, 5, signal.SIGINT)
    assert (status, err) == (0, "")
    assert "stopped and saved at" in out.splitlines()[-1]
    assert "run the same command again to go on" in out.splitlines()[-1]
    last = saved(Path("runs/run")).clock.round
    assert 5 <= last == events(Path("runs/run"))[-1]["round"]
    goes_on_as_if_nothing_had_been(config, last)


@pytest.mark.parametrize("game", GAMES)
def test_a_kill_loses_what_was_not_saved_and_no_more(here: Path, digits: Path, game: str) -> None:
    """Killed between checkpoints, which are three rounds apart; the log is cut within a line, a checkpoint half-written."""
    config = write_config(here / "run.yaml", digits, game)
    status, _, _ = interrupted(config, 5, signal.SIGKILL)
    assert status == -signal.SIGKILL
    home = Path("runs/run")
    last = events(home)[-1]["round"]
    assert last - 4 <= saved(home).clock.round <= last + 1  # a tick comes before its round's save, and a save before the kill
    with (home / "events.jsonl").open("a") as file:
        file.write('{"round": 3, "kimg"')
    half = home / "checkpoints" / f"round_{last + 1:08d}.incomplete"
    half.mkdir(exist_ok=True)
    (half / "tensors.safetensors").write_bytes(b"half")
    goes_on_as_if_nothing_had_been(config, last)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_slurms_signals_stop_a_run_as_ctrl_c_does(
    here: Path, digits: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(here / "run.yaml", digits, checkpoint_kimg=0)
    with monkeypatch.context() as patch:
        signalled_at(patch, 2, number)
        said = bigan("train", config)
    assert said.status == 0
    assert "stopped and saved at 0.016 kimg" in said.out
    assert saved(Path("runs/run")).clock.round == 2
    goes_on_as_if_nothing_had_been(config, 2)


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "stopped"), (signal.SIGTERM, "preempted")])
def test_a_signal_before_the_run_is_read_stops_it_after_its_first_round(
    here: Path, digits: Path, number: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(here / "run.yaml", digits)
    lost: list[int] = []
    read = bigan_config.load

    def signalled(*arguments: Any) -> Any:
        os.kill(os.getpid(), number)
        return read(*arguments)

    before = signal.signal(number, lambda got, _: lost.append(got))
    monkeypatch.setattr("bigan.config.load", signalled)
    try:
        said = bigan("train", config)
    finally:
        signal.signal(number, before)
    assert (said.status, lost) == (0, [])
    assert (Path("runs/run") / "STATUS").read_text().split()[0] == word
    assert saved(Path("runs/run")).clock.round == 1


def signalled_at(monkeypatch: pytest.MonkeyPatch, round: int, number: int) -> None:
    """This process is sent a signal within the given round."""
    import bigan.train

    play_moves: Callable[..., Any] = bigan.train.play_moves

    def interrupting(table: Any, clock: Any) -> Any:
        if clock.round == round - 1:
            os.kill(os.getpid(), number)
        return play_moves(table, clock)

    monkeypatch.setattr("bigan.train.play_moves", interrupting)


def test_one_process_needs_no_deepspeed(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits, length_kimg=kimg(1))
    script = (
        "import sys; from bigan.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('with', sorted({'deepspeed', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, "train", str(config)]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "with ['torch']"
