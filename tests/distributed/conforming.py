"""Play the cells of `test_conformance.py` on the ranks that this was started on: `-m tests.distributed.conforming OUT`.

A cell is played by bigan on all ranks and by `reference.py` on each alone; OUT is told how far the two are apart.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from bigan.average import Average
from bigan.batch import Batch
from bigan.clock import Clock
from bigan.distributed import zero
from bigan.distributed.group import Alone, World, joined
from bigan.distributed.player import Player, seat
from bigan.distributed.zero import Division, ZeroEngine
from bigan.game import Context, Game, Move, Terms
from bigan.objectives import NonSaturating, Objective, Wasserstein
from bigan.optimizers import SGD, AdamW, Optimizer
from bigan.penalties import R1, GradientPenalty, Penalty, judge, mix
from bigan.play import Meter, Table, play
from bigan.pullback import obstacle

from . import reference
from .cells import PLAYERS, Cell, cells, referred, settings_of
from .reference import BATCH, CRITIC_STEPS, ROUNDS

CPU = torch.device("cpu")


class Opaque(nn.Module):
    """A critic that the pullback does not know, so that its penalty takes autograd's way."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Stream:
    """The reference's samples."""

    def read(self, start: int, count: int) -> Batch:
        return Batch(torch.arange(start, start + count), reference.samples(start, count))


@dataclass(frozen=True)
class Rules:
    """The game of the reference, as a game of bigan's."""

    objective: Objective
    penalties: tuple[Penalty, ...]

    def critic_loss(self, ctx: Context) -> Terms:
        batch = ctx.batch("real")
        real = batch.images
        with torch.no_grad():
            fake = ctx.players["generator"](batch["latents"])
        points: dict[str, Callable[[Tensor], object]] = {
            "real": lambda out: out.copy_(real),
            "fake": lambda out: out.copy_(fake),
            "mix": lambda out: mix(real, fake, batch["places"], out),
        }
        logits, penalties, _ = judge(ctx.players["critic"], self.penalties, ctx.step, points, real)
        return {"adversarial": self.objective.critic(logits["real"], logits["fake"]), **penalties}

    def generator_loss(self, ctx: Context) -> Terms:
        logits = ctx.players["critic"](ctx.players["generator"](ctx.batch("real")["latents"]))
        return {"adversarial": self.objective.generator(logits)}


RULES: Mapping[str, Rules] = {
    "none": Rules(NonSaturating(), ()),
    "R1": Rules(NonSaturating(), (R1(weight=reference.R1_WEIGHT),)),
    "WGAN-GP": Rules(Wasserstein(), (GradientPenalty(weight=reference.GP_WEIGHT),)),
}


@dataclass
class Outcome:
    """How far bigan and the reference are apart: the worst entry; norms and losses relative where they are above 1.

    Attributes:
        ranks: how far the ranks are apart.
        went, least_norm, widest: the reference's.
    """

    weights: float = 0.0
    moments: float = 0.0
    norms: float = 0.0
    losses: float = 0.0
    ranks: float = 0.0
    went: float = 0.0
    least_norm: float = 0.0
    widest: float = 0.0
    raised: str = ""


def table_of(cell: Cell, group: Alone | World) -> Table:
    modules = reference.networks()
    if cell.way == "autograd":
        modules["critic"] = Opaque(modules["critic"])
    share = BATCH // group.size
    division = Division(micro_batch=share // cell.accumulation, accumulation=cell.accumulation, zero_stage=cell.stage or 0)
    players = {
        name: seat(modules[name], optimizer, None, division, group, CPU, deepspeed=cell.stage is not None)
        for name, optimizer in zip(PLAYERS, settings_of(cell), strict=True)
    }
    assert (obstacle(modules["critic"]) is None) == (cell.way == "recorded")
    rules = RULES[cell.penalty]
    moves = (
        Move(player="critic", loss=rules.critic_loss, reads=("real",), repeat=CRITIC_STEPS),
        Move(player="generator", loss=rules.generator_loss, reads=("real",)),
    )
    game = Game(players=modules, moves=moves, sample=lambda ctx: {})
    return _table(game, players, group, division.micro_batch)


def _table(game: Game, players: Mapping[str, Player], group: Alone | World, micro_batch: int) -> Table:
    feeds = {"real": Stream()}
    return Table(game=game, players=players, feeds=feeds, group=group, micro_batch=micro_batch, seed=0, device=CPU)


def outcome(cell: Cell, group: Alone | World) -> Outcome:
    """Play a cell."""
    wanted = referred(cell.penalty, cell.optimizers, cell.clipped, cell.bounded)
    table, clock = table_of(cell, group), Clock(batch=BATCH)
    found = Outcome(went=wanted.went, least_norm=wanted.least_norm, widest=wanted.widest)
    for number in range(ROUNDS):
        meter = Meter()
        clock = play(table, clock, meter)
        means = meter.means(group)
        assert means.keys() == wanted.norms.keys() | wanted.losses.keys()
        found.norms = max(found.norms, *(_apart(means[name], values[number]) for name, values in wanted.norms.items()))
        found.losses = max(found.losses, *(_apart(means[name], values[number]) for name, values in wanted.losses.items()))
    for name, player in table.players.items():
        parameters, expected = list(player.module.parameters()), list(wanted.networks[name].parameters())
        for mine, theirs in zip(parameters, expected, strict=True):
            found.weights = max(found.weights, _distance(mine, theirs))
            found.ranks = max(found.ranks, _distance(mine, group.gather(mine.detach()[None])))
        assert isinstance(player, Player)
        found.moments = max(found.moments, _moments(player, wanted.optimizers[name], expected))
    return found


def _moments(player: Player, wanted: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> float:
    tensors, names = player.tensors(), [name for name, _ in player.module.named_parameters()]
    pairs = {
        f"optimizer.{name}/{key}": value
        for name, parameter in zip(names, parameters, strict=True)
        for key, value in wanted.state[parameter].items()
        if isinstance(value, Tensor)
    }
    assert pairs.keys() == {name for name in tensors if name.startswith("optimizer.")}
    return max((_distance(tensors[name], value) for name, value in pairs.items()), default=0.0)


def _apart(one: float, other: float) -> float:
    difference = abs(one - other) / max(1.0, abs(other))
    return difference if difference == difference else float("inf")


def _distance(one: Tensor, other: Tensor) -> float:
    difference = float((one.detach().double() - other.detach().double()).abs().max())
    return difference if difference == difference else float("inf")


def _two_backwards(self: ZeroEngine, loss: Tensor, rate: float, *, last: bool) -> Tensor:
    self._engine.backward(loss / 2, retain_graph=True, scale_wrt_gas=False)
    self._engine.backward(loss / 2, scale_wrt_gas=False)
    return self.state.step(self._engine.step)


def _plain_backward(self: ZeroEngine, loss: Tensor, rate: float, *, last: bool) -> Tensor:
    loss.backward()
    return self.state.step(self._engine.step)


@contextmanager
def _thawed(modules: Any) -> Iterator[None]:
    yield


def _clipping(optimizer: Optimizer, division: Division, ranks: int, config: Any = zero.deepspeed_config) -> dict[str, Any]:
    return config(optimizer, division, ranks) | {"gradient_clipping": 1.0}


FAULTS: Mapping[str, Callable[[], AbstractContextManager[object]]] = {
    "two backwards a step": lambda: mock.patch.object(ZeroEngine, "update", _two_backwards),
    "critic not frozen in the generator's move": lambda: mock.patch("bigan.play.frozen", _thawed),
    "clipping left at 1": lambda: mock.patch.object(zero, "deepspeed_config", _clipping),
    "plain loss.backward()": lambda: mock.patch.object(ZeroEngine, "update", _plain_backward),
}


def faults(group: Alone | World) -> dict[str, Outcome]:
    """What becomes of a cell when one of DeepSpeed's rules is broken; a stage that allows it is left out."""
    found = {}
    for name, stage in product(FAULTS, (0, 1, 2)):
        if (name, stage) == ("two backwards a step", 0):
            continue
        with FAULTS[name]():
            try:
                found[f"{name}, ZeRO {stage}"] = outcome(Cell(stage=stage, penalty="WGAN-GP"), group)
            except Exception as error:
                found[f"{name}, ZeRO {stage}"] = Outcome(raised=f"{type(error).__name__}: {error}"[:80])
    return found


class Remembering(nn.Module):
    """Keeps what this rank alone has seen, in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(64, 1), nn.Buffer(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.lerp_(x.flatten(1).detach().mean(0), 0.5)
        return self.linear(x.flatten(1) - self.seen)


def buffers_apart(group: Alone | World) -> tuple[float, float]:
    """How far a buffer that no batch norm owns went, and how far the ranks' are apart after a round."""
    module, division = Remembering(), Division(micro_batch=BATCH // group.size, accumulation=1)
    move = Move(player="a", loss=lambda ctx: {"a": ctx.players["a"](ctx.batch("real").images).mean()}, reads=("real",))
    game = Game(players={"a": module}, moves=(move,), sample=lambda ctx: {})
    players = {"a": seat(module, SGD(), None, division, group, CPU)}
    play(_table(game, players, group, division.micro_batch), Clock(batch=BATCH), Meter())
    return float(module.seen.abs().max()), _distance(module.seen, group.gather(module.seen[None]))


def resumed(group: Alone | World, stage: int) -> list[str]:
    """The names of what a player that is restored has otherwise than the one that was saved."""
    division = Division(micro_batch=BATCH // group.size // 2, accumulation=2, zero_stage=stage)

    def restored(saved: Mapping[str, Tensor] | None) -> Player:
        critic = reference.networks()["critic"]
        return seat(critic, AdamW(lr=0.01, weight_decay=0.5), Average(), division, group, CPU, saved, deepspeed=True)

    one = restored(None)
    for step in range(4):
        loss = one.module(reference.samples(step + group.rank, 2)["images"]).square().mean()
        one.update(loss, Clock(batch=BATCH), last=step % 2 == 1)
    one.follow(Clock(batch=BATCH, round=2))
    saved = {name: tensor.clone() for name, tensor in one.tensors().items()}
    other = restored(saved).tensors()
    assert other.keys() == saved.keys()
    return [name for name, tensor in saved.items() if not torch.equal(tensor, other[name])]


@dataclass
class Told:
    """What OUT is told."""

    ranks: int
    cells: dict[str, Outcome] = field(default_factory=dict)
    faults: dict[str, Outcome] = field(default_factory=dict)
    buffers: tuple[float, float] = (0.0, 0.0)
    resumed: list[list[str]] = field(default_factory=list)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with joined(CPU) as group:
        told = Told(group.size)
        for cell in cells(group.size):
            told.cells[cell.name] = outcome(cell, group)
        if group.size == 2:
            told.buffers = buffers_apart(group)
            told.resumed = [resumed(group, stage) for stage in (0, 1, 2)]
            told.faults = faults(group)
        if group.rank == 0:
            out.write_text(json.dumps(told, default=vars))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
