"""`bigan …` in children of a process that has imported all there is, one after the other: a start costs no time.

`kill.py PLANS ARGUMENT...`: PLANS is a JSON list; for each plan the command is started, without an end, and killed as it says:
{"after_s": seconds} since its first round, or {"at": k} before the k-th call that changes the checkpoints' disk. At last it
goes on for a few rounds, to an end. Prints a JSON list: what each start left.
"""

import contextlib
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import bigan.build
import bigan.train  # noqa: F401  (so that the children need not)
from bigan.cli import main
from bigan.distributed import checkpoint

BATCH = 8
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir"}
HOME = Path("runs/run")


def kimg(rounds: int) -> float:
    """The length of so many rounds."""
    return rounds * BATCH / 1000


def log() -> list[int]:
    """The rounds of the log's whole lines."""
    file = HOME / "events.jsonl"
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    return [json.loads(line)["round"] for line in lines if line.endswith(b"\n")]


def suicidal(at: int) -> None:
    """This process will be killed at the k-th call that changes something below the checkpoints' folder."""
    left = [at]
    flush = os.fsync

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def fsync(descriptor: int) -> None:
        if "/checkpoints" in os.readlink(f"/proc/self/fd/{descriptor}"):
            count()
        flush(descriptor)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY)
        if changes and "checkpoints/" in str(arguments[0]):
            count()

    os.fsync = fsync
    sys.addaudithook(audit)


def child(plan: dict[str, Any], arguments: list[str]) -> None:
    """Train; does not return."""
    if "at" in plan:
        suicidal(plan["at"])
    if "after_s" in plan:
        before = len(log())

        def kill() -> None:
            while len(log()) <= before:
                time.sleep(0.002)
            time.sleep(plan["after_s"])
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
    said = io.StringIO()
    status: Any = 0
    try:
        with mock.patch.object(sys, "argv", ["bigan", *arguments]), contextlib.redirect_stdout(said):
            main()
    except SystemExit as end:
        status = end.code
    os._exit(int(status or 0))


def run(plan: dict[str, Any], arguments: list[str]) -> dict[str, Any]:
    """One start, and what it left."""
    process = os.fork()
    if process == 0:
        child(plan, arguments)
    _, status = os.waitpid(process, 0)
    folder = HOME / "checkpoints"
    found = checkpoint.candidates(folder)
    return {
        "ended": os.waitstatus_to_exitcode(status),
        "unloadable": [path.name for path in found if not checkpoint.verifies(path)],
        "saved": checkpoint.load(found[0]).clock.round if found else 0,
        "played": max(log(), default=0),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    left = [run(plan, [*sys.argv[2:], "length_kimg=1e6"]) for plan in json.loads(sys.argv[1])]
    left.append(run({}, [*sys.argv[2:], f"length_kimg={kimg(left[-1]['played'] + 7)}"]))
    print(json.dumps(left))
