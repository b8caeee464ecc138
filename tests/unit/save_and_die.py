"""`python save_and_die.py FOLDER next|again`: save, killed before the k-th call that changes the disk, for every k.

Prints the calls, which checkpoint was found after each kill (1: the one before, 2: the new one), and what lies there at last.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch

from bigan.clock import Clock
from bigan.distributed.checkpoint import Checkpoint, load, newest, save, sweep

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


def made(round: int, version: int) -> Checkpoint:
    clock = Clock(batch=4, round=round, attempt=version)
    return Checkpoint(clock, {}, {}, {"w": torch.full((64,), float(version))}, {"frechet": 1.0 / version})


class Killer:
    """Counts the calls that change the disk, and kills this process before one of them."""

    def __init__(self, at: int, calls: Callable[[str], object]) -> None:
        self._left, self._calls = at, calls

    def call(self, name: str) -> None:
        self._calls(name)
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            self.call(event)


def die(folder: Path, at: int, round: int) -> bool:
    """Save in a child that is killed; whether it was."""
    child = os.fork()
    if child == 0:
        log = os.open(folder.with_name("calls"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        killer = Killer(at, lambda name: os.write(log, f"{name}\n".encode()))
        flush = os.fsync

        def fsync(descriptor: int) -> None:
            killer.call("os.fsync")
            flush(descriptor)

        os.fsync = fsync
        sys.addaudithook(killer.audit)
        save(folder, made(round, 2), keep=1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0, status
    return os.WIFSIGNALED(status)


def main(place: Path, which: str) -> None:
    found: list[int] = []
    round = 2
    folder, begun = place / "checkpoints", place / "begun"
    save(begun, made(1, 1), keep=2)
    if which == "again":  # the one of the same round is damaged: that is why it is played again
        (save(begun, made(round, 1), keep=2) / "state.json").write_text("")
    for at in count():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(begun, folder)
        killed = die(folder, at, round)
        path = newest(folder)
        assert path is not None
        loaded = load(path)
        assert loaded.tensors["w"].eq(float(loaded.clock.attempt)).all()
        found.append(loaded.clock.attempt)
        sweep(folder)
        after = save(folder, made(round + 1, 2), keep=1)
        assert newest(folder) == after
        if not killed:
            break
    named = {f"round_{round + 1:08d}", "best.json", f"round_{round:08d}"}
    left = sorted(path.name for path in folder.iterdir() if path.name not in named)
    calls = folder.with_name("calls").read_text().split()
    print(json.dumps({"calls": calls, "found": found, "left": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
