"""The loop within a round: who moves, what is read and drawn, and what a round hands on."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from bigan.clock import Clock, Draws
from bigan.game import Context, Game, Move, Round, Samples
from bigan.play import Meter, Table, play, sample

MakeTable = Callable[..., Table]
BATCH = 8
START = Clock(batch=BATCH)


def nothing(ctx: Context) -> Samples:
    return {}


def game(players: dict[str, nn.Module], *moves: Move, **rest: Any) -> Game:
    return Game(players=players, moves=moves, sample=nothing, **rest)


def network() -> nn.Module:
    """Two kinds of layers whose buffers move at every forward."""
    return nn.Sequential(spectral_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()


def chained(ctx: Context) -> dict[str, Tensor]:
    """A loss through both players."""
    return {"loss": ctx.players["b"](ctx.players["a"](ctx.batch("real").images)).square().mean()}


def state(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("mover", "micro_batch"), [("a", 8), ("a", 2), ("b", 8), ("b", 2)])
def test_the_mover_moves_and_the_others_leave_no_trace(table: MakeTable, mover: str, micro_batch: int) -> None:
    other = {"a": "b", "b": "a"}[mover]
    players = {"a": network(), "b": network()}
    embedding = players[other][2].bias  # pyright: ignore[reportIndexIssue]
    embedding.requires_grad_(False)
    asking: list[tuple[bool, bool]] = []

    def loss(ctx: Context) -> dict[str, Tensor]:
        asking.append(tuple(any(p.requires_grad for p in ctx.players[n].parameters()) for n in (mover, other)))  # pyright: ignore[reportArgumentType]
        return chained(ctx)

    seats = table(game(players, Move(player=mover, loss=loss, reads=("real",))), micro_batch=micro_batch)
    before = {name: state(module) for name, module in players.items()}
    play(seats, START, Meter())
    assert set(asking) == {(True, False)}
    assert same(state(players[other]), before[other])
    assert all(parameter.grad is None for parameter in players[other].parameters())
    assert [p.requires_grad for p in players[other].parameters()].count(False) == 1
    assert not embedding.requires_grad
    moved = state(players[mover])
    still = [name for name in moved if torch.equal(moved[name], before[mover][name])]
    assert all(name.endswith("bias") for name in still), still  # a bias that batch norm takes out again has no gradient
    assert moved["1.num_batches_tracked"].item() == BATCH // micro_batch


def test_frozen_players_thaw_although_the_loss_failed(table: MakeTable) -> None:
    players = {"a": network(), "b": network()}

    def loss(ctx: Context) -> dict[str, Tensor]:
        chained(ctx)
        raise KeyError("mine")

    before = state(players["b"])
    with pytest.raises(KeyError, match="mine"):
        play(table(game(players, Move(player="a", loss=loss, reads=("real",)))), START, Meter())
    assert all(parameter.requires_grad for parameter in players["b"].parameters())
    assert same(state(players["b"]), before)


@dataclass(frozen=True)
class Regression:
    """A norm-free game of one: no layer couples samples."""

    network: nn.Module

    def loss(self, ctx: Context) -> dict[str, Tensor]:
        real = ctx.batch("real").images
        error = self.out(ctx) - real
        ctx.observe("row", ctx.batch("real").index)
        ctx.observe("pair", real[:, :2])
        ctx.keep("index", ctx.batch("real").index)
        ctx.keep("z", ctx.normal("kept"))
        return {"square": error.square().mean(), "weighed": 0.3 * (ctx.uniform("u") * error.sum(1)).mean()}

    def out(self, ctx: Context) -> Tensor:
        return ctx.players["a"](torch.cat([ctx.batch("real").images, ctx.normal("z", 2).double()], 1))


def regression(**move: Any) -> tuple[nn.Module, Game, list[Round]]:
    a = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    rounds: list[Round] = []
    move = {"reads": ("real",), "loss": Regression(a).loss, **move}
    return a, game({"a": a}, Move(player="a", **move), after=rounds.append), rounds


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_micro_batches_are_the_whole_batch(table: MakeTable, micro_batch: int) -> None:
    def played(micro: int) -> tuple[dict[str, Tensor], list[Round]]:
        torch.manual_seed(1)
        a, rules, rounds = regression(repeat=2)
        seats, clock = table(rules, micro_batch=micro, lr=1.0), START
        for _ in range(2):
            clock = play(seats, clock, Meter())
        return state(a), rounds

    (whole, rounds), (parts, others) = played(BATCH), played(micro_batch)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-12, atol=1e-13)
    for one, other in zip(rounds, others, strict=True):
        assert other.stats == pytest.approx(dict(one.stats), rel=1e-12)
        assert same(dict(one.kept), dict(other.kept))


def test_terms_are_summed_and_descended_in_one_step(table: MakeTable) -> None:
    torch.manual_seed(1)
    a, rules, rounds = regression()
    seats = table(rules, lr=0.5)
    twin, draws = copy.deepcopy(a), Draws((3, 0, 0, "a", 0), 0, BATCH, torch.device("cpu"))
    context = Context(
        players={"a": twin}, batches={"real": seats.feeds["real"].read(0, BATCH)}, draws=draws, clock=START, state=nn.Module()
    )
    terms = Regression(twin).loss(context)
    torch.stack([term.double() for term in terms.values()]).sum().backward()
    play(seats, START, Meter())
    for mine, expected in zip(a.parameters(), twin.parameters(), strict=True):
        assert expected.grad is not None
        torch.testing.assert_close(mine.detach(), (expected - 0.5 * expected.grad).detach(), rtol=1e-12, atol=1e-13)
    for name, term in terms.items():
        assert rounds[0].stats[f"a/{name}"] == pytest.approx(term.item(), rel=1e-12)


def test_repeats_and_rounds_read_and_draw_afresh_and_keep_in_order(table: MakeTable) -> None:
    _, rules, rounds = regression(repeat=3)
    seats = table(rules, micro_batch=2)
    clock = play(seats, play(seats, START, Meter()), Meter())
    assert clock == Clock(batch=BATCH, round=2, steps={"a": 6}, positions={"real": 48})
    assert [r.kept["a/index"].tolist() for r in rounds] == [list(range(24)), list(range(24, 48))]
    kept = torch.cat([r.kept["a/z"] for r in rounds])
    assert len(kept.unique()) == 48
    expected = [Draws((3, 0, r, "a", k), 0, BATCH, torch.device("cpu")).normal("kept") for r in range(2) for k in range(3)]
    assert torch.equal(kept, torch.cat(expected))
    assert [r.clock.round for r in rounds] == [1, 2]
    assert len({float(r.draws.uniform("u")[0]) for r in rounds}) == 2
    assert rounds[0].draws.count == BATCH


def test_another_attempt_and_another_seed_draw_other_numbers(table: MakeTable) -> None:
    seen = set()
    for seed, attempt in ((3, 0), (3, 1), (4, 0)):
        _, rules, rounds = regression()
        play(table(rules, seed=seed), replace(START, attempt=attempt), Meter())
        seen.add((float(rounds[0].kept["a/z"][0]), float(rounds[0].draws.uniform("u")[0])))
    assert len({z for z, _ in seen}) == len({u for _, u in seen}) == 3


@dataclass(frozen=True)
class Seat:
    """One of several ranks, whose collectives see its own share alone."""

    rank: int
    size: int

    def mean(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    def broadcast(self, tensors: Any) -> None:
        """Nothing to do."""


def test_ranks_share_the_batch_and_the_draws_of_one(table: MakeTable) -> None:
    _, rules, whole = regression(repeat=2)
    play(table(rules), START, Meter())
    for size, micro_batch in ((2, 4), (2, 2), (4, 1), (8, 1)):
        parts: list[Round] = []
        for rank in range(size):
            _, rules, rounds = regression(repeat=2)
            seats = table(rules, micro_batch=micro_batch, group=Seat(rank, size))
            assert play(seats, START, Meter()).positions == {"real": 16}
            parts += rounds
        for name, tensor in whole[0].kept.items():
            shares = [part.kept[name].unflatten(0, (2, -1)) for part in parts]
            assert torch.equal(torch.cat(shares, 1).flatten(0, 1), tensor)


def relative(ctx: Context) -> dict[str, Tensor]:
    logits = ctx.players["a"](ctx.batch("real").images)
    return {"loss": (logits - ctx.global_mean(logits)).square().mean()}


def test_a_loss_that_couples_samples_says_so(table: MakeTable) -> None:
    a = nn.Linear(3, 1).double()
    silent = table(game({"a": a}, Move(player="a", loss=relative, reads=("real",))))
    with pytest.raises(ValueError, match="Move\\(coupled=True\\)"):
        play(silent, START, Meter())
    twin, seats = (
        copy.deepcopy(a),
        table(game({"a": a}, Move(player="a", loss=relative, reads=("real",), coupled=True)), lr=0.5),
    )
    logits = twin(seats.feeds["real"].read(0, BATCH).images)
    (logits - logits.mean()).square().mean().backward()
    play(seats, START, Meter())
    for mine, expected in zip(a.parameters(), twin.parameters(), strict=True):
        assert expected.grad is not None
        torch.testing.assert_close(mine.detach(), (expected - 0.5 * expected.grad).detach(), rtol=1e-12, atol=1e-13)


def test_statistics_are_means_over_samples_repetitions_and_rounds(table: MakeTable) -> None:
    _, rules, rounds = regression(repeat=2)
    seats, meter = table(rules, micro_batch=2), Meter()
    with mock.patch.object(Meter, "means", None):  # nobody waits for what the game does not ask for
        clock = play(seats, START, meter)
    assert rounds[0].stats["a/row"] == 7.5
    images = seats.feeds["real"].read(0, 16).images
    assert rounds[0].stats["a/pair"] == pytest.approx(images[:, :2].mean().item(), abs=1e-12)
    play(seats, clock, meter)
    assert rounds[1].stats["a/row"] == 23.5
    assert meter.means(seats.group)["a/row"] == 15.5
    assert meter.means(seats.group)["a/square"] == pytest.approx(sum(r.stats["a/square"] for r in rounds) / 2)


def test_a_move_is_skipped_when_it_says_so(table: MakeTable) -> None:
    def odd(clock: Clock, state: nn.Module) -> bool:
        return clock.round % 2 == 1

    a, rules, rounds = regression(when=odd)
    seats, before = table(rules), state(a)
    clock = play(seats, START, Meter())
    assert clock == Clock(batch=BATCH, round=1)
    assert same(state(a), before)
    assert (rounds[0].stats, rounds[0].kept) == ({}, {})
    assert play(seats, clock, Meter()).steps == {"a": 1}
    assert not same(state(a), before)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "move 'a' returned dict; return"),
        (torch.ones(()), "move 'a' returned Tensor; return"),
        ({"rows": torch.ones(8, requires_grad=True)}, r"'rows' of move 'a' is \[8\]; return a scalar"),
        ({"number": 1.0}, "'number' of move 'a' is float; return a scalar"),
        ({"constant": torch.ones(())}, "move 'a' does not depend on the weights of 'a'"),
    ],
)
def test_a_loss_returns_named_scalars(table: MakeTable, terms: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        play(table(game({"a": network()}, Move(player="a", loss=lambda ctx: terms))), START, Meter())


def test_layers_that_draw_from_torch_are_replayed_with_the_round(table: MakeTable) -> None:
    def stats(clock: Clock, disturb: int) -> dict[str, float]:
        torch.manual_seed(1)
        a = nn.Sequential(nn.Linear(3, 64), nn.Dropout(0.5), nn.Linear(64, 3)).double()
        rules, meter = game({"a": a, "b": nn.Linear(3, 1).double()}, Move(player="a", loss=chained, reads=("real",))), Meter()
        seats = table(rules)
        torch.manual_seed(disturb)
        play(seats, clock, meter)
        return meter.means(seats.group)

    later = replace(START, round=1)
    assert stats(START, 5) == stats(START, 6) != stats(later, 5)


def test_samples_are_of_the_averages_in_eval_mode_and_leave_no_trace(table: MakeTable) -> None:
    a = network()
    rules = replace(game({"a": a}), sample=lambda ctx: {"rows": ctx.players["a"](ctx.normal("z", 3).double())})
    a.eval()
    with torch.no_grad():
        expected = a(Draws((5, "sample"), 2, 6, torch.device("cpu")).normal("z", 3).double())
    a.train()
    before, cpu = state(a), torch.device("cpu")
    rows = sample(rules, {"a": a}, START, 6, device=cpu, start=2, seed=5)["rows"]
    assert torch.equal(rows, expected)
    assert not rows.requires_grad
    assert a.training
    assert same(state(a), before)
    later = sample(rules, {"a": a}, replace(START, round=9, attempt=2), 2, device=cpu, start=4, seed=5)["rows"]
    torch.testing.assert_close(later, rows[2:4])
