"""An autoencoder: what a decoder makes of random codes that no game has taught it (Hinton & Salakhutdinov, 2006)."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from torch import Tensor, nn

from bigan.batch import DataSpec, modelled
from bigan.game import Context, Game, Move, Terms
from bigan.networks import Critic, Generator, group
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.precision import wide
from bigan.settings import settings


@settings
class Autoencoder:
    """Settings of the game; reads the stream "real", images or points.

    Attributes:
        encoder: a critic's network, with as many outputs as the decoder has latents.
        decoder: a generator's. A sample is what it makes of normal numbers, though codes need not be distributed like them.
    """

    kind: Literal["autoencoder"] = "autoencoder"
    encoder: Critic = field(default_factory=DCGANCritic)
    decoder: Generator = field(default_factory=DCGANGenerator)

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The one player for this data."""
        name, shape = modelled(data, "real")
        network = Pair(self.encoder.build(shape, self.decoder.latent), self.decoder.build(shape))
        return Game(
            players={"autoencoder": network},
            averaged=frozenset({"autoencoder"}),
            moves=(Move(player="autoencoder", loss=loss, reads=("real",), group=group(self.encoder)),),
            sample=lambda ctx: {name: decode(ctx, ctx.normal("latent", self.decoder.latent))},
        )


class Pair(nn.Module):
    """An encoder and a decoder: x [N, …] → [N, …]."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        """decoder(encoder(x))."""
        return self.decoder(self.encoder(x))


def loss(ctx: Context) -> Terms:
    """E‖x - decoder(encoder(x))‖² a value."""
    real = ctx.batch("real").modelled
    return {"squared_error": (wide(ctx.players["autoencoder"](real)) - real).square().mean()}


def decode(ctx: Context, codes: Tensor) -> Tensor:
    """Codes [N, latent] → samples [N, …]."""
    return ctx.players["autoencoder"].get_submodule("decoder")(codes)
