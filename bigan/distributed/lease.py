"""The lease of a run folder: a job that was given up and wakes up again finds that another one has it, and writes nothing.

`lease.json` says who trains the run; whoever takes it over puts a new file in its place. Its holder shows that it lives by
counting in that file, through the descriptor that it keeps: once the file has been replaced, it counts where nobody looks.
A newcomer on another host watches whether the count stands still; no clocks of two hosts are compared.
"""

import json
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

from bigan.files import save

RENEWAL_S = 5.0
PATIENCE_S = 60.0
"""A beat that stands still for so long is a dead one's. Longer than a network file system may hesitate."""
SETTLING_S = 1.0
TRIES = 5


class FencedError(RuntimeError):
    """Another process has taken the run over."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who trains a run.

    Attributes:
        token: of this taking, and of no other.
        job: Slurm's job id, or "".
        restart: how often Slurm has requeued the job.
        host: its name.
        machine: the host as booted; two of one name are two machines.
        pid: process id.
        beat: rises while the holder lives.
    """

    token: str
    job: str
    restart: int
    host: str
    machine: str
    pid: int
    beat: int = 0

    def __str__(self) -> str:
        return f"{f'job {self.job}, ' if self.job else ''}{self.host}, pid {self.pid}"

    def plain(self) -> bytes:
        """As the file holds it; of the same length at every beat."""
        return (json.dumps(asdict(self) | {"beat": f"{self.beat:012d}"}, indent=1) + "\n").encode()


@final
class Lease:
    """The right to write into a run folder.

    Args:
        folder: of the run; exists.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._folder = folder / "lease.json", folder
        self._mine: Holder | None = None
        self._descriptor = -1
        self._lost = ""
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> str:
        """Who has taken it over, as far as its renewal has seen; "" as long as nobody has."""
        return self._lost

    def take(self, *, sole: bool) -> None:
        """Take it, from a holder that is dead or that Slurm has ended; waits to see whether another one lives.

        Args:
            sole: whether a lock makes this the only process of this machine that trains the run.

        Raises:
            ValueError: if another process trains the run.
            OSError: if the folder cannot be written.
        """
        mine = Holder(
            token=secrets.token_hex(16),
            job=os.environ.get("SLURM_JOB_ID", ""),
            restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
        )
        before = _read(self._path)
        if before is not None and not _ended(before, mine, sole=sole):
            self._watch(before)
            self._put(mine)
            time.sleep(SETTLING_S)  # of two newcomers the later one has it
            if (now := _read(self._path)) != mine:
                raise self._busy(now)
        else:
            self._put(mine)
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Ask the folder, just before something is written into it.

        Raises:
            FencedError: if another process has the lease.
            OSError: if the folder cannot be read, several times in a row.
            ValueError: if what lies there is no lease.
        """
        assert self._mine is not None, "check before take"
        if not self._lost:
            self._ask()
        if self._lost:
            raise FencedError(f"{self._lost}; this process ({self._mine}) ends, and writes nothing more there")

    def release(self) -> None:
        """Let the next one have it at once."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(RENEWAL_S)  # no longer, as the file system may not answer
        if self._mine is None:
            return
        try:
            self._ask()
            if not self._lost:
                self._path.unlink()
        except (OSError, ValueError):
            pass  # the next one waits until the beat has stood still
        self._mine = None
        os.close(self._descriptor)

    def _put(self, mine: Holder) -> None:
        save(self._path, mine.plain())
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        self._mine = mine

    def _watch(self, before: Holder) -> None:
        """Wait until the beat has stood still for long enough; ValueError as soon as it moves."""
        print(f"{self._folder}: waiting to see whether {before} still trains this run, up to {PATIENCE_S:g} s", flush=True)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            time.sleep(RENEWAL_S / 5)
            now = _read(self._path)
            if now is None:
                return
            if now != before:
                raise self._busy(now)

    def _busy(self, holder: Holder | None) -> ValueError:
        return ValueError(f"{self._folder}: another process is training this run ({holder}); wait for it, or set name=")

    def _renew(self) -> None:
        while not self._over.wait(RENEWAL_S):
            try:
                self._ask()
                if self._lost or self._mine is None:
                    return
                self._mine = replace(self._mine, beat=self._mine.beat + 1)
                os.pwrite(self._descriptor, self._mine.plain(), 0)
                os.fsync(self._descriptor)
            except (OSError, ValueError):
                pass  # a file system that hesitates is no reason to end; it is tried again

    def _ask(self) -> None:
        """See who has it; an error if nobody can say."""
        assert self._mine is not None
        now = None
        for left in reversed(range(TRIES)):
            try:
                now = _read(self._path)
                break
            except (OSError, ValueError):
                if not left:
                    raise
                time.sleep(RENEWAL_S / 10)
        if now is None:
            self._lost = "its lease is gone, as another process took this run over and ended, or somebody deleted it"
        elif now.token != self._mine.token:
            self._lost = f"another process has taken this run over ({now})"


def _ended(holder: Holder, mine: Holder, *, sole: bool) -> bool:
    """Whether it is certain that the holder writes no more."""
    requeued = mine.job != "" and holder.job == mine.job and holder.restart < mine.restart
    return requeued or (sole and holder.machine == mine.machine)


def _read(path: Path) -> Holder | None:
    """Who holds the lease; None where nobody does."""
    try:
        found = json.loads(path.read_bytes())
        return Holder(**found | {"beat": int(found["beat"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path}: is no lease of this version of bigan; delete it if nobody trains the run") from None


def _machine() -> str:
    """This machine since it was started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
