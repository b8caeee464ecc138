"""A compiled run is the run: weights, names, checkpoints; and what torch cannot differentiate is refused by name."""

from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from bigan.average import Average
from bigan.clock import Clock
from bigan.distributed.group import Alone
from bigan.distributed.player import Player, seat
from bigan.distributed.zero import Division
from bigan.game import Context, Game, Move, Terms
from bigan.networks.dcgan import DCGANGenerator
from bigan.optimizers import SGD
from bigan.penalties import R1, by_autograd, with_gradient
from bigan.play import Meter, Table, play

from ..distributed import reference
from ..distributed.conforming import CPU, Opaque, Stream

BATCH, BOUND = 8, 1e-6
Mode = Literal["none", "default"]

# Dynamo looks at it while it wraps its inputs, and would drop the warning itself were it no error.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def critic_loss(ctx: Context) -> Terms:
    """R1 in autograd's way, which takes a derivative of the critic's derivative."""
    critic, batch = ctx.players["critic"], ctx.batch("real")
    with torch.no_grad():
        fake = ctx.players["generator"](batch["latents"])
    logits, gradient = with_gradient(critic, batch.images)
    return {"adversarial": critic(fake).mean() - logits.mean(), "r1": R1(weight=2.0)(gradient)}


def generator_loss(ctx: Context) -> Terms:
    return {"adversarial": -ctx.players["critic"](ctx.players["generator"](ctx.batch("real")["latents"])).mean()}


def table(compile: Mode, saved: dict[str, dict[str, Tensor]] | None = None) -> tuple[Table, dict[str, Player]]:
    critic = Opaque(reference.networks()["critic"])
    generator = DCGANGenerator(latent=reference.LATENT, width=2).build((1, 8, 8))
    modules: dict[str, nn.Module] = {"critic": critic, "generator": generator}
    division, average = Division(micro_batch=BATCH, accumulation=1), Average()
    players = {
        name: seat(
            module, SGD(lr=0.05, momentum=0.5), average, division, Alone(), CPU, saved[name] if saved else None, compile=compile
        )
        for name, module in modules.items()
    }
    moves = (
        Move(player="critic", loss=critic_loss, reads=("real",)),
        Move(player="generator", loss=generator_loss, reads=("real",)),
    )
    game = Game(players=modules, moves=moves, sample=lambda ctx: {}, averaged=frozenset(modules))
    feeds = {"real": Stream()}
    return Table(game=game, players=players, feeds=feeds, group=Alone(), micro_batch=BATCH, seed=0, device=CPU), players


def tensors(players: dict[str, Player]) -> dict[str, dict[str, Tensor]]:
    return {name: {k: v.clone() for k, v in player.tensors().items()} for name, player in players.items()}


def apart(one: dict[str, dict[str, Tensor]], other: dict[str, dict[str, Tensor]]) -> float:
    assert one.keys() == other.keys()
    assert all(one[name].keys() == other[name].keys() for name in one)
    return max(float((one[name][key] - other[name][key]).abs().max()) for name in one for key in one[name])


def test_a_compiled_run_is_the_run_and_reads_its_checkpoints() -> None:
    torch.manual_seed(0)
    first = tensors(table("none")[1])
    left: dict[Mode, dict[str, dict[str, Tensor]]] = {}
    modes: tuple[Mode, Mode] = ("none", "default")
    for mode in modes:
        seats, players = table(mode, first)
        clock = Clock(batch=BATCH)
        for _ in range(3):
            clock = play(seats, clock, Meter())
        left[mode] = tensors(players)
        assert bool(counters["stats"]["unique_graphs"]) == (mode == "default")
    went = {name: {key: left["none"][name][key] for key in kept} for name, kept in first.items()}
    assert apart(first, went) > 0.02
    assert apart(left["none"], left["default"]) <= BOUND
    seats, players = table("none", left["default"])
    play(seats, Clock(batch=BATCH, round=3), Meter())
    straight, others = table("none", left["none"])
    play(straight, Clock(batch=BATCH, round=3), Meter())
    assert apart(tensors(players), tensors(others)) <= BOUND


def test_a_second_derivative_of_a_compiled_network_is_refused() -> None:
    one = seat(nn.Linear(3, 1), SGD(), None, Division(micro_batch=4, accumulation=1), Alone(), CPU, compile="default")
    x = torch.randn(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(one.module(x).square().sum(), x, create_graph=True)
    with pytest.raises(ValueError, match=r"compile: a loss differentiates a compiled network twice.*with_gradient"):
        one.update(gradient.square().sum(), Clock(batch=4), last=True)
    _, gradient = by_autograd(one.module, x.detach())
    assert one.update(gradient.square().sum(), Clock(batch=4), last=True) is not None


def test_each_of_several_networks_of_one_player_is_compiled() -> None:
    networks = nn.ModuleDict({"one": nn.Linear(3, 3), "other": nn.Linear(3, 1)})
    division = Division(micro_batch=2, accumulation=1, zero_stage=0)
    player = seat(networks, SGD(lr=0.1), None, division, Alone(), CPU, compile="default")
    one, other = (player.module.get_submodule(name) for name in ("one", "other"))
    player.update(other(one(torch.ones(2, 3))).mean(), Clock(batch=2), last=True)
    assert counters["stats"]["unique_graphs"] == 2
    player.close()
