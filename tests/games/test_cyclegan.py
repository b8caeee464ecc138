"""CycleGAN: which network sees which images, what the terms come to, the pool, and what a planted swap would do."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigan.batch import Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.game import Context, Game
from bigan.games.cyclegan import CycleGAN
from bigan.games.pool import Pool
from bigan.look import Look
from bigan.networks.dcgan import DCGANCritic
from bigan.networks.patch import PatchCritic
from bigan.networks.resnet import ResNetTranslator
from bigan.noise import InstanceNoise
from bigan.objectives import NonSaturating, Wasserstein
from bigan.penalties import R1, GradientPenalty
from bigan.play import Meter, Table, play, sample
from bigan.uses import Translation, use

CPU = torch.device("cpu")
SHAPE = (1, 16, 16)
SETS = {name: DataSpec(samples=8, image_shape=SHAPE) for name in ("real", "source")}
SOURCE, REAL = 0.1, 0.4  # of every pixel
SMALL = CycleGAN(
    translator=ResNetTranslator(width=4, blocks=1), critic=PatchCritic(width=4, layers=2), pool=6, identity=0.5, cycle=10.0
)


class Times(nn.Module):
    """x · weight, for a translator; its mean, for a critic."""

    def __init__(self, weight: float, mean: bool = False) -> None:
        super().__init__()
        self.weight, self.mean = nn.Parameter(torch.tensor(weight)), mean

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.weight
        return y.mean((1, 2, 3)) if self.mean else y


def stood_in(settings: CycleGAN = SMALL) -> Game:
    """A game of which every network's part can be told from a number: translators ×2 and ×3, critics ×5 and ×7."""
    players: dict[str, nn.Module] = {
        "translators": nn.ModuleDict({"real": Times(2.0), "source": Times(3.0)}),
        "critics": nn.ModuleDict({"real": Times(5.0, mean=True), "source": Times(7.0, mean=True)}),
    }
    return replace(settings.build(SETS), players=players)


class Flat:
    """Images of one value."""

    def __init__(self, value: float) -> None:
        self.value = value

    def read(self, start: int, count: int) -> Batch:
        return Batch(torch.arange(start, start + count), {"images": torch.full((count, *SHAPE), self.value)})


class Waves:
    """Images that are no two alike."""

    def __init__(self, phase: float) -> None:
        self.phase = phase

    def read(self, start: int, count: int) -> Batch:
        index = torch.arange(start, start + count)
        waves = torch.sin(index[:, None] + self.phase + torch.arange(256.0) * (1 + index[:, None] % 5))
        return Batch(index, {"images": waves.view(-1, *SHAPE)})


def context(game: Game, images: int = 0, batch: int = 4) -> Context:
    batches = {name: Flat(value).read(0, batch) for name, value in (("real", REAL), ("source", SOURCE))}
    clock = Clock(batch=batch, round=images // batch)
    return Context(players=game.players, batches=batches, draws=Draws((0,), 0, batch, CPU), clock=clock, state=game.state)


def seated(table: Callable[..., Table], game: Game, **rest: Any) -> Table:
    return replace(table(game, **rest), feeds={"real": Flat(REAL), "source": Flat(SOURCE)})


def losses(game: Game, move: int, images: int = 0) -> dict[str, float]:
    return {name: term.item() for name, term in game.moves[move].loss(context(game, images)).items()}


def test_translators_descend_adversarial_cycle_and_identity() -> None:
    found = losses(stood_in(), 1)
    assert found == pytest.approx(
        {
            "real/adversarial": 0.5 * (5 * 2 * SOURCE - 1) ** 2,
            "source/adversarial": 0.5 * (7 * 3 * REAL - 1) ** 2,
            "source/cycle": 10 * (3 * 2 - 1) * SOURCE,
            "real/cycle": 10 * (2 * 3 - 1) * REAL,
            "real/identity": 10 * 0.5 * (2 - 1) * REAL,
            "source/identity": 10 * 0.5 * (3 - 1) * SOURCE,
        }
    )


def test_critics_hold_each_set_against_translations_into_it() -> None:
    found = losses(stood_in(replace(SMALL, pool=0)), 0)
    assert found == pytest.approx(
        {
            "real/adversarial": 0.5 * (5 * REAL - 1) ** 2 + 0.5 * (5 * 2 * SOURCE) ** 2,
            "source/adversarial": 0.5 * (7 * SOURCE - 1) ** 2 + 0.5 * (7 * 3 * REAL) ** 2,
        }
    )


def test_noise_is_on_both_sides_of_each_critic_and_fades() -> None:
    game = stood_in(replace(SMALL, pool=0, noise=InstanceNoise(kimg=0.4, std=0.1)))
    clean = [losses(stood_in(replace(SMALL, pool=0)), move) for move in (0, 1)]
    for move in (0, 1):
        for images, close in ((0, False), (200, False), (400, True), (800, True)):
            found = losses(game, move, images)
            for name, value in clean[move].items():
                assert (found[name] == pytest.approx(value)) == (close or "adversarial" not in name), (move, images, name)
    stds = [InstanceNoise(kimg=0.4, std=0.1).left(Clock(batch=4, round=images // 4)) for images in (0, 200, 400, 800)]
    assert stds == pytest.approx([0.1, 0.025, 0.0, 0.0])


def test_each_image_that_a_critic_is_shown_has_noise_of_its_own() -> None:
    game = stood_in(replace(SMALL, pool=0, noise=InstanceNoise(kimg=1, std=10.0)))
    seen: list[Tensor] = []
    critic = game.players["critics"].get_submodule("real")
    critic.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    game.moves[0].loss(context(game))
    judged = torch.cat(seen)
    assert len(judged) == 8
    assert judged.flatten(1).std(1).sub(10).abs().max() < 2
    assert len({float(image.sum()) for image in judged}) == 8


def test_terms_of_weight_0_are_not_there() -> None:
    assert losses(stood_in(replace(SMALL, identity=0.0)), 1).keys() == {
        "real/adversarial", "source/adversarial", "real/cycle", "source/cycle",
    }  # fmt: skip
    assert losses(stood_in(replace(SMALL, cycle=0.0)), 1).keys() == {"real/adversarial", "source/adversarial"}


def test_each_critic_is_shown_its_own_pool() -> None:
    game = stood_in()
    pool = game.state.get_submodule("pool")
    assert isinstance(pool, Pool)
    pool.get_buffer("real").fill_(0.5)
    pool.get_buffer("source").fill_(-0.5)
    ctx = context(game, images=8, batch=4)
    game.moves[0].loss(ctx)
    shown = dict(ctx.observed)
    fresh = {"real": 5 * 2 * SOURCE, "source": 7 * 3 * REAL}
    for name, former in (("real", 5 * 0.5), ("source", -7 * 0.5)):
        values = shown[f"{name}/D(fake)"]
        slots = ctx.kept[f"slot.{name}"]
        torch.testing.assert_close(values, torch.where(slots >= 0, former, fresh[name]))
        torch.testing.assert_close(ctx.kept[f"pool.{name}"].flatten()[0].item(), fresh[name] / (5 if name == "real" else 7))
    both = torch.cat([ctx.kept["slot.real"], ctx.kept["slot.source"]])
    assert (both >= 0).any()
    assert (both < 0).any()


def test_translators_meet_fresh_fakes_alone() -> None:
    game = stood_in()
    for buffer in game.state.buffers():
        buffer.fill_(99)
    assert losses(game, 1, images=80) == pytest.approx(losses(stood_in(), 1))


def reached(game: Game) -> dict[str, float]:
    """How far each way ends from the images it leads to, relative to how far the two sets are apart."""
    to = use(game, Translation, "translate").to
    look = Look(game=game, players=game.players, clock=Clock(batch=4, round=3), device=CPU)
    ends = {"real": (SOURCE, REAL), "source": (REAL, SOURCE)}
    made = {
        name: look.used(lambda ctx, name=name, start=start: to(name).run(ctx, torch.full((2, *SHAPE), start)), 2, "t")
        for name, (start, _) in ends.items()
    }
    return {name: float((made[name] - end).abs().mean()) / (REAL - SOURCE) for name, (_, end) in ends.items()}


class Level(nn.Module):
    """x + shift: a translator of flat images."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def test_a_swap_of_the_two_sets_is_seen(table: Callable[..., Table]) -> None:
    """The two ways end where they are said to; with the networks swapped, neither does."""
    steady = R1(weight=200.0)  # or two linear players go round and round
    game = stood_in(replace(SMALL, objective=NonSaturating(), penalties=(steady,), identity=0.0, cycle=0.1, pool=0))
    players: dict[str, nn.Module] = {
        "translators": nn.ModuleDict({"real": Level(), "source": Level()}),
        "critics": nn.ModuleDict({"real": Times(0.0, mean=True), "source": Times(0.0, mean=True)}),
    }
    game = replace(game, players=players)
    seat, clock, meter = seated(table, game, micro_batch=4, lr=0.5), Clock(batch=4), Meter()
    for _ in range(20):
        clock = play(seat, clock, meter)
    assert max(reached(game).values()) < 0.3
    pair = players["translators"]
    assert isinstance(pair, nn.ModuleDict)
    pair["real"], pair["source"] = pair["source"], pair["real"]
    assert min(reached(game).values()) > 1.0


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        replace(SMALL, pool=0, critic_steps=2, objective=Wasserstein(), penalties=(GradientPenalty(),)),
        replace(SMALL, objective=NonSaturating(pairing="relativistic_average"), critic=DCGANCritic(width=4)),
    ],
    ids=["cyclegan", "dualgan", "relativistic"],
)
def test_every_network_moves_and_samples_stand_beside_their_sources(table: Callable[..., Table], settings: CycleGAN) -> None:
    game = settings.build(SETS)
    before = {name: [p.clone() for p in player.parameters()] for name, player in game.players.items()}
    seat = replace(table(game, micro_batch=4, lr=1e-4), feeds={"real": Waves(0.0), "source": Waves(0.5)})
    clock, meter = Clock(batch=4), Meter()
    for _ in range(3):
        clock = play(seat, clock, meter)
    for name, player in game.players.items():
        assert all(p.isfinite().all() for p in player.parameters())
        still = [torch.equal(p, q) for p, q in zip(player.parameters(), before[name], strict=True)]
        assert sum(still) <= 2, name  # the last biases of two Wasserstein critics have no gradient
    samples = sample(game, game.players, clock, 5, device=CPU)
    known = Waves(0.5).read(0, 40).images
    for source in samples["source"]:
        assert (known - source).abs().amax((1, 2, 3)).min() <= 1 / 255
    with torch.no_grad():
        expected = game.players["translators"].get_submodule("real")(samples["source"])
    torch.testing.assert_close(samples["images"], expected)
    look = Look(game=game, players=game.players, clock=Clock(batch=4), device=CPU)
    assert look.judged(samples["images"])[0].shape == (5,)


def test_sets_of_unlike_sizes_are_refused_by_name() -> None:
    sets = {"real": SETS["real"], "source": DataSpec(samples=8, image_shape=(1, 32, 32))}
    with pytest.raises(ValueError, match=r"^data\.real has 16x16, data\.source has 32x32: .*pack both at one --size$"):
        SMALL.build(sets)
    with pytest.raises(ValueError, match=r"data\.source: is missing"):
        SMALL.build({"real": SETS["real"]})


def test_unlike_channels_have_no_identity() -> None:
    sets = {"real": SETS["real"], "source": DataSpec(samples=8, image_shape=(3, 16, 16))}
    with pytest.raises(ValueError, match="identity: compares images of unlike channels; set it to 0"):
        SMALL.build(sets)
    game = replace(SMALL, identity=0.0).build(sets)
    way = use(game, Translation, "translate").to("")
    assert way.shape == (3, 16, 16)
    made = way.run(context(game), torch.zeros(2, 3, 16, 16))
    assert made.shape == (2, 1, 16, 16)
    with pytest.raises(ValueError, match="'paris': there is real and source"):
        use(game, Translation, "translate").to("paris")


def test_a_pool_takes_one_step_a_round() -> None:
    with pytest.raises(ValueError, match="pool: is filled once a round; set critic_steps to 1, or pool to 0"):
        replace(SMALL, critic_steps=5)
