"""The game of two: a generator against a critic, under any objective and any gradient penalties (Goodfellow et al., 2014)."""

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Literal

import torch
from torch import Tensor

from bigan.batch import DataSpec, modelled
from bigan.clock import Clock
from bigan.game import Context, Game, Move, Terms
from bigan.games.contest import check_penalties, contest, mean_over, observe, persuade
from bigan.games.packing import PackedNumbers, pack, packed_shape
from bigan.games.unrolled import Unroll, ahead
from bigan.latents import Latent, Normal
from bigan.networks import Critic, Generator, group
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.objectives import NonSaturating, Objective
from bigan.penalties import Penalty, way
from bigan.precision import wide
from bigan.settings import Count, NonNegative, settings


@settings
class GAN:
    """Settings of the game; reads the stream "real", images or points.

    Attributes:
        latent: what z is drawn from.
        critic_steps: how often the critic moves before the generator does.
        pack: how many samples the critic judges as one (Lin et al., PacGAN, 2018).
        unroll: how far the generator looks ahead, in a zero-sum objective; None: not at all.
        pretrain_kimg: until then the critic alone moves.
    """

    kind: Literal["gan"] = "gan"
    generator: Generator = field(default_factory=DCGANGenerator)
    critic: Critic = field(default_factory=DCGANCritic)
    latent: Latent = field(default_factory=Normal)
    objective: Objective = field(default_factory=NonSaturating)
    penalties: tuple[Penalty, ...] = ()
    critic_steps: Count = 1
    pack: Count = 1
    unroll: Unroll | None = None
    pretrain_kimg: NonNegative = 0.0

    def __post_init__(self) -> None:
        check_penalties(self.critic, self.penalties)
        if self.unroll and (self.penalties or self.critic.norm == "batch"):
            raise ValueError("unroll: looks ahead by the objective alone; leave penalties out, and set critic.norm to none")
        if self.unroll and not self.objective.zero_sum:
            raise ValueError(
                "unroll: the generator descends what the critic ascends; set objective.kind to minimax, wasserstein or "
                "f_divergence (with generator_loss: minimax)"
            )

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The players for this data."""
        name, shape = modelled(data, "real")
        judged = packed_shape(shape, self.pack)
        generator, critic = self.generator.build(shape), self.critic.build(judged)
        side_by_side = self.pack * group(self.critic)
        coupled = self.objective.coupled
        return Game(
            players={"generator": generator, "critic": critic},
            averaged=frozenset({"generator"}),
            moves=(
                Move(
                    player="critic",
                    loss=self.critic_loss,
                    reads=("real",),
                    repeat=self.critic_steps,
                    group=side_by_side,
                    coupled=coupled,
                ),
                Move(
                    player="generator",
                    loss=self.generator_loss,
                    reads=("real",) if self.objective.pairs or self.unroll else (),
                    when=self.critic_is_ready,
                    group=side_by_side,
                    coupled=coupled or self.unroll is not None,
                ),
            ),
            sample=lambda ctx: {name: self.generate(ctx)},
            notes=(way(critic, judged),) if self.penalties else (),
            critique=None if self.critic.minibatch else self.critique,
        )

    def critic_is_ready(self, clock: Clock, state: object) -> bool:
        """Whether the critic's pretraining is over."""
        return clock.images >= self.pretrain_kimg * 1000

    def critic_loss(self, ctx: Context) -> Terms:
        """The objective's critic loss, and the penalties that are due."""
        real = pack(ctx.batch("real").modelled, self.pack)
        with torch.no_grad():
            fake = pack(self.generate(ctx), self.pack)
        draws = PackedNumbers(ctx.draws, self.pack)
        outcome = contest(
            ctx.players["critic"],
            self.objective,
            self.penalties,
            draws,
            ctx.step,
            real,
            fake,
            mean=mean_over(ctx, self.objective),
        )
        observe(ctx, self.objective, outcome, estimate=self.pack == 1)  # of packs, it is another divergence
        return outcome.terms

    def generator_loss(self, ctx: Context) -> Terms:
        """The objective's generator loss, against the critic as it is or, unrolled, as it would become."""
        fake, critic = pack(self.generate(ctx), self.pack), ctx.players["critic"]
        reads = self.unroll or self.objective.pairs
        real = pack(ctx.batch("real").modelled, self.pack) if reads else None
        if self.unroll is None:
            return {"adversarial": persuade(critic, self.objective, fake, real, mean_over(ctx, self.objective))}
        assert real is not None

        def loss(critic: Callable[[Tensor], Tensor]) -> Tensor:
            return self.objective.critic(wide(critic(real)), wide(critic(fake)))

        # What the critic says of real samples counts, too: the steps that lead to it saw the generated ones.
        return {"adversarial": -loss(ahead(self.unroll, critic, loss, ctx.global_mean))}

    def generate(self, ctx: Context) -> Tensor:
        """Fresh samples [N, …]."""
        return ctx.players["generator"](self.latent.draw(ctx, self.generator.latent))

    def critique(self, ctx: Context, samples: Tensor) -> Tensor:
        """The critic's outputs [N], of patches their mean; a pack is a sample beside itself."""
        outputs = wide(ctx.players["critic"](pack(samples.repeat_interleave(self.pack, 0), self.pack)))
        return outputs.flatten(1).mean(1) if outputs.ndim > 1 else outputs
