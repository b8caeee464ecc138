"""K+1 classes: what the classifier descends, and feature matching."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bigan.batch import Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.game import Context, Game
from bigan.games.semi import Semi
from bigan.networks.mlp import MLPCritic, MLPGenerator

CPU = torch.device("cpu")
SPEC = DataSpec(samples=8, image_shape=(1, 4, 4), classes=("a", "b", "c"))
DATA = {"real": replace(SPEC, classes=()), "labelled": SPEC}
SMALL = Semi(
    generator=MLPGenerator(latent=3, width=8, depth=1), critic=MLPCritic(width=8, depth=1), features=6, noise=0.0
)  # fmt: skip


def context(game: Game, count: int = 8, labels: Tensor | None = None) -> Context:
    """The stream "real" has labels where they are given."""
    random = torch.Generator().manual_seed(1)
    images: list[Tensor] = [torch.rand(count, 1, 4, 4, generator=random) * 2 - 1 for _ in range(2)]
    batches = {
        "real": Batch(torch.arange(count), {"images": images[0]} | ({} if labels is None else {"labels": labels})),
        "labelled": Batch(torch.arange(count), {"images": images[1], "labels": torch.arange(count) % 3}),
    }
    return Context(
        players=game.players, batches=batches, state=game.state, clock=Clock(batch=count), draws=Draws((0,), 0, count, CPU),
        over_ranks=lambda mean: mean,
    )  # fmt: skip


def test_the_classifier_is_one_of_k_and_one_classes() -> None:
    """Beside a logit that is always 0: -log p(y | x), -log(1 - p(K+1 | x)) and -log p(K+1 | G(z)), by a softmax of K + 1."""
    game = replace(SMALL, unlabelled=3.0).build(DATA)
    ctx = context(game)
    terms = game.moves[0].loss(ctx)
    fake = SMALL.generate(context(game))
    shown = (ctx.batch("labelled").images, ctx.batch("real").images, fake)
    logits = [torch.cat([SMALL.classify(ctx, x), torch.zeros(8, 1)], 1) for x in shown]
    labelled, real, generated = (logit.double().softmax(1) for logit in logits)
    own = labelled[:, :3] / labelled[:, :3].sum(1, keepdim=True)  # the class, given that it is real
    classes = -own.gather(1, ctx.batch("labelled").labels[:, None]).log().mean()
    adversarial = -(1 - real[:, 3]).log().mean() - generated[:, 3].log().mean()
    torch.testing.assert_close(terms["classes"].double(), classes)
    torch.testing.assert_close(terms["adversarial"].double(), 3 * adversarial / 2)
    told = dict(ctx.observed)
    torch.testing.assert_close(told["D(real)"].double(), 1 - real[:, 3])
    assert game.critique is not None
    torch.testing.assert_close(game.critique(ctx, fake).sigmoid().double(), 1 - generated[:, 3])


def test_the_generator_matches_the_mean_of_features() -> None:
    game = SMALL.build(DATA)
    ctx = context(game)
    (term,) = game.moves[1].loss(ctx).values()
    features = game.players["critic"].get_submodule("trunk")
    apart = features(ctx.batch("real").images).mean(0) - features(SMALL.generate(context(game))).mean(0)
    torch.testing.assert_close(term, apart.square().mean())
    assert game.moves[1].coupled  # or ranks and micro-batches would match means of their own


def test_noise_is_drawn_while_it_trains_alone() -> None:
    game, noisy = SMALL.build(DATA), replace(SMALL, noise=0.5)
    for move in (0, 1):
        plain, shaken = (settings.build(DATA).moves[move].loss for settings in (SMALL, noisy))
        one, two, again = (loss(context(game)) for loss in (plain, shaken, shaken))
        assert all(not torch.equal(one[name], two[name]) for name in one)
        assert all(torch.equal(two[name], again[name]) for name in one)
    ctx = context(game)
    images = ctx.batch("real").images
    assert torch.equal(noisy.classify(ctx, images), SMALL.classify(ctx, images))


def test_what_nobody_labelled_is_not_looked_at() -> None:
    """Both losses are the same whatever labels the stream "real" has, or none."""
    game = SMALL.build({"real": SPEC, "labelled": SPEC})
    for move in game.moves:
        without, *others = (
            dict(move.loss(context(game, labels=labels)))
            for labels in (None, torch.zeros(8, dtype=torch.int64), torch.arange(8).flip(0) % 3)
        )
        assert all(term.isfinite() for term in without.values())
        for terms in others:
            torch.testing.assert_close(terms, without, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"labelled": replace(SPEC, classes=())}, r"data\.labelled: has no classes"),
        ({"labelled": replace(SPEC, classes=("a",))}, r"data\.labelled: has no classes to be told apart"),
        (
            {"labelled": replace(SPEC, image_shape=(3, 4, 4))},
            r"data\.labelled: has images \[3, 4, 4\], and data\.real has images",
        ),
    ],
)
def test_streams_that_do_not_fit_are_refused(data: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        SMALL.build(DATA | data)


def test_a_stream_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.labelled: is missing"):
        SMALL.build({"real": SPEC})
    with pytest.raises(ValueError, match=r"critic\.norm: a classifier needs"):
        Semi(critic=MLPCritic(norm="batch"))
