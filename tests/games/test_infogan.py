"""InfoGAN: its bound, what it raises, and the codes that a user chooses."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bigan.batch import ArraySpec, Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.game import Context, Game
from bigan.games.infogan import Codes, InfoGAN
from bigan.look import Look
from bigan.networks.mlp import MLPCritic, MLPGenerator
from bigan.objectives import NonSaturating
from bigan.penalties import R1
from bigan.play import Meter, Table, play
from bigan.uses import Chosen, use

CPU = torch.device("cpu")
POINTS = {"real": DataSpec(samples=8, arrays=(ArraySpec(name="points", shape=(3,), dtype="float32"),))}
SMALL = InfoGAN(
    generator=MLPGenerator(latent=2, width=8, depth=1), critic=MLPCritic(width=8, depth=1), categories=(4, 2), continuous=2,
    features=6, hidden=5,
)  # fmt: skip


def context(game: Game, count: int = 8, **batches: Tensor) -> Context:
    return Context(
        players=game.players, batches={name: Batch(torch.arange(count), {"points": x}) for name, x in batches.items()},
        draws=Draws((0,), 0, count, CPU), clock=Clock(batch=count), state=game.state,
    )  # fmt: skip


def look(game: Game) -> Look:
    return Look(game=game, players=game.players, clock=Clock(batch=8), device=CPU)


def test_the_bound_of_a_perfect_reader_is_the_entropy() -> None:
    """Q that is sure and right: log Q(c | x) = 0 (section 5), so that L_I = H(c) = log 4 + log 2."""
    game = replace(SMALL, continuous=0)
    codes = game.codes(context(SMALL.build(POINTS), 64))
    columns = [torch.nn.functional.one_hot(codes.categories[:, k], count) for k, count in enumerate(game.categories)]
    bound = game.bound(100.0 * torch.cat(columns, 1), codes)
    torch.testing.assert_close(bound, torch.full([64], math.log(4) + math.log(2)))
    assert math.log(4) + math.log(2) == pytest.approx(game.entropy)


def test_the_bound_of_a_reader_who_knows_nothing_is_0() -> None:
    """Even Q, and of numbers a normal one so wide that it is flat: what is left is log of uniform over normal density at 0."""
    codes = SMALL.codes(context(SMALL.build(POINTS), 64))
    categories = Codes(codes.categories, torch.zeros(64, 0))
    assert replace(SMALL, continuous=0).bound(torch.zeros(64, 6), categories).abs().max() < 1e-6
    wide = replace(SMALL, spread=1e3)
    flat = 2 * math.log(2 / (1e3 * math.sqrt(2 * math.pi)))
    torch.testing.assert_close(wide.bound(torch.zeros(64, 8), codes), torch.full([64], flat), atol=1e-5, rtol=0)


def test_the_bound_is_below_the_information() -> None:
    """Of a number that is read with the error N(0, s²): ½ log(1 + 1/(3 s²)) is an upper bound of I(c; x) (Shannon, 1948)."""
    game = InfoGAN(categories=(), continuous=1, spread=0.2)
    values = 2 * Draws((1,), 0, 100_000, CPU).uniform("c", 1) - 1
    read = values + 0.2 * Draws((2,), 0, 100_000, CPU).normal("error", 1)
    bound = game.bound(read, Codes(torch.zeros(100_000, 0).long(), values)).mean().item()
    assert 0.5 < bound <= 0.5 * math.log(1 + 1 / (3 * 0.2**2))


def test_codes_are_even() -> None:
    codes = SMALL.codes(context(SMALL.build(POINTS), 4096))
    assert codes.categories.shape == codes.values.shape == (4096, 2)
    assert (torch.bincount(codes.categories[:, 0]) > 900).all()
    assert len(torch.bincount(codes.categories[:, 1])) == 2
    assert codes.values.min() < -0.99
    assert codes.values.max() > 0.99


@pytest.mark.parametrize("penalties", [(), (R1(),)], ids=["one pass", "penalised"])
@pytest.mark.parametrize("pairing", ["independent", "relativistic", "relativistic_average"])
def test_what_each_player_descends(pairing: Any, penalties: tuple[R1, ...]) -> None:
    """Adversarial terms of the objective, and -λ L_I on generated samples, which reaches Q, trunk and generator."""
    settings = replace(SMALL, weight=2.0, penalties=penalties, objective=NonSaturating(pairing=pairing))
    game = settings.build(POINTS)
    real = torch.randn(8, 3)
    critic, codes = game.players["critic"], settings.codes(context(game))
    fake = settings.generate(context(game), codes)
    said = critic.get_submodule("other")(critic.get_submodule("trunk")(fake))
    information = -2 * settings.bound(said, codes).mean()
    for move in game.moves:
        ctx = context(game, real=real)
        ctx._over_ranks = lambda mean: mean
        terms = move.loss(ctx)
        assert set(terms) == {"adversarial", "information"} | ({"r1"} if penalties and move.player == "critic" else set())
        torch.testing.assert_close(terms["information"], information)
        by = (settings.objective.critic, settings.objective.generator)[move.player == "generator"]
        logits = {"real": critic(real), "fake": critic(fake)}
        torch.testing.assert_close(terms["adversarial"], by(**logits))
        assert {"L_I", "code_accuracy", "code_error"} <= {name for name, _ in ctx.observed}
        mover = game.players[move.player]
        gradients = torch.autograd.grad(terms["information"], [*mover.parameters()], allow_unused=True)
        still = [name for (name, _), g in zip(mover.named_parameters(), gradients, strict=True) if g is None or not g.any()]
        assert all(name.startswith("head.") for name in still), still


def test_micro_batches_are_the_whole_batch(table: Callable[..., Table]) -> None:
    def played(micro_batch: int) -> dict[str, float]:
        torch.manual_seed(0)
        game = replace(SMALL, penalties=(R1(every=2),)).build(POINTS)
        seats, clock, meter = table(game, micro_batch=micro_batch, lr=0.05), Clock(batch=8), Meter()
        feed = seats.feeds["real"]
        seats = replace(seats, feeds={"real": Named(feed)})
        for _ in range(3):
            clock = play(seats, clock, meter)
        return meter.means(seats.group)

    whole = played(8)
    assert played(2) == pytest.approx(whole, rel=1e-4)
    assert all(map(math.isfinite, whole.values()))


class Named:
    """A stream's images as points."""

    def __init__(self, feed: Any) -> None:
        self.feed = feed

    def read(self, start: int, count: int) -> Batch:
        batch = self.feed.read(start, count)
        return Batch(batch.index, {"points": batch.images.float()})


def test_samples_say_their_codes_and_the_user_chooses() -> None:
    game = SMALL.build(POINTS)
    drawn = look(game).samples(6)
    assert list(drawn) == ["points", "categories", "codes"]
    chosen = use(game, Chosen, "").given
    codes: list[tuple[str, list[int | None], list[float | None]]] = [
        ("3", [3, None], [None, None]),
        ("3,1, 0.5,-2", [3, 1], [0.5, -2.0]),
        (",0", [None, 0], [None, None]),
    ]
    for text, *wanted in codes:
        found = look(replace(game, sample=chosen(text))).samples(6)
        for name, fixed in zip(("categories", "codes"), wanted, strict=True):
            for k, value in enumerate(fixed):
                column = drawn[name][:, k] if value is None else torch.full_like(drawn[name][:, k], value)
                assert torch.equal(found[name][:, k], column)
        assert not torch.equal(found["points"], drawn["points"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("4", "'4': there are 4 categories, from 0"),
        ("-1", "'-1': there are 4 categories"),
        ("one", "'one': there are 4 categories"),
        ("1" * 5000, "1': there are 4 categories"),
        ("1,1,x", "'1,1,x': 'x' is no number"),
        ("1,1,nan", "'nan' is no number"),
        ("1,1,0,0,0", "'1,1,0,0,0': there are 2 categories and 2 numbers"),
    ],
)
def test_codes_that_are_none_are_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        use(SMALL.build(POINTS), Chosen, "").given(text)


def test_ways_between_samples_go_through_the_codes() -> None:
    """From the code of one sample to that of another in even steps; a category changes on the way."""
    way = look(SMALL.build(POINTS)).between(torch.zeros(5).long(), torch.ones(5).long(), torch.linspace(0, 1, 5))
    steps = way["codes"].diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand_as(steps))


@pytest.mark.parametrize("codes", [((5,), 0), ((), 3)])
def test_either_kind_of_code_may_be_left_out(codes: tuple[tuple[int, ...], int]) -> None:
    settings = replace(SMALL, categories=codes[0], continuous=codes[1])
    game = settings.build(POINTS)
    samples = look(game).samples(3)
    assert samples["categories"].shape == (3, len(codes[0]))
    assert samples["codes"].shape == (3, codes[1])
    for move in game.moves:
        assert all(term.isfinite() for term in move.loss(context(game, real=torch.randn(8, 3))).values())


def test_no_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="neither these nor continuous codes; that game is of kind gan"):
        InfoGAN(categories=(), continuous=0)
