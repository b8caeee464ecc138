"""The watchdog: a run that moves no longer is ended, with the stacks of every rank and a line that says who is behind."""

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from torch.distributed import distributed_c10d

from bigan.distributed.group import Alone, World, lost_contact
from bigan.distributed.heartbeats import Awake, Beat, Heartbeats

EXIT_HUNG = 3
LONG, LONG_S = 6, 120.0
"""How many times longer something may take that said so, and how long at least: as long as a lease is waited for."""
SILENCE_S = 60.0
"""After so long a rank that says nothing, and for which this one waits, is given up; one that said why it ended, sooner."""
GRACE_S = 5.0
STDERR = 2


class LostRankError(RuntimeError):
    """Another rank is gone."""


class Watchdog:
    """A thread that ends this process if the rank makes no progress.

    Args:
        folder: where the stacks go.
        timeout_s: after so long without a beat.
    """

    def __init__(self, folder: Path, timeout_s: float) -> None:
        self._folder, self._timeout_s = folder, timeout_s
        self._rank = int(os.environ.get("RANK", "0"))
        self._stacks = folder / f"rank_{self._rank}.txt"
        self._every_s = min(1.0, timeout_s / 10)
        self._awake = Awake(self._every_s)
        self._count, self._where, self._at = 0, "starting", 0.0
        self._paused, self._waits, self._ended = False, False, ""
        self._hearts: Heartbeats | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @property
    def longest_s(self) -> float:
        """After so long this rank is ended, whatever it is at; a collective's own limit belongs beyond it."""
        return max(LONG_S, LONG * self._timeout_s)

    def beat(self, where: str) -> None:
        """This rank makes progress; every rank calls it at the same points.

        Args:
            where: in words, such as "round 11, move critic".
        """
        self._count, self._where, self._at = self._count + 1, where, self._awake.now

    @contextmanager
    def paused(self, why: str) -> Iterator[None]:
        """Within, something long is done, by this rank or by one that it waits for: it is given six times as long."""
        before, self._paused = self._paused, True
        self.beat(why)
        try:
            yield
        finally:
            self._paused = before
            self.beat(f"after {why}")

    def meet(self, group: Alone | World) -> None:
        """Know the other ranks from now on; a collective."""
        if group.size > 1:
            prefix = f"bigan/{group.agree(os.urandom(8).hex())}"  # torchrun may start ranks anew on the same store
            self._hearts = Heartbeats(group.rank, group.size, prefix, self._awake, self._told)
            self._hearts.tell(GRACE_S)
            group.agree("")  # all have told: each hears of the others, however soon they are gone
            self._hearts.tell(GRACE_S)

    def close(self, how: str) -> None:
        """Watch no longer, and tell the others how this rank ended."""
        self._ended = how
        self._over.set()
        self._thread.join(GRACE_S)
        if self._hearts is not None:
            self._hearts.close(GRACE_S)

    def lost(self) -> str:
        """Which ranks are gone, in a line; waits a few seconds for the others to speak."""
        self._ended = "lost contact"
        if self._hearts is not None:
            self._hear_all(self._hearts)
            for rank, (beat, _) in self._hearts.others.items():
                if beat.ended.startswith("ended"):
                    return f"rank {rank} ({beat.process}) {beat.ended}"
            if gone := [f"rank {rank} ({beat.process}; last in {beat.where})" for rank, beat in self._silent.items()]:
                return f"lost contact with {', '.join(gone)}, in {self._where}"
        return f"lost contact with another rank, in {self._where}"

    def _told(self) -> Beat:
        return Beat(
            count=self._count,
            where=self._where,
            process=f"{socket.gethostname()}, pid {os.getpid()}",
            paused=self._paused,
            waits=self._waits,
            ended=self._ended,
        )

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            self._awake.tick()
            if why := self._verdict():
                self._end(why)

    def _verdict(self) -> str:
        """Why this rank must be ended, or nothing."""
        idle = self._awake.now - self._at
        if idle > (self.longest_s if self._paused else self._timeout_s):
            return f"no progress for {idle:.0f} s"
        if self._hearts is None or self._ended:
            return ""
        others = self._hearts.others
        for beat, _ in others.values():
            if beat.ended.startswith("hung: "):
                return beat.ended.removeprefix("hung: ")
        if idle > min(3 * GRACE_S, self._timeout_s):
            for rank, (beat, _) in others.items():
                if beat.ended.startswith("ended"):
                    return f"rank {rank} {beat.ended}"
        if idle > min(SILENCE_S, self._timeout_s) and not self._paused:
            quiet = [rank for rank, (beat, quiet_s) in others.items() if not beat.ended and quiet_s > SILENCE_S]
            if quiet or self._hearts.silence_s > SILENCE_S:
                return f"no progress for {idle:.0f} s"
        return ""

    @property
    def _silent(self) -> dict[int, Beat]:
        """The ranks that say nothing, and what they said last."""
        if self._hearts is None:
            return {}
        quiet_s = self._hearts.quiet_s
        return {rank: beat for rank, (beat, s) in self._hearts.others.items() if not beat.ended and s > quiet_s}

    def _hear_all(self, hearts: Heartbeats) -> None:
        """Tell the others that this rank is at its end, and hear them until each has said so too, or is silent."""
        hearts.tell(GRACE_S)
        until = time.monotonic() + 4 * hearts.quiet_s
        while time.monotonic() < until:
            self._awake.tick()
            heard = hearts.others.values()
            if heard and all(beat.ended or quiet_s > hearts.quiet_s for beat, quiet_s in heard):
                return
            time.sleep(0.1)

    def _end(self, why: str) -> None:
        """Leave the stacks and a line, and end this process; neither a dead disk nor a dead network keeps it from that."""
        self._waits = _waits_for_others()
        _bounded(lambda: faulthandler.dump_traceback(STDERR, all_threads=True))
        _bounded(self._keep_stacks)
        self._ended = f"hung: {why}"  # not before, as whoever hears it may end, and torchrun then ends this rank too
        if self._hearts is not None:
            self._hear_all(self._hearts)
        heard = {} if self._hearts is None else {rank: beat for rank, (beat, _) in self._hearts.others.items()}
        others = {rank: beat for rank, beat in heard.items() if not beat.ended or beat.ended.startswith("hung: ")}
        line = _line(why, {self._rank: self._told(), **others}, self._silent)
        cut_off = self._hearts is not None and self._hearts.silence_s > self._hearts.quiet_s
        if cut_off:
            line += f"; the store at {os.environ['MASTER_ADDR']} does not answer: its host is gone, or the network"
        if self._rank == min({self._rank, *others} - self._silent.keys()):
            _bounded(lambda: os.write(STDERR, f"bigan: {line}; the stacks are in {self._folder}\n".encode()))
        _bounded(lambda: self._keep(line))
        if cut_off and "TORCHELASTIC_RUN_ID" in os.environ:
            time.sleep(GRACE_S)  # for what the other ranks of this host have to say
            os.kill(os.getppid(), signal.SIGKILL)  # torchrun, which would wait for that store until TCP gives it up
        os._exit(EXIT_HUNG)

    def _keep_stacks(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._stacks.open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)

    def _keep(self, line: str) -> None:
        with self._stacks.open("a") as file:
            file.write(f"\n{line}\n")


@contextmanager
def watching(folder: Path, timeout_s: float) -> Iterator[Watchdog]:
    """Watch this rank; the outermost of all that a rank does, around `joined`.

    Raises:
        LostRankError: naming the rank, in place of what a collective raises whose other end is gone.
    """
    watchdog = Watchdog(folder, timeout_s)
    how = "left"
    try:
        yield watchdog
    except Exception as error:
        if lost_contact(error):
            how = "lost contact"
            raise LostRankError(watchdog.lost()) from error
        how = f"ended: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise
    except BaseException as end:
        how = f"ended: {type(end).__name__}"
        raise
    finally:
        watchdog.close(how)


def _line(why: str, beats: Mapping[int, Beat], silent: Mapping[int, Beat]) -> str:
    """Who is behind, who is silent, who waits."""
    last = min(beat.count for beat in beats.values())
    speaking = {rank: beat for rank, beat in beats.items() if rank not in silent}
    alike = not silent and all(beat.count == last and beat.waits == beats[min(beats)].waits for beat in speaking.values())
    groups: dict[str, list[int]] = {}
    for rank, beat in speaking.items():
        behind = not beat.waits and (beat.count == last or any(b.waits for b in speaking.values()))
        verb = ": " if alike or behind else " waits in "
        groups.setdefault(f"{verb}{beat.where}", []).append(rank)
    parts = [f"{_ranks(ranks)}{text}" for text, ranks in sorted(groups.items(), key=lambda group: group[0][0] != ":")]
    parts += [
        f"rank {rank} says nothing: stopped, or its host is gone ({beat.process}; last in {beat.where})"
        for rank, beat in silent.items()
    ]
    return f"{why}: {'; '.join(parts)}"


def _ranks(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) > 8:
        return f"{len(ranks)} ranks, {ranks[0]} among them,"
    return f"ranks {', '.join(map(str, ranks))}"


def _waits_for_others() -> bool:
    """Whether a thread of this process is within a collective."""
    calls = (frame.filename for top in sys._current_frames().values() for frame in traceback.extract_stack(top))
    return any(name == distributed_c10d.__file__ for name in calls)


def _bounded(act: Callable[[], object]) -> None:
    """Act, but for no longer than a while: what it writes to may be what hangs."""

    def attempt() -> None:
        with suppress(OSError):
            act()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(GRACE_S)
