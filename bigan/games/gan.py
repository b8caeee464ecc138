"""The game of two: a generator against a critic, under any objective and any gradient penalties (Goodfellow et al., 2014)."""

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Literal

import torch
from torch import Tensor

from bigan.batch import DataSpec, image_shape
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.objectives import NonSaturating, Objective
from bigan.penalties import DRAGAN, Penalty, judge, mix, way
from bigan.precision import wide
from bigan.settings import Count, settings


@settings
class GAN:
    """Settings of the game; reads the stream "real".

    Attributes:
        critic_steps: how often the critic moves before the generator does.
    """

    kind: Literal["gan"] = "gan"
    generator: DCGANGenerator = field(default_factory=DCGANGenerator)
    critic: DCGANCritic = field(default_factory=DCGANCritic)
    objective: Objective = field(default_factory=NonSaturating)
    penalties: tuple[Penalty, ...] = ()
    critic_steps: Count = 1

    def __post_init__(self) -> None:
        if self.penalties and self.critic.norm == "batch":
            raise ValueError("critic.norm: a gradient penalty needs a critic that judges each image alone; set it to none")
        kinds = [penalty.kind for penalty in self.penalties]
        if len(kinds) != len(set(kinds)):
            raise ValueError(f"penalties: {', '.join(kinds)}: name each kind once")

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The players for these images."""
        shape = image_shape(data, "real")
        generator, critic = self.generator.build(shape), self.critic.build(shape)
        return Game(
            players={"generator": generator, "critic": critic},
            averaged=frozenset({"generator"}),
            moves=(
                Move(player="critic", loss=self.critic_loss, reads=("real",), repeat=self.critic_steps),
                Move(player="generator", loss=self.generator_loss),
            ),
            sample=self.sample,
            notes=(way(critic, shape),) if self.penalties else (),
        )

    def critic_loss(self, ctx: Context) -> Terms:
        """The objective's critic loss, and the penalties that are due."""
        real = ctx.batch("real").images
        with torch.no_grad():
            fake = self.generate(ctx).to(real.dtype)
        points: dict[str, Callable[[Tensor], object]] = {
            "real": lambda out: out.copy_(real),
            "fake": lambda out: out.copy_(fake),
            "mix": lambda out: mix(real, fake, ctx.uniform("mix"), out),
            "near": lambda out: torch.add(real, ctx.normal("near", *real.shape[1:]), alpha=self._spread, out=out),
        }
        logits, penalties = judge(ctx.players["critic"], self.penalties, ctx.step, points, real)
        for name in ("real", "fake"):
            ctx.observe(f"D({name})", self.objective.score(logits[name]))
        return {"adversarial": self.objective.critic(logits["real"], logits["fake"]), **penalties}

    @property
    def _spread(self) -> float:
        return next(penalty.spread for penalty in self.penalties if isinstance(penalty, DRAGAN))

    def generator_loss(self, ctx: Context) -> Terms:
        """The objective's generator loss."""
        logits = wide(ctx.players["critic"](self.generate(ctx)))
        return {"adversarial": self.objective.generator(logits)}

    def generate(self, ctx: Context) -> Tensor:
        """Fresh images [N, C, H, W]."""
        return ctx.players["generator"](ctx.normal("latent", self.generator.latent))

    def sample(self, ctx: Context) -> Samples:
        """Images alone."""
        return {"images": self.generate(ctx)}
