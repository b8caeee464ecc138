"""Open first. A run: prepare, resume, play rounds; log, draw and save on the way."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bigan import ops
from bigan.build import Setup, prepared
from bigan.clock import Clock
from bigan.config import Run, dump, game_file
from bigan.distributed import checkpoint
from bigan.distributed.group import joined, local_device, on_first_rank
from bigan.distributed.preemption import Stop, listening
from bigan.folder import environment
from bigan.play import Meter, play, sample
from bigan.report.events import EventLog
from bigan.report.grid import save_grid
from bigan.report.progress import ProgressLine, progress_line

GRID = 64
MOST_TOLD = 5


class DivergedError(RuntimeError):
    """A loss is no longer a number."""


def train(run: Run) -> None:
    """Train a run to its length, from where it stands.

    Raises:
        ValueError: for what the user can mend, in one line.
        DivergedError: if a loss becomes infinite or NaN; what was saved before stands.
    """
    device = local_device()
    with ExitStack() as stack:
        group = stack.enter_context(joined(device))
        setup = stack.enter_context(prepared(run, group, device))
        first = group.rank == 0
        if setup.finished:
            if first:
                print(f"{run.home}: finished at {setup.clock.images / 1000:g} kimg; raise length_kimg to go on")
            return
        stack.enter_context(_begun(setup))
        with listening() as stop, progress_line(run.length_kimg, setup.clock.images / 1000, quiet=not first) as line:
            line.say(f"{run.home}: {ops.backend()}; {group.size} rank(s); from {setup.clock.images / 1000:g} kimg")
            for note in setup.table.game.notes:
                line.say(f"{run.home}: {note}")
            for name, stream in setup.streams.items():
                for note in stream.notes:
                    line.say(f"data.{name}: {note}")
            for feed in setup.feeds.values():
                feed.ahead.stopping = lambda: stop.asked
            _rounds(setup, stop, line)


def _rounds(setup: Setup, stop: Stop, line: ProgressLine) -> None:
    """Play until the run's length is reached or a rank is asked to stop."""
    run, clock = setup.run, setup.clock
    ticks = Ticks(setup, line)
    done = finished = False
    while not done:
        before, clock = clock, play(setup.table, clock, ticks.meter)
        stopping = setup.group.any(stop.asked)
        finished = clock.images >= run.length_kimg * 1000
        done = finished or stopping
        line.advance(clock.images / 1000)
        if done or _crossed(before, clock, run.tick_kimg):
            ticks.tick(clock)
        if done or _crossed(before, clock, run.checkpoint_kimg):
            _save(setup, clock)
    if finished:
        line.say(f"finished; samples: {_grid(setup, clock)}")
    else:
        line.say(f"stopped and saved at {clock.images / 1000:g} kimg; run the same command again to go on")


class Ticks:
    """What is measured between two ticks, and what a tick shows of it.

    Args:
        setup: the run.
        line: where a line goes.
    """

    def __init__(self, setup: Setup, line: ProgressLine) -> None:
        self._setup, self._line = setup, line
        self._events = EventLog(setup.folder.events, setup.clock.round) if setup.group.rank == 0 else None
        self._told: set[str] = set()
        self._begin(setup.clock)

    def tick(self, clock: Clock) -> None:
        """Log a line and draw a grid; a collective.

        Raises:
            DivergedError: naming the statistics that are no numbers.
        """
        seconds = time.perf_counter() - self._since
        stats = self.meter.means(self._setup.group)
        if broken := [name for name, value in stats.items() if not math.isfinite(value)]:
            raise DivergedError(
                f"{', '.join(broken)} became infinite or NaN before round {clock.round}; what was saved before stands"
            )
        bad = self._setup.share_faults()
        on_first_rank(self._setup.group, lambda: self._show(clock, seconds, stats, bad))
        self._begin(clock)

    def _show(self, clock: Clock, seconds: float, stats: Mapping[str, float], bad: Mapping[str, Sequence[str]]) -> None:
        for name, lines in bad.items():
            new = [line for line in lines if line not in self._told]
            self._told.update(new)
            for line in new[:MOST_TOLD]:
                self._line.say(f"data.{name}: a bad sample, replaced: {line}")
            if len(new) > MOST_TOLD:
                self._line.say(f"data.{name}: and {len(new) - MOST_TOLD} more; `bigan pack FOLDER --check` lists them all")
        if self._events is not None:
            rate = (clock.images - self._from) / seconds
            rates = {"images/s": rate, "s/kimg": 1000 / rate, "loader_wait": (self._waited() - self._waited_before) / seconds}
            self._events.write({"round": clock.round, "kimg": clock.images / 1000, **rates, **_counts(bad), **stats})
            self._line.tick(clock.images / 1000, {**rates, **stats})
            table = self._setup.table
            samples = sample(table.game, table.averages, clock, GRID, device=table.device)
            if "images" in samples:
                save_grid(samples["images"], _grid(self._setup, clock))

    def _begin(self, clock: Clock) -> None:
        self.meter = Meter()
        self._from, self._since, self._waited_before = clock.images, time.perf_counter(), self._waited()

    def _waited(self) -> float:
        return sum(feed.ahead.waited_s for feed in self._setup.feeds.values())


def _counts(bad: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many bad samples each stream has met, of those that have."""
    return {f"data.{name}/bad": len(lines) for name, lines in bad.items() if lines}


@contextmanager
def _begun(setup: Setup) -> Iterator[None]:
    """The run folder, made and locked by rank 0."""
    with ExitStack() as held:

        def begin() -> None:
            held.enter_context(setup.folder.locked())
            about = environment(str(ops.backend()), str(setup.table.device), setup.group.size)
            setup.folder.begin(dump(setup.run), about, game_file(setup.run))

        on_first_rank(setup.group, begin)
        yield


def _save(setup: Setup, clock: Clock) -> None:
    """Write a checkpoint of a run whose weights are numbers.

    Raises:
        DivergedError: naming the tensors that are not; what was saved before stands.
        ValueError: on every rank, if it cannot be written.
    """
    saved = setup.checkpoint(clock)
    if broken := [name for name, tensor in saved.tensors.items() if not tensor.isfinite().all()]:
        raise DivergedError(f"infinite or NaN at round {clock.round}: {', '.join(broken[:3])}; what was saved before stands")
    on_first_rank(setup.group, lambda: str(checkpoint.save(setup.folder.checkpoints, saved, setup.run.keep_checkpoints)))


def _grid(setup: Setup, clock: Clock) -> Path:
    return setup.folder.grids / f"kimg_{clock.images / 1000:09.3f}.png"


def _crossed(before: Clock, after: Clock, every_kimg: float) -> bool:
    """Whether a multiple of the interval lies between two clocks; an interval of 0 is never crossed."""
    return every_kimg > 0 and before.images // (every_kimg * 1000) < after.images // (every_kimg * 1000)
