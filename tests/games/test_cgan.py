"""Conditional GANs: every condition reaches both players, mismatches count as fakes, and a user's choice is drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigan.batch import Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.conditions import Attributes, Caption, Label
from bigan.data.digits import CaptionedDigits
from bigan.game import Context, Game, Terms
from bigan.games.cgan import CGAN
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.networks.joint import Headed
from bigan.objectives import LeastSquares, NonSaturating
from bigan.penalties import R1, GradientPenalty

from ..cli.launch import bigan, kimg, pack_digits, refused, write_config

GENERATOR, CRITIC = DCGANGenerator(latent=3, width=4, norm="conditional"), DCGANCritic(width=4)
CAPTION = Caption(width=5, length=8)
CPU = torch.device("cpu")
COUNT = 8


@pytest.fixture(scope="module")
def spec_and_batch() -> tuple[DataSpec, Batch]:
    with CaptionedDigits(size=16).open(0) as stream:
        return stream.spec, stream.read(0, COUNT).to(CPU)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("cgan") / "digits")


def context(game: Game, batch: Batch, players: Mapping[str, nn.Module] | None = None, images: int = 0) -> Context:
    draws = Draws((0, "test"), 0, len(batch), CPU)
    clock = Clock(batch=len(batch), round=images // len(batch))
    return Context(
        players=players or game.players, batches={"real": batch}, draws=draws, clock=clock, state=game.state,
        over_ranks=lambda tensor: tensor,
    )  # fmt: skip


def losses(settings: CGAN, spec: DataSpec, batch: Batch) -> tuple[Game, dict[str, Terms]]:
    """Each move's terms, with gradients in the movers."""
    game, found = settings.build({"real": spec}), {}
    for move in game.moves:
        found[move.player] = move.loss(context(game, batch))
        torch.stack([*found[move.player].values()]).sum().backward()
        assert all(term.isfinite() for term in found[move.player].values())
        assert all(p.grad is not None for p in game.players[move.player].parameters())
    return game, found


@pytest.mark.parametrize("condition", [Label(), Attributes(names=("large", "right")), CAPTION], ids=lambda value: value.kind)
@pytest.mark.parametrize("how", ["projection", "concatenation", "classifier"])
def test_every_condition_reaches_both_players(how: Any, condition: Any, spec_and_batch: tuple[DataSpec, Batch]) -> None:
    settings = CGAN(
        generator=GENERATOR, critic=CRITIC, condition=condition, how=how, features=6, penalties=(R1(), GradientPenalty())
    )
    if how == "classifier" and condition is CAPTION:
        with pytest.raises(ValueError, match="how: captions are nothing that a classifier tells"):
            settings.build({"real": spec_and_batch[0]})
        return
    game, found = losses(settings, *spec_and_batch)
    told = {"classifier(real)", "classifier(fake)"} if how == "classifier" else set()
    assert set(found["critic"]) == {"adversarial", "r1", "gradient_penalty"} | told
    assert set(found["generator"]) == {"adversarial"} | (told - {"classifier(real)"})
    assert game.notes == ("gradient penalties: recorded pullback",)
    assert (game.critique is None) == (how != "classifier")


@pytest.mark.parametrize("pairing", ["relativistic", "relativistic_average"])
def test_a_relativistic_critic_is_conditional_too(pairing: Any, spec_and_batch: tuple[DataSpec, Batch]) -> None:
    for how in ("projection", "classifier"):
        losses(CGAN(generator=GENERATOR, critic=CRITIC, how=how, objective=NonSaturating(pairing=pairing)), *spec_and_batch)


class Sum(nn.Module):
    """A critic that says the mean pixel and the condition's number."""

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        return images.flatten(1).mean(1) + 10 * condition


def test_what_does_not_match_counts_as_half_of_the_fakes(spec_and_batch: tuple[DataSpec, Batch]) -> None:
    """Labels 1 1 | 2 5 | …: the first two ask for the same, which is no mismatch, and are judged as fakes in its place."""
    spec, batch = spec_and_batch
    labels = torch.tensor([1, 1, 2, 5, 3, 4, 0, 7])
    batch = Batch(batch.index, {**batch.fields, "labels": labels}, batch.pictures)
    settings = CGAN(generator=GENERATOR, critic=CRITIC, objective=LeastSquares(), mismatch=True)
    game = settings.build({"real": spec})
    ctx = context(game, batch, {**game.players, "critic": Sum()})
    terms = game.moves[0].loss(ctx)
    assert game.moves[0].group == 2
    real = batch.images.flatten(1).mean(1)
    with torch.no_grad():
        fake = settings.generate(context(game, batch), labels).flatten(1).mean(1) + 10 * labels
    wrong = real + 10 * torch.tensor([0, 0, 5, 2, 4, 3, 7, 0])
    wrong[:2] = fake[:2]
    objective = LeastSquares()
    wanted = (objective.critic(real + 10 * labels, fake) + objective.critic(real + 10 * labels, wrong)) / 2
    torch.testing.assert_close(terms["adversarial"], wanted)


class Unlike(nn.Module):
    """A generator whose images are each of another grey, whatever is asked for."""

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        return (20 * z.mean(1)).view(-1, 1, 1, 1).expand(-1, 3, 16, 16)


class SumAndGuess(Sum):
    """Its logit and, as a headed critic, what it takes the class to be: the mean pixel beside 0 for each other class."""

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean = images.flatten(1).mean(1)
        return mean, torch.cat([mean[:, None], torch.zeros(len(images), 9)], 1)


def test_the_generator_is_judged_by_what_it_was_asked_for(
    spec_and_batch: tuple[DataSpec, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, batch = spec_and_batch
    monkeypatch.setattr("bigan.games.cgan.both", lambda critic, images: critic.both(images))
    for how in ("projection", "classifier"):
        settings = CGAN(generator=GENERATOR, critic=CRITIC, how=how, weight=3.0)
        game = settings.build({"real": spec})
        players = {"generator": Unlike(), "critic": SumAndGuess()}
        terms = game.moves[1].loss(context(game, batch, players))
        fake = settings.generate(context(game, batch, players), batch.labels)
        says = SumAndGuess()
        logits = says(fake, batch.labels) if how == "projection" else says.both(fake)[0]
        wanted = {"adversarial": NonSaturating().generator(logits)}
        if how == "classifier":
            wanted["classifier(fake)"] = 3 * F.cross_entropy(says.both(fake)[1], batch.labels)
        torch.testing.assert_close(dict(terms), wanted)


def test_a_classifier_is_told_the_condition_of_each_image(spec_and_batch: tuple[DataSpec, Batch]) -> None:
    """The critic's terms: of real images and of those made under their labels alike, each by its own label."""
    spec, batch = spec_and_batch
    assert not torch.equal(batch.labels, batch.labels.flip(0))
    settings = CGAN(generator=GENERATOR, critic=CRITIC, how="classifier", weight=3.0)
    game = settings.build({"real": spec})
    critic = game.players["critic"]
    assert isinstance(critic, Headed)
    terms = game.moves[0].loss(context(game, batch))
    wanted, logits = {}, {}
    for name, images in (("real", batch.images), ("fake", settings.generate(context(game, batch), batch.labels))):
        logits[name], classes = critic(images, both=True)
        wanted[f"classifier({name})"] = 3 * F.cross_entropy(classes, batch.labels)
    wanted["adversarial"] = NonSaturating().critic(logits["real"], logits["fake"])
    torch.testing.assert_close(dict(terms), wanted)


def test_samples_are_of_conditions_that_were_read(spec_and_batch: tuple[DataSpec, Batch]) -> None:
    spec, batch = spec_and_batch
    settings = CGAN(generator=GENERATOR, critic=CRITIC, condition=CAPTION, how="concatenation")
    game = settings.build({"real": spec})
    ctx = context(game, batch)
    game.moves[0].loss(ctx)
    state = game.state
    state.get_buffer("condition")[:COUNT] = ctx.kept["bank.condition"]
    later = Context(
        players=game.players, batches={}, draws=Draws((1,), 0, 64, CPU), clock=Clock(batch=COUNT, round=1), state=state
    )
    samples = game.sample(later)
    assert samples["images"].shape == (64, 3, 16, 16)
    read = {tuple(row) for row in ctx.kept["bank.condition"].tolist()}
    assert {tuple(row) for row in samples["condition"].tolist()} == read


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mismatch": True, "how": "classifier"}, "mismatch: a critic that classifies is shown no conditions"),
        ({"critic": DCGANCritic(width=4, norm="batch"), "penalties": (R1(),)}, r"critic\.norm: a gradient penalty needs"),
        ({"penalties": (R1(), R1(weight=2.0))}, "name each kind once"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CGAN(**changes)


def test_a_chosen_class_is_drawn_by_command(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(
        tmp_path / "run.yaml", digits, game__kind="cgan", game__generator__norm="conditional", length_kimg=kimg(4),
        checkpoint_kimg=kimg(4), tick_kimg=kimg(4),
    )  # fmt: skip
    assert bigan("train", config).status == 0
    drawn = []
    for given in (("--given", "7"), ()):
        said = bigan("sample", "runs/run", "--out", "some.npz", "--count", 16, *given)
        assert said.status == 0, said.err
        drawn.append(np.load("some.npz")["condition"])
    assert drawn[0].tolist() == [7] * 16
    assert len(set(drawn[1].tolist())) > 1
    refused(bigan("sample", "runs/run", "--out", "some.npz", "--given", "ten"), "--given: ", "no class 'ten'")
    refused(bigan("sample", "runs/run", "--out", "some.npz", "--given", "10"), "there is no class '10'")


def test_a_game_without_conditions_says_so(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bigan("train", write_config(tmp_path / "run.yaml", digits, length_kimg=kimg(1), checkpoint_kimg=0)).status == 0
    refused(
        bigan("sample", "runs/run", "--out", "some.png", "--given", "7"), "--given: the run's game cannot be given a condition"
    )
