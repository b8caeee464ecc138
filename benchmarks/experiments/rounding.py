"""A user's game for row 13: the game of two over images of a few levels, to which the generator rounds."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus

from bigan.batch import DataSpec, image_shape
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """Its settings."""

    levels: int = 4
    latent: int = 6

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        shape = image_shape(data, "real")
        return Game(
            players={
                "generator": DCGANGenerator(latent=self.latent, width=16).build(shape),
                "critic": DCGANCritic(width=16).build(shape),
            },
            moves=(
                Move(player="critic", loss=self.critic_loss, reads=("real",)),
                Move(player="generator", loss=self.generator_loss),
            ),
            sample=self.sample,
        )

    def critic_loss(self, ctx: Context) -> Terms:
        critic = ctx.players["critic"]
        real, fake = critic(self.rounded(ctx.batch("real").images)), critic(self.generate(ctx).detach())
        return {"adversarial": softplus(-real).mean() + softplus(fake).mean()}

    def generator_loss(self, ctx: Context) -> Terms:
        return {"adversarial": softplus(-ctx.players["critic"](self.generate(ctx))).mean()}

    def generate(self, ctx: Context) -> Tensor:
        return self.rounded(ctx.players["generator"](ctx.normal("latent", self.latent)))

    def rounded(self, images: Tensor) -> Tensor:
        """To the nearest level; a step function, whose derivative is 0 wherever it has one."""
        return ((images + 1) / 2 * (self.levels - 1)).round() * (2 / (self.levels - 1)) - 1

    def sample(self, ctx: Context) -> Samples:
        return {"images": self.generate(ctx)}
