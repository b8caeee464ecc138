"""IRGAN: what it draws and descends, by hand; whose turn it is; that it learns; that divisions of a batch do not show."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bigan.batch import Batch, DataSpec
from bigan.build import prepared
from bigan.clock import Clock, Draws
from bigan.config import load, parse
from bigan.data.ratings import Ratings
from bigan.distributed.group import Alone
from bigan.game import Context, Game
from bigan.games.irgan import IRGAN, Factors, drawn, squares
from bigan.look import looking
from bigan.measure import scores_of
from bigan.metrics.ranking import ranking
from bigan.play import Meter, Table, play, sample

from .tastes import tastes

CPU = torch.device("cpu")
CONFIG = Path(__file__).parents[2] / "configs" / "movielens_irgan.yaml"
USERS, ITEMS = 6, 10
LIKED = torch.tensor([[(user + item) % 3 == 0 or item == user for item in range(ITEMS)] for user in range(USERS)]).float()
DATA = {"real": DataSpec(samples=USERS, classes=tuple("abcdef"), attributes=tuple("0123456789"))}
WIDE = IRGAN(width=3, spread=1.0, draws=7, negatives=2)


class Likings:
    """The users in turn."""

    def read(self, start: int, count: int) -> Batch:
        users = torch.arange(start, start + count) % USERS
        return Batch(torch.arange(start, start + count), {"labels": users, "attributes": LIKED[users]})


def context(game: Game, count: int = USERS) -> Context:
    batches = {"real": Likings().read(0, count)}
    draws = Draws((0, "a"), 0, count, CPU)
    return Context(players=game.players, batches=batches, draws=draws, clock=Clock(batch=count), state=game.state)


def scores(game: Game, player: str) -> Tensor:
    factors = game.players[player]
    vectors, items, bias = (factors.get_parameter(name) for name in ("users.weight", "items", "bias"))
    return torch.stack([torch.stack([vectors[u] @ items[i] + bias[i] for i in range(ITEMS)]) for u in range(USERS)])


def kept_draws(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    kept: list[Tensor] = []

    def watched(weights: Tensor, uniform: Tensor) -> Tensor:
        kept.append(drawn(weights, uniform))
        return kept[-1]

    monkeypatch.setattr("bigan.games.irgan.drawn", watched)
    return kept


def test_items_are_picked_by_their_weights() -> None:
    weights = torch.tensor([[0.0, 3, 0, 1, 0], [2, 0, 0, 2, 4]])
    found = drawn(weights, Draws((0,), 0, 2, CPU).uniform("u", 20_000))
    shares = torch.stack([row.bincount(minlength=5) for row in found]) / 20_000
    torch.testing.assert_close(shares, weights / weights.sum(1, keepdim=True), atol=0.01, rtol=0)
    assert not shares[weights == 0].any()
    assert drawn(weights, torch.tensor([[0.0, 1.0]] * 2)).tolist() == [[1, 3], [0, 4]]


def test_the_critics_loss_is_a_sum_over_what_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, game = kept_draws(monkeypatch), WIDE.build(DATA)
    terms = WIDE.critic_loss(context(game))
    (picked,) = kept
    logits, factors = scores(game, "critic"), game.players["critic"]
    vectors, items = (factors.get_parameter(name) for name in ("users.weight", "items"))
    real = fake = decay = torch.zeros(())
    for user in range(USERS):
        own = [item for item in range(ITEMS) if LIKED[user, item]]
        share = len(own) / WIDE.draws
        real = real - sum(logits[user, item].sigmoid().log() for item in own) / USERS
        fake = fake - sum((1 - logits[user, item].sigmoid()).log() * share for item in picked[user].tolist()) / USERS
        for item, weight in [*((item, 1.0) for item in own), *((item, share) for item in picked[user].tolist())]:
            decay = decay + weight * 0.1 / 2 * (vectors[user].square().sum() + items[item].square().sum()) / USERS
    torch.testing.assert_close(dict(terms), {"liked": real, "picked": fake, "decay": decay})


def test_the_critic_is_shown_what_the_generator_picks_at_its_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[Tensor] = []
    monkeypatch.setattr("bigan.games.irgan.drawn", lambda odds, uniform: (weights.append(odds), drawn(odds, uniform))[1])
    game = WIDE.build(DATA)
    WIDE.critic_loss(context(game))
    torch.testing.assert_close(weights[0], (scores(game, "generator") / WIDE.temperature).softmax(1))


def test_the_policy_gradient_is_that_of_the_expected_reward() -> None:
    settings = replace(WIDE, draws=60_000)
    game = settings.build(DATA)
    generator = game.players["generator"]
    for parameter in game.players["critic"].parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        reward = 2 * (scores(game, "critic").sigmoid() - 0.5)
    parameters = [*generator.parameters()]
    wanted = torch.autograd.grad(-(scores(game, "generator").softmax(1) * reward).sum(1).mean(), parameters)
    found = torch.autograd.grad(settings.generator_loss(context(game))["policy"], parameters)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=0.02 * float(other.abs().max()), rtol=0)


def test_pretraining_sets_a_liking_against_the_best_of_a_few_others(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, game = kept_draws(monkeypatch), WIDE.build(DATA)
    terms = replace(WIDE, pretrain_weight=2.0, pretrain_decay=0.5).pretraining_loss(context(game))
    own, others = kept
    values, factors = scores(game, "generator"), game.players["generator"]
    vectors, items = (factors.get_parameter(name).square().sum(1) for name in ("users.weight", "items"))
    loss = decay = torch.zeros(())
    for user in range(USERS):
        assert LIKED[user, own[user]].all()
        assert not LIKED[user, others[user]].any()
        share = LIKED[user].sum() / WIDE.draws / USERS
        for item, pair in zip(own[user].tolist(), others[user].view(-1, 2).tolist(), strict=True):
            best = max(pair, key=values[user].tolist().__getitem__)
            loss = loss - (values[user, item] - values[user, best]).sigmoid().log() * share
            decay = decay + (2 * vectors[user] + items[item] + items[best]) / 2 * share
    torch.testing.assert_close(dict(terms), {"pairs": 2 * loss, "decay": 2 * 0.5 * decay})


def test_squares_are_summed_in_full_precision() -> None:
    torch.manual_seed(0)
    factors, users, looked_up = Factors(3, 40, 4, 0.5), torch.tensor([2, 0]), torch.randint(0, 4, (2, 40)).float()
    with torch.no_grad():
        factors.bias.uniform_()
    wanted = squares(factors, users, looked_up)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(squares(factors, users, looked_up), wanted, rtol=1e-6, atol=0)
    whole = factors.users.weight[users].square().sum(1)[:, None] + factors.items.square().sum(1) + factors.bias.square()
    torch.testing.assert_close(wanted, (looked_up * whole).sum(1).mean() / 2)


def test_they_take_turns() -> None:
    game = IRGAN(pretrain_kimg=0.016, phase_kimg=(0.02, 0.01)).build(DATA)
    turns = ""
    for round in range(11):
        playing = [move.name[0] for move in game.moves if move.when(Clock(batch=8, round=round), game.state)]
        assert len(playing) == 1
        turns += playing[0]
    assert turns == "ppcccggcccg"
    assert [move.name for move in IRGAN().build(DATA).moves] == ["critic", "generator"]


def liking(table: Callable[..., Table], game: Game, **rest: Any) -> Table:
    return replace(table(game, lr=0.1, **rest), feeds={"real": Likings()})


def test_how_the_batch_is_divided_does_not_show(table: Callable[..., Table]) -> None:
    """As among ranks: rows of the global batch, and not of a forward, draw. tests/distributed plays it on two."""
    ends = []
    for micro_batch in (8, 2):
        torch.manual_seed(0)
        game = replace(WIDE, pretrain_kimg=0.016, phase_kimg=(0.016, 0.016)).build(DATA)
        seats, clock = liking(table, game, micro_batch=micro_batch), Clock(batch=8)
        for _ in range(6):
            clock = play(seats, clock, Meter())
        ends.append([parameter.detach().clone() for player in game.players.values() for parameter in player.parameters()])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_what_is_picked_goes_by_the_sample(tmp_path: Path) -> None:
    """An item a user, the same however many are asked for at once."""
    path = f"data.real.path={tastes(tmp_path)}"
    with prepared(load(CONFIG, [path, "data.real.test=test.txt", f"folder={tmp_path}"]), Alone(), CPU) as setup:
        picked = sample(setup.table.game, setup.table.averages, setup.clock, 5, device=CPU)
        assert {name: tuple(value.shape) for name, value in picked.items()} == {"users": (5,), "items": (5,)}
        parts = [sample(setup.table.game, setup.table.averages, setup.clock, 1, start=k, device=CPU)["items"] for k in range(5)]
    assert torch.equal(torch.cat(parts), picked["items"])


def test_it_learns_tastes(tmp_path: Path) -> None:
    """What a user was never seen to like is found by what others like: by either half of the game, from nothing."""
    data = Ratings(path=str(tastes(tmp_path)), test="test.txt", users=40, items=60)
    held = data.held()
    assert held.test is not None
    seen, wanted = torch.from_numpy(held.liked), torch.from_numpy(held.test)
    rates = {name: {"kind": "sgd", "lr": lr} for name, lr in (("critic", 2.0), ("generator", 20.0))}
    fixed = {"name": "a", "data": {"real": asdict(data)}, "batch": 40, "length_kimg": 9, "optimizers": rates}
    game = {"kind": "irgan", "spread": 0.5, "temperature": 1, "draws": 16, "phase_kimg": [0.2, 0.2], "pretrain_weight": 0.1}
    for pretraining, rounds in ((9, 40), (0, 140)):
        run = parse({**fixed, "game": {**game, "pretrain_kimg": pretraining}}, tmp_path / "run.yaml")
        found = []
        with prepared(run, Alone(), CPU) as setup:
            clock = setup.clock
            for length in (0, rounds):
                for _ in range(length):
                    clock = play(setup.table, clock, Meter())
                with looking(setup.table, clock) as look:
                    found.append(ranking(scores_of(look, 40), seen, wanted)["P@5"])
        assert found[0] < 0.3
        assert found[1] > 0.9


def test_samples_are_items_as_often_as_the_generator_would_pick_them() -> None:
    """Of users at random; at a temperature of 1."""
    torch.manual_seed(0)
    game, count = WIDE.build(DATA), 30_000
    ctx = Context(
        players=game.players, batches={}, draws=Draws((0,), 0, count, CPU), clock=Clock(batch=USERS), state=game.state
    )
    picked = game.sample(ctx)
    table = torch.zeros(USERS, ITEMS).index_put((picked["users"], picked["items"]), torch.ones(count), accumulate=True)
    odds = scores(game, "generator").softmax(1)
    assert (odds - 1 / ITEMS).abs().max() > 0.1
    torch.testing.assert_close(table.sum(1) / count, torch.full((USERS,), 1 / USERS), atol=0.01, rtol=0)
    torch.testing.assert_close(table / table.sum(1, keepdim=True), odds, atol=0.02, rtol=0)


def test_data_without_users_and_items_is_refused() -> None:
    for data in ({}, {"real": DataSpec(samples=8, image_shape=(1, 16, 16))}, {"real": replace(DATA["real"], attributes=())}):
        with pytest.raises(ValueError, match=r"data\.real: has no users and items; the game reads data of kind: ratings"):
            IRGAN().build(data)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mixing": 0}, "game.mixing"),
        ({"mixing": 1}, "game.mixing"),
        ({"temperature": 0}, "game.temperature"),
        ({"phase_kimg": [1, 0]}, "game.phase_kimg.1"),
    ],
)
def test_bad_settings_are_refused_by_their_key(change: dict[str, Any], told: str) -> None:
    raw = {
        "name": "a",
        "game": {"kind": "irgan", **change},
        "length_kimg": 1,
        "data": {"real": {"kind": "ratings", "path": "x"}},
    }
    with pytest.raises(ValueError, match=rf"^run\.yaml: {told}: "):
        parse(raw, Path("run.yaml"))
