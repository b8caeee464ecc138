"""The energy view: ascent that touches no parameter, and a buffer that belongs to the run and not to a process."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from bigan.batch import ArraySpec, Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.config import parse
from bigan.game import Context, Game
from bigan.games.energy import Energy, Replay
from bigan.look import Look
from bigan.networks.mlp import MLPCritic
from bigan.play import Meter, Table, play, sample

from ..cli.launch import bigan, differing, saved

CPU = torch.device("cpu")
POINTS = {"real": DataSpec(samples=8, arrays=(ArraySpec(name="points", shape=(2,), dtype="float32"),))}
CRITIC = MLPCritic(width=16, depth=2, activation="silu")
SMALL = Energy(critic=CRITIC, buffer=32, steps=4, step_size=0.1, noise=0.05, span=2.0)


class Circle:
    """A point of the unit circle at every position."""

    def read(self, start: int, count: int) -> Batch:
        index = torch.arange(start, start + count)
        return Batch(index, {"points": torch.stack([index.float().cos(), index.float().sin()], 1)})


def circling(table: Callable[..., Table], game: Game, **rest: Any) -> Table:
    return replace(table(game, lr=0.01, **rest), feeds={"real": Circle()})


def context(game: Game, count: int = 8, name: str = "a") -> Context:
    draws = Draws((0, name), 0, count, CPU)
    return Context(players=game.players, batches={}, draws=draws, clock=Clock(batch=count), state=game.state)


def test_ascent_climbs_and_touches_no_parameter() -> None:
    settings = replace(SMALL, noise=0.0, steps=20, step_size=0.02)
    game = settings.build(POINTS)
    critic = game.players["critic"]
    before = {name: parameter.clone() for name, parameter in critic.named_parameters()}
    start = torch.rand(64, 2) - 0.5
    end = settings.ascend(context(game, 64), start)
    assert (critic(end) > critic(start)).all()
    assert not end.requires_grad
    for name, parameter in critic.named_parameters():
        assert parameter.grad is None
        assert parameter.requires_grad
        assert torch.equal(parameter, before[name])


def test_a_step_is_the_gradient_of_each_samples_own_output() -> None:
    settings = replace(SMALL, steps=1, noise=0.0)
    game = settings.build(POINTS)
    x = (torch.rand(5, 2) - 0.5).requires_grad_()
    rows = [torch.autograd.grad(game.players["critic"](x)[row], x, retain_graph=True)[0][row] for row in range(5)]
    torch.testing.assert_close(settings.ascend(context(game, 5), x), x.detach() + 0.1 * torch.stack(rows))


def test_ascent_stays_within_its_span_and_noise_is_keyed() -> None:
    wild = replace(SMALL, step_size=1e3)
    game = wild.build(POINTS)
    ends = wild.ascend(context(game), torch.zeros(8, 2))
    assert ends.abs().max() == 2
    start = torch.zeros(8, 2)
    once, again, other = (SMALL.ascend(context(game, name=name), start) for name in "aab")
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_end_points_go_back_where_they_came_from(table: Callable[..., Table]) -> None:
    game = replace(SMALL, fresh=0.0).build(POINTS)
    before = game.state.get_buffer("samples").clone()
    seats = circling(table, game)
    slots: list[Tensor] = []
    move = game.moves[0]

    def watched(ctx: Context) -> Any:
        terms = move.loss(ctx)
        slots.append(ctx.kept["slots"])
        return terms

    play(replace(seats, game=replace(game, moves=(replace(move, loss=watched),))), Clock(batch=8), Meter())
    moved = (game.state.get_buffer("samples") != before).any(1).nonzero().flatten()
    assert moved.tolist() == sorted({*slots[0].tolist()})
    distance = (game.state.get_buffer("samples") - before).norm(dim=1).max()
    assert 0 < distance < 2  # from where they were, and not from noise


def test_of_two_ends_for_one_slot_the_later_stays() -> None:
    replay = Replay(torch.zeros(3, 1))
    replay.put(torch.tensor([2, 0, 2, 2]), torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    assert replay.get_buffer("samples").flatten().tolist() == [2.0, 0.0, 4.0]


def test_how_the_batch_is_divided_does_not_show(table: Callable[..., Table]) -> None:
    """As among ranks: rows of the global batch, and not of a forward, draw and write."""
    buffers = []
    for micro_batch in (8, 2):
        torch.manual_seed(0)
        game = replace(SMALL, buffer=6).build(POINTS)  # so few slots that most come twice
        seats, clock = circling(table, game, micro_batch=micro_batch), Clock(batch=8)
        for _ in range(3):
            clock = play(seats, clock, Meter())
        buffers.append(game.state.get_buffer("samples"))
    torch.testing.assert_close(buffers[0], buffers[1], atol=1e-5, rtol=0)


def test_samples_do_not_touch_the_buffer(table: Callable[..., Table]) -> None:
    game = SMALL.build(POINTS)
    before = game.state.get_buffer("samples").clone()
    seats = circling(table, game)
    first = sample(game, seats.averages, Clock(batch=8), 6, device=CPU)["points"]
    parts = [sample(game, seats.averages, Clock(batch=8), 3, start=start, device=CPU)["points"] for start in (0, 3)]
    torch.testing.assert_close(torch.cat(parts), first)
    assert torch.equal(game.state.get_buffer("samples"), before)


def write_ring(path: Path, **changes: Any) -> Path:
    game = {"kind": "energy", "buffer": 32, "steps": 3, "step_size": 0.1, "span": 3, "critic": {"kind": "mlp", "width": 8}}
    run = {"name": "run", "data": {"real": {"kind": "ring"}}, "batch": 8, "length_kimg": 0.064, "tick_kimg": 0.032}
    config = {**run, "game": game}
    path.write_text(yaml.safe_dump(config | changes))
    return path


def test_the_buffer_survives_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_ring(tmp_path / "run.yaml")
    assert bigan("train", config, "name=whole").status == 0
    assert bigan("train", config, "length_kimg=0.032").status == 0
    half = saved(Path("runs/run")).tensors["state.samples"]
    assert bigan("train", config).status == 0
    one, other = saved(Path("runs/run")), saved(Path("runs/whole"))
    assert differing(one, other) == []
    assert not torch.equal(one.tensors["state.samples"], half)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"critic": {"kind": "mlp", "norm": "batch"}}, r"critic\.norm: ascent needs a critic that judges each sample alone"),
        ({"critic": {"kind": "mlp", "minibatch": {}}}, r"critic\.minibatch: ascent needs"),
        ({"fresh": 1.5}, r"game\.fresh"),
        ({"step_size": 0}, r"game\.step_size"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    raw = yaml.safe_load(write_ring(tmp_path / "run.yaml").read_text())
    with pytest.raises(ValueError, match=told):
        parse(raw | {"game": raw["game"] | changes}, tmp_path / "run.yaml")


def test_images_lie_where_images_lie() -> None:
    with pytest.raises(ValueError, match=r"span: 2, but images lie in \[-1, 1\]"):
        SMALL.build({"real": DataSpec(samples=8, image_shape=(1, 16, 16))})


def test_slots_are_drawn_on_the_way_between_samples_too() -> None:
    game = SMALL.build(POINTS)
    look = Look(game=game, players=game.players, clock=Clock(batch=8), device=CPU)
    assert look.between(torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([0.0, 0.5]))["points"].shape == (2, 2)
