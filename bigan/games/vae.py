"""The variational autoencoder: one player, which raises a lower bound of log p(x) (Kingma & Welling, 2014)."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from torch import Tensor, nn

from bigan.batch import DataSpec, modelled
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.likelihoods import Gaussian, Likelihood
from bigan.networks import Critic, Generator, group
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.precision import wide
from bigan.settings import NonNegative, settings


@settings
class VAE:
    """Settings of the game; reads the stream "real", images or points.

    Attributes:
        encoder: a critic's network, with two outputs a latent: mean and log variance of q(z | x).
        decoder: a generator's network.
        likelihood: what the decoder's output means, p(x | z).
        beta: weight of the divergence of q from the prior; 1 is the bound (Higgins et al., beta-VAE, 2017).
    """

    kind: Literal["vae"] = "vae"
    encoder: Critic = field(default_factory=DCGANCritic)
    decoder: Generator = field(default_factory=DCGANGenerator)
    likelihood: Likelihood = field(default_factory=Gaussian)
    beta: NonNegative = 1.0

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The one player for this data."""
        name, shape = modelled(data, "real")
        if name != "images" and self.likelihood.kind != "gaussian":
            raise ValueError(f"likelihood: {self.likelihood.kind} is one of images, and data.real has none; set gaussian")
        network = Variational(
            self.encoder.build(shape, 2 * self.decoder.latent),
            self.decoder.build(self.likelihood.output(shape), bounded=self.likelihood.bounded),
        )
        return Game(
            players={"vae": network},
            averaged=frozenset({"vae"}),
            moves=(Move(player="vae", loss=self.loss, reads=("real",), group=group(self.encoder)),),
            sample=lambda ctx: self.sample(ctx, name),
        )

    def loss(self, ctx: Context) -> Terms:
        """-E log p(x | z) + beta · KL(q(z | x) ‖ N(0, 1)) in nats, z drawn from q (equations 3 and 7)."""
        real = ctx.batch("real").modelled
        output, mean, log_variance = ctx.players["vae"](real, ctx.normal("latent", self.decoder.latent))
        nll, divergence = self.likelihood.nll(wide(output), real), kl(mean, log_variance)
        ctx.observe("ELBO", -nll - divergence)
        return {"reconstruction": nll.mean(), "KL": self.beta * divergence.mean()}

    def sample(self, ctx: Context, name: str) -> Samples:
        """The centre of p(x | z), z from the prior."""
        output = ctx.players["vae"].get_submodule("decoder")(ctx.normal("latent", self.decoder.latent))
        return {name: self.likelihood.centre(wide(output))}


class Variational(nn.Module):
    """An encoder and a decoder around a normal latent."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: [N, …]; noise: [N, latent]. Returns the decoder's output at z = mean + std · noise, mean and log variance of q."""
        mean, log_variance = wide(self.encoder(x)).chunk(2, 1)
        return self.decoder(mean + (log_variance / 2).exp() * noise), mean, log_variance


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) in nats, [N, latent] → [N] (appendix B)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
