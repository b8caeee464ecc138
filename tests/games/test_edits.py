"""Edits: what the encoder descends, directions that are differences of means, and images that change along them."""

from dataclasses import replace

import pytest
import torch

from bigan.batch import DataSpec
from bigan.clock import Clock, Draws
from bigan.conditions import Attributes, Caption
from bigan.data.digits import CaptionedDigits
from bigan.game import Context, Round
from bigan.games.cgan import CGAN
from bigan.games.edits import Edits, MeanCodes
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.networks.minibatch import MinibatchDiscrimination
from bigan.uses import Chosen, Translation, use

CPU = torch.device("cpu")
SMALL = Edits(
    game=CGAN(generator=DCGANGenerator(latent=3, width=4, norm="conditional"), critic=DCGANCritic(width=4)),
    encoder=DCGANCritic(width=4),
)


def test_a_direction_is_the_difference_of_mean_codes() -> None:
    torch.manual_seed(0)
    attributes = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    codes = torch.randn(4, 3)
    means = MeanCodes(2, 3, decay=0.5)
    means.follow(codes, attributes)
    wanted = (codes[0] + codes[2] - codes[1] - codes[3]) / 2
    torch.testing.assert_close(means.direction(0), wanted)
    assert (means.direction(1) == 0).all()  # nobody had it
    for _ in range(60):
        means.follow(codes + 1, attributes)
    torch.testing.assert_close(means.direction(0), wanted)  # the old codes are forgotten, without and with it alike
    torch.testing.assert_close(means.get_buffer("counts").sum(0), torch.full((2,), 8.0))


def test_an_encoder_learns_from_what_is_generated_and_leaves_codes_of_what_is_real() -> None:
    with CaptionedDigits(size=16).open(0) as stream:
        batch, data = stream.read(0, 8).to(CPU), {"real": stream.spec}
    game = SMALL.build(data)
    move = game.moves[-1]
    ctx = Context(
        players=game.players, batches={"real": batch}, draws=Draws((0,), 0, 8, CPU), clock=Clock(batch=8), state=game.state
    )
    terms = move.loss(ctx)
    assert set(terms) == {"z", "condition"}
    torch.stack([*terms.values()]).sum().backward()
    assert all(p.grad is not None for p in game.players["encoder"].parameters())
    assert all(p.grad is None for p in game.players["generator"].parameters())
    codes, _ = SMALL.encode(ctx, batch.images)
    torch.testing.assert_close(ctx.kept["codes"], codes.detach())

    assert game.after is not None
    kept = {f"encoder/{name}": value for name, value in ctx.kept.items()}
    game.after(Round(Clock(batch=8, round=1), dict, kept, Draws((1,), 0, 8, CPU)))
    way, plain = (use(game, Translation, "").to(text) for text in ("right=3", "right=0"))
    after = Context(players=game.players, batches={}, draws=Draws((2,), 0, 8, CPU), clock=Clock(batch=8), state=game.state)
    one, other = way.run(after, batch.images), plain.run(after, batch.images)
    assert one.shape == batch.images.shape
    assert not torch.allclose(one, other)
    z, outputs = SMALL.encode(after, batch.images)
    codes = game.state.get_submodule("codes")
    assert isinstance(codes, MeanCodes)
    have = batch.attributes[:, stream.spec.attributes.index("right")] > 0.5
    raw, _ = SMALL.encode(ctx, batch.images)
    towards = raw[have].mean(0) - raw[~have].mean(0)
    torch.testing.assert_close(one, after.players["generator"](z + 3 * towards, outputs.argmax(1)))
    assert use(game, Chosen, "").given("3")(after)["condition"].tolist() == [3] * 8
    with pytest.raises(ValueError, match=r"^rihgt: there is no attribute 'rihgt'; there is right"):
        use(game, Translation, "").to("rihgt")
    for text, told in (("right=far", "'far' is no number"), ("right=", "'' is no number")):
        with pytest.raises(ValueError, match=told):
            use(game, Translation, "").to(text)


def test_attributes_that_the_encoder_reads_are_kept() -> None:
    """Each is had where the encoder's output is above 0, as its loss has it."""
    torch.manual_seed(0)
    with CaptionedDigits(size=16).open(0) as stream:
        batch, data = stream.read(0, 8).to(CPU), {"real": stream.spec}
    settings = replace(SMALL, game=replace(SMALL.game, condition=Attributes(names=("large", "right"))))
    game = settings.build(data)
    ctx = Context(players=game.players, batches={}, draws=Draws((0,), 0, 8, CPU), clock=Clock(batch=8), state=game.state)
    edited = use(game, Translation, "").to("right").run(ctx, batch.images)
    z, outputs = settings.encode(ctx, batch.images)
    had = torch.tensor([[float(value > 0) for value in row] for row in outputs.tolist()])
    assert set(had.flatten().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(edited, game.players["generator"](z, had))  # no codes were followed: the direction is 0


def test_data_that_cannot_be_edited_are_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder\.minibatch: it tells the code of one image by itself; set it to null"):
        Edits(encoder=DCGANCritic(minibatch=MinibatchDiscrimination()))
    with pytest.raises(ValueError, match=r"data\.real: has no attributes"):
        SMALL.build({"real": DataSpec(samples=1, image_shape=(1, 16, 16), classes=("a", "b"))})
    spec = DataSpec(samples=1, image_shape=(1, 16, 16), caption_bytes=3, words=("a",), attributes=("b",))
    game = CGAN(generator=DCGANGenerator(latent=3, width=4), critic=DCGANCritic(width=4), condition=Caption(width=4))
    with pytest.raises(ValueError, match=r"game\.condition: captions are nothing that an encoder tells"):
        Edits(game=game, encoder=DCGANCritic(width=4)).build({"real": spec})
