"""NaN and infinity, found at the end of the round in which they arise: in which move, and in what of it, they came first."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import get_total_norm

from bigan.batch import Batch
from bigan.clock import Clock
from bigan.files import save
from bigan.game import Move, Player

What = Literal["loss", "gradient", "weight"]
NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The first thing in a round that is no number.

    Attributes:
        round: that was played, from 1.
        move: its name.
        repetition: of the move, from 0.
        repeat: how often the move is played in a round.
        what: a "loss" that is NaN or infinite; a "gradient", where the loss is a number; a "weight", where its gradient is too.
        names: the loss's term, or the parameters; none where the engine cannot say.
        rank: one on which it showed.
    """

    round: int
    move: str
    repetition: int
    repeat: int
    what: What
    names: tuple[str, ...]
    rank: int

    def __str__(self) -> str:
        step = f" (step {self.repetition + 1} of {self.repeat})" if self.repeat > 1 else ""
        names = ", ".join(self.names[:NAMED]) + (f" and {len(self.names) - NAMED} more" if len(self.names) > NAMED else "")
        if self.what == "loss":
            found = f"loss term {names} is NaN or infinite on rank {self.rank}"
        elif self.what == "gradient":
            found = f"the gradient{f' of {names}' if names else ''} is NaN or infinite, though the loss is finite"
        else:
            found = f"the step made {names or 'a weight'} NaN or infinite, though its gradient is finite"
        return f"round {self.round}, move {self.move}{step}: {found}"


@dataclass(frozen=True)
class _Played:
    """A move as it was played, with what it read."""

    move: Move
    repetition: int
    clock: Clock
    batches: Mapping[str, Batch]


class Witness:
    """What the moves of one round show, in order of play; it stays on the device until the end of the round."""

    def __init__(self) -> None:
        self._played: list[_Played] = []
        self._seen: list[tuple[int, What, str]] = []
        self._values: list[Tensor] = []

    def move(self, move: Move, repetition: int, clock: Clock, batches: Mapping[str, Batch]) -> None:
        """A move begins; what follows is of it."""
        self._played.append(_Played(move, repetition, clock, batches))

    def term(self, name: str, value: Tensor) -> None:
        """A term of its loss, of one micro-batch; one number."""
        self._see("loss", name, value.detach().reshape(()))

    def step(self, norm: Tensor | None, player: Player) -> None:
        """Its step has been taken; `norm` [] is that of the gradient."""
        if norm is not None:
            self._see("gradient", "", norm)
        self._see("weight", "", get_total_norm([p.detach() for p in player.module.parameters()]))

    def _see(self, what: What, name: str, value: Tensor) -> None:
        self._seen.append((len(self._played) - 1, what, name))
        self._values.append(value)

    def flags(self, rank: int) -> Tensor:
        """For everything seen, in order of play, 0 where it is a number and rank + 1 where it is none: [M] int32."""
        if not self._values:
            return torch.zeros(0, dtype=torch.int32)
        values = torch.stack([value.double() for value in self._values])
        return values.isfinite().logical_not().int() * (rank + 1)

    def find(self, highest: Sequence[int], players: Mapping[str, Player]) -> Fault | None:
        """The first fault, from what `Group.highest` made of the flags: the same on every rank."""
        for raised, (number, what, name) in zip(highest, self._seen, strict=True):
            if raised:
                played = self._played[number]
                return Fault(
                    round=played.clock.round + 1,
                    move=played.move.name,
                    repetition=played.repetition,
                    repeat=played.move.repeat,
                    what=what,
                    names=(name,) if what == "loss" else self._parameters(number, what, players),
                    rank=raised - 1,
                )
        return None

    def _parameters(self, number: int, what: What, players: Mapping[str, Player]) -> tuple[str, ...]:
        """The parameters at fault, unless a later step of the player has spread it to others."""
        name = self._played[number].move.player
        if any(later.move.player == name for later in self._played[number + 1 :]):
            return ()
        if what == "gradient":
            norms = players[name].gradient_norms()
            return tuple(f"{name}.{parameter}" for parameter, norm in norms.items() if not torch.tensor(norm).isfinite())
        module = players[name].module
        return tuple(f"{name}.{key}" for key, value in module.named_parameters() if not bool(value.isfinite().all()))

    def keep(self, folder: Path, fault: Fault, seed: int, rank: int, players: Mapping[str, Player]) -> str:
        """Keep what the move at fault read on this rank, and what is needed to draw its random numbers again.

        Returns:
            a line: where it lies, or why it does not.
        """
        number, played = next(
            (number, played)
            for number, played in enumerate(self._played)
            if (played.move.name, played.repetition) == (fault.move, fault.repetition)
        )
        path = folder / f"round_{fault.round:08d}_attempt_{played.clock.attempt}_rank_{rank}"
        tensors = {
            f"{stream}.{name}": tensor.detach().contiguous().clone()
            for stream, batch in played.batches.items()
            for name, tensor in {"index": batch.index, **batch.fields}.items()
        }
        terms = [
            (name, float(value))
            for (of, what, name), value in zip(self._seen, self._values, strict=True)
            if of == number and what == "loss"
        ]
        about = {
            "fault": asdict(fault),
            "message": str(fault),
            "seed": seed,
            "attempt": played.clock.attempt,
            "rank": rank,
            "clock": asdict(played.clock),
            "terms": [{"name": name, "value": str(value)} for name, value in terms],
            "gradient_norms": {key: str(norm) for key, norm in players[played.move.player].gradient_norms().items()},
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, path.with_name(path.name + ".safetensors"))
            save(path.with_name(path.name + ".json"), (json.dumps(about, indent=1) + "\n").encode())
        except Exception as error:  # a full disk, in the words of three libraries: it must not hide the fault itself
            return f"{folder}: the batch cannot be kept ({error})"
        return f"the batch is kept in {folder}"
