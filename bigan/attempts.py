"""How often a run has gone back to an earlier checkpoint, and why: kept in its folder, so that a restarted process knows."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from bigan.distributed import checkpoint
from bigan.files import save

ASIDE = ".aside"


class DivergedError(RuntimeError):
    """A loss, a gradient or a weight is no longer a number, and the run may go back no more."""


@dataclass(frozen=True, kw_only=True)
class Setback:
    """What made a run go back.

    Attributes:
        attempt: during which it happened.
        round: that was played, from 1.
        begun: the round from which that attempt had gone on.
        message: what was no number.
    """

    attempt: int
    round: int
    begun: int
    message: str


@final
class Attempts:
    """The setbacks of a run.

    Args:
        path: of the JSON file that keeps them.

    Raises:
        ValueError: if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.setbacks = [Setback(**entry) for entry in json.loads(path.read_text())] if path.exists() else []
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path}: cannot be read ({error}); restore it, or remove it to forget the rollbacks") from None

    @property
    def number(self) -> int:
        """The attempt that is to be played; 0 while nothing went wrong."""
        return self.setbacks[-1].attempt + 1 if self.setbacks else 0

    def spent(self, rollbacks: int) -> str:
        """Why the run may not be played on, if it has had more setbacks than it may go back; or nothing."""
        if len(self.setbacks) <= rollbacks:
            return ""
        return (
            f"{self.setbacks[-1].message}; it may not go back {'again' if rollbacks else 'at all'} (rollbacks: {rollbacks}); "
            "what was saved before stands; set rollbacks higher to try other random numbers"
        )

    def note(self, setback: Setback, checkpoints: Path) -> str:
        """Keep a setback; a checkpoint from which two attempts in a row have failed is put aside, if there is an older one.

        Returns:
            where the next attempt begins, in words.

        Raises:
            OSError: if that cannot be written.
        """
        again = bool(self.setbacks) and self.setbacks[-1].begun == setback.begun
        save(self._path, (json.dumps([asdict(entry) for entry in [*self.setbacks, setback]], indent=1) + "\n").encode())
        self.setbacks.append(setback)
        found = checkpoint.candidates(checkpoints)
        if again and len(found) > 1 and checkpoint.round_of(found[0]) == setback.begun:
            aside = found[0].with_name(f"{found[0].name}.attempt_{setback.attempt}{ASIDE}")
            found[0].rename(aside)
            return f"{found[1].name}, as {aside.name} has led there twice"
        return found[0].name if found else "its beginning"
