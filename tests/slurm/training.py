"""`sbatch slurm/train_celeba_hq.sh` on two nodes, with a tiny run and tiny data; it is looked at through its files alone."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..cli.launch import differing, kimg, pack_digits, saved, write_config
from ..distributed.conftest import TORCHRUN, launch
from ..unit.packed import ROOT
from .cluster import Cluster, Job, wait_until

ROUNDS = 150
"""So many that what a test does in the middle comes before the end: two ranks play a few dozen a second."""
SAVED_EVERY = 40
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


@dataclass(frozen=True)
class Whole:
    """The run that nobody disturbs, on as many ranks as the jobs have.

    Attributes:
        config: of the jobs too.
    """

    config: Path
    digits: Path
    home: Path


def undisturbed(place: Path) -> Whole:
    """Train it, by torchrun."""
    digits = pack_digits(place / "digits")
    config = write_config(place / "tiny_run.yaml", digits, length_kimg=kimg(ROUNDS), checkpoint_kimg=kimg(SAVED_EVERY))
    ended = launch([*TORCHRUN, "-m", "bigan", "train", config, "name=whole", f"folder={place}"])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return Whole(config, digits, place / "whole")


@dataclass(frozen=True)
class Training:
    """A job that trains."""

    cluster: Cluster
    number: str
    log: Path
    home: Path

    @property
    def job(self) -> Job:
        return self.cluster.job(self.number)

    def said(self) -> str:
        """What the job wrote, without the ticks."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        return "\n".join(line for line in lines if "images/s" not in line)

    def status(self) -> str:
        """The word of the STATUS file."""
        return (self.home / "STATUS").read_text().split()[0]

    def rounds(self) -> int:
        """Rounds that were played: lines of the log of events."""
        events = self.home / "events.jsonl"
        return events.read_bytes().count(b"\n") if events.is_file() else 0

    def until(self, true: Callable[[], bool], otherwise: str) -> None:
        """Wait; a job that ends before is a failure."""
        try:
            wait_until(lambda: true() or self.job.state in OVER, otherwise)
            assert true(), otherwise
        except AssertionError:
            raise AssertionError(f"{otherwise}: {self.job}\n{self.said()}\n{self.cluster.log()}") from None

    def in_the_middle(self, rounds: int = 5) -> "Training":
        """Wait until it has played so many rounds."""
        self.until(lambda: self.rounds() >= rounds, f"{rounds} rounds were not played")
        assert self.rounds() < ROUNDS
        return self

    def ended(self) -> Job:
        """Wait for the end."""
        self.until(lambda: self.job.state in OVER, "the job does not end")
        return self.job

    def came_back_exactly(self, whole: Whole) -> None:
        """The job was requeued once, went on where it stood, and ended where the undisturbed run did, to the last bit."""
        assert self.ended() == Job("COMPLETED", "None", restarts=1), self.said()
        self.is_exactly(whole)
        said = self.said()
        assert f"job {self.number}, start 2:" in said
        assert said.count("2 rank(s); from 0 kimg") == 1

    def is_exactly(self, whole: Whole) -> None:
        """All that was saved at the end is what the undisturbed run saved."""
        assert self.status() == "complete", self.said()
        one, other = saved(self.home), saved(whole.home)
        assert one.clock == other.clock
        assert one.clock.round == ROUNDS
        assert differing(one, other) == []
        assert self.rounds() == ROUNDS


def submit(cluster: Cluster, whole: Whole, place: Path, *flags: str, **variables: str) -> Training:
    """The script, as it lies in the repository."""
    variables = {
        "DATA": str(whole.digits),
        "CONFIG": str(whole.config),
        "RUNS": str(place / "runs"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    } | variables
    log = place / "log"
    job = cluster.submit(
        "--nodes=2", "--time=10", f"--chdir={ROOT}", f"--output={log}", *flags, "slurm/train_celeba_hq.sh", **variables
    )  # fmt: skip
    return Training(cluster, job, log, place / "runs" / "tiny-run")
