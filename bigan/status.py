"""A run's STATUS file: how it stands, in one word that a shell script reads. `head -n 1 runs/NAME/STATUS`."""

import os
from pathlib import Path
from typing import Literal

from bigan.files import save

Word = Literal["running", "complete", "preempted", "stopped", "failed"]
"""`preempted`: ended by SIGTERM or SIGUSR1, `stopped`: by Ctrl-C; both saved. `running` without a process: it was killed."""


def write_status(path: Path, word: Word, detail: str) -> None:
    """Replace the file as a whole: the word on the first line, a line for people on the second.

    Under Slurm, the third is `job ID.RESTARTS`: a word that an earlier start left says nothing of this one.

    Raises:
        OSError: if it cannot be written; what stood before still stands.
    """
    lines = [word, " ".join(detail.split())]
    if job := os.environ.get("SLURM_JOB_ID"):
        lines.append(f"job {job}.{os.environ.get('SLURM_RESTART_COUNT', '0')}")
    save(path, "".join(f"{line}\n" for line in lines).encode())
