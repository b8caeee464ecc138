"""What a run shows while it trains: a line, an event and a grid of samples at every tick."""

import json
import time
from collections.abc import Callable, Mapping, Sequence

from bigan.build import Setup
from bigan.clock import Clock
from bigan.distributed.group import on_first_rank
from bigan.look import looking
from bigan.measure import Gauge
from bigan.pictures import Pictures
from bigan.play import Meter
from bigan.report.events import EventLog
from bigan.report.progress import ProgressLine

MOST_TOLD = 5


class Ticks:
    """What is measured between two ticks, and what a tick shows of it.

    Args:
        setup: the run.
        line: where a line goes.
        may_write: asked before each writing; it raises if this process may no longer write there.

    Raises:
        ValueError: on every rank, if the events cannot be written, or the run cannot be measured and is to be.
    """

    def __init__(self, setup: Setup, line: ProgressLine, may_write: Callable[[], None]) -> None:
        self._setup, self._line, self._may_write = setup, line, may_write
        self._pictures = Pictures(setup, may_write, self.warn)
        self._gauge = Gauge(setup.run, setup.folder, setup.run.evaluation.samples)
        self._events: EventLog | None = None
        self._told: set[str] = set()

        def log() -> None:
            self._events = EventLog(setup.folder.events, setup.clock.round, may_write)

        on_first_rank(setup.group, log)
        if setup.run.evaluation.every_kimg:
            on_first_rank(setup.group, lambda: self._gauge.check(setup.table, setup.clock))
        self._begin(setup.clock)

    def tick(self, clock: Clock) -> None:
        """Log a line and draw a grid; a collective."""
        seconds = time.perf_counter() - self._since
        stats = self.meter.means(self._setup.group)
        bad = self._setup.share_faults()
        on_first_rank(self._setup.group, lambda: self._show(clock, seconds, stats, bad))
        self._begin(clock)

    def measured(self, clock: Clock) -> dict[str, float]:
        """Judge the averages as they stand, and log it; a collective.

        Returns:
            nothing where they cannot be judged, which is said and ends no run.
        """

        began = time.perf_counter()

        def measure() -> str:
            try:
                metrics = self._gauge.measured(self._setup.table, clock)
            except ValueError as error:
                self.warn(f"evaluation: {error}")
                return "{}"
            self._log({"round": clock.round, "kimg": clock.images / 1000, **metrics})
            told = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            self._since += time.perf_counter() - began  # the rates are those of training
            self._line.say(f"{clock.images / 1000:8.2f} kimg  {told}")
            return json.dumps(metrics)

        return json.loads(on_first_rank(self._setup.group, measure))

    def animate(self) -> None:
        """Join the pictures of points to one that moves; a collective."""
        on_first_rank(self._setup.group, self._pictures.animate)

    def warn(self, problem: str | None) -> None:
        """Say what went wrong, once; it did not end the run."""
        if problem and problem not in self._told:
            self._told.add(problem)
            self._line.say(problem)

    def _log(self, event: Mapping[str, float | int]) -> None:
        assert self._events is not None
        self.warn(self._events.write(event))

    def _show(self, clock: Clock, seconds: float, stats: Mapping[str, float], bad: Mapping[str, Sequence[str]]) -> None:
        for name, lines in bad.items():
            new = [line for line in lines if line not in self._told]
            for line in new[:MOST_TOLD]:
                self._line.say(f"data.{name}: a bad sample, replaced: {line}")
            self._told.update(new)
            if len(new) > MOST_TOLD:
                self._line.say(f"data.{name}: and {len(new) - MOST_TOLD} more; `bigan pack FOLDER --check` lists them all")
        rate = (clock.images - self._from) / seconds
        rates = {"images/s": rate, "s/kimg": 1000 / rate, "loader_wait": (self._waited() - self._waited_before) / seconds}
        with looking(self._setup.table, clock) as look:
            samples = self._pictures.samples(look)
            figures = self._pictures.figures(look, samples)
            self._log({"round": clock.round, "kimg": clock.images / 1000, **rates, **_counts(bad), **stats, **figures})
            self._line.tick(clock.images / 1000, {**rates, **stats, **figures})
            self._pictures.draw(look, samples, clock, figures)

    def _begin(self, clock: Clock) -> None:
        self.meter = Meter()
        self._from, self._since, self._waited_before = clock.images, time.perf_counter(), self._waited()

    def _waited(self) -> float:
        return sum(feed.ahead.waited_s for feed in self._setup.feeds.values())


def _counts(bad: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many bad samples each stream has met, of those that have."""
    return {f"data.{name}/bad": len(lines) for name, lines in bad.items() if lines}
