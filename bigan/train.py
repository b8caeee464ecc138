"""Open first. A run: prepare, resume, play rounds; log, draw and save on the way."""

import math
import time
from pathlib import Path

from bigan import ops
from bigan.build import Setup, prepared
from bigan.clock import Clock
from bigan.config import Run, dump, game_file
from bigan.distributed import checkpoint
from bigan.distributed.group import joined, local_device
from bigan.distributed.preemption import Stop, listening
from bigan.folder import environment
from bigan.play import Meter, play, sample
from bigan.report.events import EventLog
from bigan.report.grid import save_grid
from bigan.report.progress import ProgressLine, progress_line

GRID = 64


class DivergedError(RuntimeError):
    """A loss is no longer a number."""


def train(run: Run) -> None:
    """Train a run to its length, from where it stands.

    Raises:
        ValueError: for what the user can mend, in one line.
        DivergedError: if a loss becomes infinite or NaN; the last checkpoint stands.
    """
    device = local_device()
    with joined(device) as group, prepared(run, group, device) as setup:
        first = group.rank == 0
        if setup.finished:
            if first:
                print(f"{run.home}: finished at {setup.clock.images / 1000:g} kimg; raise length_kimg to go on")
            return
        if first:
            setup.folder.begin(dump(run), environment(str(ops.backend()), str(device), group.size), game_file(run))
        with listening() as stop, progress_line(run.length_kimg, setup.clock.images / 1000, quiet=not first) as line:
            line.say(f"{run.home}: {ops.backend()}; {group.size} rank(s); from {setup.clock.images / 1000:g} kimg")
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
                f"{', '.join(broken)} became infinite or NaN before round {clock.round}; the last checkpoint stands"
            )
        if self._events is not None:
            rate = (clock.images - self._from) / seconds
            rates = {"images/s": rate, "s/kimg": 1000 / rate, "loader_wait": (self._waited() - self._waited_before) / seconds}
            self._events.write({"round": clock.round, "kimg": clock.images / 1000, **rates, **stats})
            self._line.tick(clock.images / 1000, {**rates, **stats})
            table = self._setup.table
            samples = sample(table.game, table.averages, clock, GRID, device=table.device)
            if "images" in samples:
                save_grid(samples["images"], _grid(self._setup, clock))
        self._begin(clock)

    def _begin(self, clock: Clock) -> None:
        self.meter = Meter()
        self._from, self._since, self._waited_before = clock.images, time.perf_counter(), self._waited()

    def _waited(self) -> float:
        return sum(feed.ahead.waited_s for feed in self._setup.feeds.values())


def _save(setup: Setup, clock: Clock) -> None:
    """Write a checkpoint; where rank 0 cannot, every rank stops.

    Raises:
        ValueError: if it cannot be written.
    """
    saved = setup.checkpoint(clock)
    problem = ""
    if setup.group.rank == 0:
        try:
            checkpoint.save(setup.folder.checkpoints, saved, setup.run.keep_checkpoints)
        except OSError as error:
            problem = f"{setup.folder.checkpoints}: cannot be written ({error.strerror}); the checkpoint before stands"
    if problem := setup.group.agree(problem):
        raise ValueError(problem)


def _grid(setup: Setup, clock: Clock) -> Path:
    return setup.folder.grids / f"kimg_{clock.images / 1000:09.3f}.png"


def _crossed(before: Clock, after: Clock, every_kimg: float) -> bool:
    """Whether a multiple of the interval lies between two clocks; an interval of 0 is never crossed."""
    return every_kimg > 0 and before.images // (every_kimg * 1000) < after.images // (every_kimg * 1000)
