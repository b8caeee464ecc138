"""A rank that plays rounds until something befalls rank VICTIM in the fifth: `hanging.py FOLDER VICTIM WHAT TIMEOUT_S`."""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from bigan.distributed.group import joined
from bigan.distributed.preemption import listening
from bigan.distributed.watchdog import LostRankError, watching


def befall(what: str) -> None:
    """What goes wrong."""
    if what == "loop":
        while True:
            time.sleep(0.1)
    elif what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "raise":
        raise ValueError("no such file")


def main(folder: Path, victim: int, what: str, timeout_s: float) -> None:
    """Play."""
    with listening(), watching(folder, timeout_s) as watchdog, joined(torch.device("cpu"), 600) as group:
        watchdog.meet(group)
        if what == "wait":  # longer than the timeout, and no hang
            with watchdog.paused("an evaluation"):
                time.sleep(2 * timeout_s)
        for round in range(1, 7):
            watchdog.beat(f"round {round}, move critic")
            if round == 5 and group.rank == victim:
                befall(what)
            group.highest([0])
        print("played", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
    except LostRankError as error:
        sys.exit(f"bigan: {error}")
