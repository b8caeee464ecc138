"""A game whose losses couple the samples of a batch: the relativistic average GAN (Jolicoeur-Martineau, 2019)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from bigan.batch import DataSpec, image_shape
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator


@dataclass(frozen=True, kw_only=True)
class RelativeAverage:
    """Its settings."""

    latent: int = 4

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """Both moves see real and generated images."""
        shape = image_shape(data, "real")
        return Game(
            players={
                "generator": DCGANGenerator(latent=self.latent, width=4, upsample="transposed").build(shape),
                "critic": DCGANCritic(width=4).build(shape),
            },
            averaged=frozenset({"generator"}),
            moves=(
                Move(player="critic", loss=self.critic_loss, reads=("real",), coupled=True),
                Move(player="generator", loss=self.generator_loss, reads=("real",), coupled=True),
            ),
            sample=self.sample,
        )

    def critic_loss(self, ctx: Context) -> Terms:
        """Real images shall be more real than generated ones are on average, and the other way about."""
        with torch.no_grad():
            images = self.generate(ctx)
        critic = ctx.players["critic"]
        return self.relative(ctx, critic(ctx.batch("real").images), critic(images))

    def generator_loss(self, ctx: Context) -> Terms:
        """The same with the sides exchanged; its gradient passes the mean."""
        critic = ctx.players["critic"]
        return self.relative(ctx, critic(self.generate(ctx)), critic(ctx.batch("real").images))

    def relative(self, ctx: Context, more: Tensor, less: Tensor) -> Terms:
        """The loss by which `more` rises above the mean of `less`."""
        above, below = more - ctx.global_mean(less), less - ctx.global_mean(more)
        return {"adversarial": softplus(-above).mean() + softplus(below).mean()}

    def generate(self, ctx: Context) -> Tensor:
        """Fresh images."""
        return ctx.players["generator"](ctx.normal("latent", self.latent))

    def sample(self, ctx: Context) -> Samples:
        """Images alone."""
        return {"images": self.generate(ctx)}
