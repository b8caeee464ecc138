"""Open first. A run: prepare, resume, play rounds; log, draw and save on the way; go back where a number is none."""

import gc
import os
import signal
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

from bigan import ops
from bigan.attempts import Setback
from bigan.build import Setup, prepared
from bigan.claim import Claim
from bigan.clock import Clock
from bigan.config import Run
from bigan.distributed.group import Alone, World, joined, local_device
from bigan.distributed.lease import FencedError
from bigan.distributed.preemption import Stop, listening
from bigan.distributed.saver import Saver
from bigan.distributed.watchdog import Watchdog, watching
from bigan.health import Witness
from bigan.pictures import grid_path
from bigan.play import close, play_moves
from bigan.report.progress import ProgressLine, progress_line
from bigan.resume import AUTO, NONE
from bigan.status import Word
from bigan.ticks import Ticks


@dataclass(frozen=True)
class Ended:
    """How a run ended, as its STATUS tells it."""

    word: Word
    detail: str


@dataclass(frozen=True, kw_only=True)
class Session:
    """What outlives an attempt."""

    run: Run
    watchdog: Watchdog
    stop: Stop
    claim: Claim


def train(run: Run, resume: str = AUTO, stop: Stop | None = None) -> None:
    """Train a run to its length, from where it stands.

    Args:
        run: the run.
        resume: where it begins, as in `bigan.resume.starting_point`.
        stop: the wish to stop, where the caller is `listening` already.

    Raises:
        ValueError: for what the user can mend, in one line.
        DivergedError: if a loss, a gradient or a weight becomes infinite or NaN, too often; what was saved before stands.
        FencedError: if another process has taken the run over.
        LostRankError: if another rank is gone.
    """
    with ExitStack() as stack:
        stop = stop or stack.enter_context(listening())  # outermost: torchrun ends ranks while they say whom they lost
        watchdog = stack.enter_context(watching(run.home / "hangs", run.hang_timeout_s))
        device = local_device()
        group = stack.enter_context(joined(device, 2 * watchdog.longest_s))
        watchdog.meet(group)
        claim = stack.enter_context(Claim(run, group))
        session = Session(run=run, watchdog=watchdog, stop=stop, claim=claim)
        again = _restarted()
        while True:
            with ExitStack() as attempt:
                start = AUTO if again and resume == NONE else resume
                with watchdog.paused("the preparations"):
                    setup = attempt.enter_context(
                        prepared(run, group, device, resume=start, begin=claim.take, beat=watchdog.beat)
                    )
                ended = _attempt(session, setup, attempt)
            del setup
            gc.collect()  # two sets of players might not fit
            if isinstance(ended, Ended):
                break
            where = claim.go_back(ended)
            if group.rank == 0:
                print(f"{run.home}: {ended.message}; back to {where}", flush=True)
            again = True
        claim.tell(ended.word, ended.detail)


def _restarted() -> bool:
    """Whether Slurm or torchrun has started this command again."""
    return any(int(os.environ.get(count, "0")) > 0 for count in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))


def _attempt(session: Session, setup: Setup, stack: ExitStack) -> Ended | Setback:
    """Play from where the setup stands."""
    run, stop = session.run, session.stop
    first = setup.group.rank == 0
    if setup.finished:
        if first:
            print(f"{run.home}: finished at {setup.clock.images / 1000:g} kimg; raise length_kimg to go on")
        return Ended("complete", f"{setup.clock.images / 1000:g} kimg")
    changed = session.claim.describe(setup)
    line = stack.enter_context(progress_line(run.length_kimg, setup.clock.images / 1000, quiet=not first))
    line.say(f"{run.home}: {ops.backend()}; {setup.group.size} rank(s); from {setup.clock.images / 1000:g} kimg")
    for note in (*filter(None, [changed]), *setup.notes, *setup.table.game.notes):
        line.say(f"{run.home}: {note}")
    for name, stream in setup.streams.items():
        for note in stream.notes:
            line.say(f"data.{name}: {note}")
    for feed in setup.feeds.values():
        feed.ahead.stopping = lambda: stop.asked
    saver = stack.enter_context(Saver(setup.folder.checkpoints, run.keep_checkpoints, session.claim.lease.check, writes=first))
    ticks = Ticks(setup, line, session.claim.lease.check)
    return _rounds(session, setup, saver, ticks, line)


def _rounds(session: Session, setup: Setup, saver: Saver, ticks: Ticks, line: ProgressLine) -> Ended | Setback:
    """Play until the run's length is reached, a rank is asked to stop, or a number is none."""
    run, clock, group = session.run, setup.clock, setup.group
    done = finished = False
    stopping = 0
    while not done:
        first = session.watchdog.paused("the first round") if clock is setup.clock else nullcontext()  # it may compile
        with first:
            before, played = clock, play_moves(setup.table, clock)
        stopping, lost, unsaved, *raised = group.highest(
            [session.stop.number, bool(session.claim.lease.lost), _failure(saver)], played.witness.flags(group.rank)
        )
        if lost:
            raise FencedError(group.agree(session.claim.lease.lost))
        if message := _fault(setup, played.witness, raised) or _unsaved(group, saver, unsaved):
            return Setback(attempt=clock.attempt, round=clock.round + 1, begun=setup.clock.round, message=message)
        clock = close(setup.table, played, ticks.meter)
        finished = clock.images >= run.length_kimg * 1000
        done = finished or bool(stopping)
        line.advance(clock.images / 1000)
        ticking = done or _crossed(before, clock, run.tick_kimg)
        if ticking and not stopping:
            ticks.tick(clock)
        measuring = _crossed(before, clock, run.evaluation.every_kimg) and not stopping
        if done or measuring or _crossed(before, clock, run.checkpoint_kimg):
            with session.watchdog.paused("saving"):
                saver.save(setup.checkpoint(clock), wait=done)
                if measuring and (metrics := ticks.measured(clock)):
                    saver.save(setup.checkpoint(clock, metrics), wait=done)
        if ticking and stopping:  # who asked may not wait for long
            ticks.tick(clock)
    lost, unsaved = group.highest([bool(session.claim.lease.lost), _failure(saver)])
    if lost:
        raise FencedError(group.agree(session.claim.lease.lost))
    if message := _unsaved(group, saver, unsaved):
        return Setback(attempt=clock.attempt, round=clock.round, begun=setup.clock.round, message=message)
    if finished:
        ticks.animate()
        grid = grid_path(setup, clock)
        line.say(f"finished; samples: {grid}" if grid.exists() else "finished")
        return Ended("complete", f"{clock.images / 1000:g} kimg")
    line.say(f"stopped and saved at {clock.images / 1000:g} kimg; run the same command again to go on")
    return Ended("stopped" if stopping == signal.SIGINT else "preempted", f"{clock.images / 1000:g} kimg")


def _fault(setup: Setup, witness: Witness, raised: list[int]) -> str:
    """What is no number, on any rank, and where its batch is kept; or nothing."""
    players = setup.table.players
    fault = witness.find(raised, players)
    if fault is None:
        return ""
    kept = witness.keep(setup.folder.diverged, fault, setup.run.seed, setup.group.rank, players)
    return f"{fault}; {kept}"


def _failure(saver: Saver) -> int:
    """0 where saving is well, 1 where it failed, 2 where there were no numbers to save."""
    return 2 if saver.diverged else int(saver.problem is not None)


def _unsaved(group: Alone | World, saver: Saver, failure: int) -> str:
    """What is no number in a checkpoint, or nothing.

    Raises:
        ValueError: on every rank, if a checkpoint could not be written.
    """
    problem = group.agree(saver.problem or "") if failure else ""
    if failure == 1:
        raise ValueError(problem)
    return problem


def _crossed(before: Clock, after: Clock, every_kimg: float) -> bool:
    """Whether a multiple of the interval lies between two clocks; an interval of 0 is never crossed."""
    return every_kimg > 0 and before.images // (every_kimg * 1000) < after.images // (every_kimg * 1000)
