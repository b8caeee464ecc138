"""Edits of real images: an encoder for a conditional generator, and directions of attributes among its codes.

The encoder inverts the generator (Perarnau et al., "Invertible conditional GANs", 2016); an attribute is the difference of the
mean codes of those that have it and those that have not (Larsen et al., 2016, section 4.2).
"""

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from bigan.batch import DataSpec, image_shape
from bigan.conditions import Given, number, position
from bigan.game import Context, Game, Move, Round, Terms
from bigan.games.cgan import CGAN
from bigan.networks import Critic, sees_alone
from bigan.networks.dcgan import DCGANCritic
from bigan.precision import wide
from bigan.settings import Fraction, settings
from bigan.uses import Translation, Way


@settings
class Edits:
    """Settings of the game; reads the stream "real", images with conditions and with attributes to be edited.

    Attributes:
        game: the conditional GAN, which plays as if it were alone.
        encoder: from an image to z and the condition, trained on what the generator makes of known ones.
        decay: of the mean codes, a round.
    """

    kind: Literal["edits"] = "edits"
    game: CGAN = field(default_factory=CGAN)
    encoder: Critic = field(default_factory=DCGANCritic)
    decay: Fraction = 0.99

    def __post_init__(self) -> None:
        sees_alone(self.encoder, "encoder", "it tells the code")

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The conditional GAN and its encoder; ValueError without attributes, or for a condition that no classifier tells."""
        base, given = self.game.build(data), self.game.condition.fit(data, "real")
        shape, attributes = image_shape(data, "real"), data["real"].attributes
        if not attributes:
            raise ValueError("data.real: has no attributes; edits are along them")
        if given.loss is None:
            raise ValueError(f"game.condition: {given.field} are nothing that an encoder tells; take labels or attributes")
        size = self.game.generator.latent
        codes, encoder = MeanCodes(len(attributes), size, self.decay), self.encoder.build(shape, size + given.size)

        def after(played: Round) -> None:
            assert base.after is not None
            base.after(played)
            codes.follow(played.kept["encoder/codes"], played.kept["encoder/attributes"])

        def to(text: str) -> Way:
            name, equals, amount = text.partition("=")
            column, strength = position(name, attributes, "attribute", text), number(amount if equals else "1", text)
            return Way(shape, lambda ctx, images: self.edit(ctx, given, images, strength * codes.direction(column)))

        return replace(
            base,
            players={**base.players, "encoder": encoder},
            averaged=base.averaged | {"encoder"},
            moves=(*base.moves, Move(player="encoder", loss=lambda ctx: self.encoder_loss(ctx, given), reads=("real",))),
            state=nn.ModuleDict({"game": base.state, "codes": codes}),
            after=after,
            uses=(*base.uses, Translation(to)),
        )

    def encode(self, ctx: Context, images: Tensor) -> tuple[Tensor, Tensor]:
        """z [N, latent] and what the encoder says of the condition, [N, size of its code]."""
        size = self.game.generator.latent
        code = wide(ctx.players["encoder"](images))
        return code[:, :size], code[:, size:]

    def encoder_loss(self, ctx: Context, given: Given) -> Terms:
        """Squared error of z and a classifier's loss of the condition, of generated images; real ones leave their codes."""
        assert given.loss is not None
        assert given.right is not None
        batch = ctx.batch("real")
        condition = given.read(batch)
        latent = self.game.latent.draw(ctx, self.game.generator.latent)
        with torch.no_grad():
            fake = ctx.players["generator"](latent, condition)
            ctx.keep("codes", self.encode(ctx, batch.images)[0])
        ctx.keep("attributes", batch.attributes)
        found, outputs = self.encode(ctx, fake)
        ctx.observe("accuracy", given.right(outputs.detach(), condition))
        return {"z": (found - latent).square().mean(), "condition": given.loss(outputs, condition).mean()}

    def edit(self, ctx: Context, given: Given, images: Tensor, direction: Tensor) -> Tensor:
        """Images [N, C, H, W] along a direction [latent] of z; their condition stays as the encoder reads it."""
        latent, outputs = self.encode(ctx, images)
        condition = outputs.argmax(1) if given.blank.ndim == 0 else (outputs > 0).to(given.blank.dtype)
        return ctx.players["generator"](latent + direction, condition)


class MeanCodes(nn.Module):
    """The mean code of those that have an attribute and of those that have not, followed over the rounds.

    Args:
        attributes: how many there are; one is had where it is above ½.
        size: of a code.
        decay: of what was summed, a round.
    """

    def __init__(self, attributes: int, size: int, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("sums", torch.zeros(2, attributes, size))
        self.register_buffer("counts", torch.zeros(2, attributes))

    def follow(self, codes: Tensor, attributes: Tensor) -> None:
        """Codes [N, size] of samples with attributes [N, A]."""
        have = (attributes > 0.5).to(codes.dtype)
        for side, share in enumerate((1 - have, have)):
            self.get_buffer("sums")[side].mul_(self._decay).add_(share.T @ codes)
            self.get_buffer("counts")[side].mul_(self._decay).add_(share.sum(0))

    def direction(self, number: int) -> Tensor:
        """From those that have not to those that have: [size]; 0 where there was none of either."""
        sums, counts = self.get_buffer("sums")[:, number], self.get_buffer("counts")[:, number]
        without, having = sums / counts.clamp_min(1e-12)[:, None]
        return (having - without) * (counts > 0).all()
