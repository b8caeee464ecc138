"""What several test files share: a table to play on, made of plain functions of the position in a stream."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from bigan.average import Average
from bigan.batch import Batch
from bigan.distributed.group import Alone
from bigan.distributed.player import seat
from bigan.distributed.zero import Division
from bigan.game import Game, Group
from bigan.optimizers import SGD
from bigan.play import Table

settings.register_profile("bigan", deadline=None)  # the machine may be shared: a slow example is no failure
settings.load_profile("bigan")

CPU = torch.device("cpu")


@dataclass
class Positions:
    """A stream whose sample at a position is a function of that position; remembers what was read."""

    phase: float
    reads: list[tuple[int, int]] = field(default_factory=list)

    def read(self, start: int, count: int) -> Batch:
        self.reads.append((start, count))
        index = torch.arange(start, start + count)
        return Batch(index, {"images": self.images(index)})

    def images(self, index: Tensor) -> Tensor:
        """[N, 3] float64."""
        return torch.sin(index[:, None].double() * torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64) + self.phase)


def make_table(
    game: Game,
    *,
    micro_batch: int = 8,
    lr: float = 0.1,
    group: Group | None = None,
    average: Average | None = None,
    seed: int = 3,
) -> Table:
    """A table of one process: SGD, and every stream that the game reads."""
    division = Division(micro_batch=micro_batch, accumulation=1)
    streams = sorted({stream for move in game.moves for stream in move.reads})
    return Table(
        game=game,
        players={
            name: seat(module, SGD(lr=lr), average if name in game.averaged else None, division, Alone(), CPU)
            for name, module in game.players.items()
        },
        feeds={stream: Positions(phase=number) for number, stream in enumerate(streams)},
        group=group or Alone(),
        micro_batch=micro_batch,
        seed=seed,
        device=CPU,
    )


@pytest.fixture(autouse=True)
def seeded() -> None:
    """First weights are the same in every order of the tests."""
    torch.manual_seed(0)


@pytest.fixture
def table() -> Callable[..., Table]:
    return make_table
