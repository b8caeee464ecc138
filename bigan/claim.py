"""A run folder in the hands of one group of ranks: the lock, the lease, how it stands, how often it has gone back."""

import json
import sys
from contextlib import ExitStack
from typing import Self, final

from bigan import ops
from bigan.attempts import Attempts, DivergedError, Setback
from bigan.build import Setup
from bigan.config import Run, dump, game_file
from bigan.data.ahead import StoppedWaitingError
from bigan.distributed.group import Alone, World, on_first_rank
from bigan.distributed.lease import FencedError, Lease
from bigan.distributed.zero import deepspeed_config
from bigan.files import save
from bigan.folder import RunFolder, environment
from bigan.status import Word, write_status


@final
class Claim:
    """The right to write into a run's folder; rank 0 writes. Use it as a context manager.

    Attributes:
        lease: its `check` comes before every writing.
    """

    lease: Lease

    def __init__(self, run: Run, group: Alone | World) -> None:
        self._run, self._group = run, group
        self._folder = RunFolder(run.home)
        self.lease = Lease(run.home)
        self._attempts: Attempts | None = None
        self._begun = self._told = False
        self._held = ExitStack()

    def take(self) -> int:
        """Take the folder, or keep it; a collective.

        Returns:
            the attempt that is to be played.

        Raises:
            ValueError: on every rank, if another process trains the run.
            DivergedError: on every rank, if it has gone back as often as it may.
        """

        def take() -> str:
            if self._attempts is None:
                sole = self._held.enter_context(self._folder.locked())
                self.lease.take(sole=sole)
                self._held.callback(self.lease.release)
                self._attempts = Attempts(self._folder.attempts)
            return json.dumps([self._attempts.number, self._attempts.spent(self._run.rollbacks)])

        attempt, spent = json.loads(on_first_rank(self._group, take))
        if spent:
            raise DivergedError(spent)
        return attempt

    def describe(self, setup: Setup) -> str:
        """Write what the run is, and that it runs; a collective.

        Returns:
            what is to be said of it: that the user's game file has changed since.
        """

        def describe() -> str:
            changed = self._folder.other_game(game_file(self._run)) if setup.clock.round else ""
            about = environment(str(ops.backend()), str(setup.table.device), setup.group.size)
            self._folder.begin(dump(self._run), about, game_file(self._run))
            self._folder.deepspeed.unlink(missing_ok=True)
            if setup.group.size > 1:
                optimizers = {name: self._run.optimizers.get(name, self._run.optimizer) for name in setup.players}
                engines = {
                    name: deepspeed_config(optimizer, setup.division, setup.group.size)
                    for name, optimizer in optimizers.items()
                }
                save(self._folder.deepspeed, (json.dumps(engines, indent=1) + "\n").encode())
            write_status(self._folder.status, "running", f"from {setup.clock.images / 1000:g} kimg")
            return changed

        changed = on_first_rank(self._group, describe)
        self._begun = True
        return changed

    def go_back(self, setback: Setback) -> str:
        """Note why the run goes back; a collective. `take` then says whether it may.

        Returns:
            where to, in words.
        """

        def note() -> str:
            assert self._attempts is not None
            self.lease.check()
            return self._attempts.note(setback, self._folder.checkpoints)

        return on_first_rank(self._group, note)

    def tell(self, word: Word, detail: str) -> None:
        """Write how the run ended; a collective.

        Raises:
            ValueError: on every rank, if it cannot be written.
        """
        self._told = True
        on_first_rank(self._group, lambda: self._write(word, detail))

    def _write(self, word: Word, detail: str) -> None:
        self.lease.check()
        write_status(self._folder.status, word, detail)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._held:
            if self._begun and error is not None and not self._told and not isinstance(error, FencedError):
                word, detail = _last_words(error)
                try:
                    if self._group.rank == 0:
                        self._write(word, detail)
                except (OSError, ValueError, FencedError) as second:
                    print(f"bigan: {self._folder.status}: is not up to date ({second})", file=sys.stderr)


def _last_words(error: BaseException) -> tuple[Word, str]:
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "ended at once, without a save"
    if isinstance(error, StoppedWaitingError):
        return "preempted", str(error)
    return "failed", f"{type(error).__name__}: {error}"
