"""BiGAN: a generator and its inverse, by a critic of pairs (Donahue et al., 2017; Dumoulin et al., ALI, 2017)."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from bigan.batch import DataSpec, modelled
from bigan.game import Context, Game, Move, Terms
from bigan.games.contest import check_penalties, contest, mean_over, observe
from bigan.latents import Latent, Normal, Truncated, Uniform
from bigan.networks import Critic, Generator, group, sees_alone
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.networks.joint import conditional_critic, trunk
from bigan.networks.mlp import MLPCritic
from bigan.objectives import NonSaturating, Objective
from bigan.penalties import R1, R2, way
from bigan.precision import wide
from bigan.settings import BY_KIND, Count, NonNegative, settings
from bigan.uses import Completion


@settings
class BiGAN:
    """Settings of the game; reads the stream "real", images or points.

    Attributes:
        encoder: a critic's network, with an output a latent: E(x), as far as the latent reaches.
        critic: of x; what it finds meets a small network's features of z.
        penalties: by x, at pairs (x, E(x)) and (G(z), z); between these there is none, so that R1 and R2 alone are meant.
        critic_steps: how often the critic moves before the coder does.
        reconstruction: weight of E (x - G(E(x)))², the mean over a sample's values (Li et al., ALICE, 2017).
        features: of x and of z, each, where they meet.
    """

    kind: Literal["bigan"] = "bigan"
    generator: Generator = field(default_factory=DCGANGenerator)
    encoder: Critic = field(default_factory=lambda: DCGANCritic(norm="batch"))
    critic: Critic = field(default_factory=DCGANCritic)
    latent: Latent = field(default_factory=Normal)
    objective: Objective = field(default_factory=NonSaturating)
    penalties: tuple[Annotated[R1 | R2, BY_KIND], ...] = ()
    critic_steps: Count = 1
    reconstruction: NonNegative = 0.0
    features: Count = 256

    def __post_init__(self) -> None:
        sees_alone(self.encoder, "encoder", "it tells the code")
        check_penalties(self.critic, self.penalties)

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The players for this data: the coder, which is encoder and generator, and the critic of pairs."""
        name, shape = modelled(data, "real")
        size = self.generator.latent
        coder = nn.ModuleDict({"encoder": self.encoder.build(shape, size), "generator": self.generator.build(shape)})
        small = MLPCritic(width=self.features, depth=1, spectral_norm=self.critic.spectral_norm)
        of_z = trunk(small, (size,), self.features)
        critic = conditional_critic(self.critic, shape, of_z, self.features, "concatenation", self.features)
        ties = {"group": group(self.critic), "coupled": self.objective.coupled}
        return Game(
            players={"coder": coder, "critic": critic},
            averaged=frozenset({"coder"}),
            moves=(
                Move(player="critic", loss=self.critic_loss, reads=("real",), repeat=self.critic_steps, **ties),
                Move(player="coder", loss=self.coder_loss, reads=("real",), **ties),
            ),
            sample=lambda ctx: {name: self.generate(ctx, self.latent.draw(ctx, size))},
            notes=(way(critic),) if self.penalties else (),
            critique=None if self.critic.minibatch else self.critique,
            uses=(Completion((shape[0], shape[1], shape[2]), self.complete),) if len(shape) == 3 else (),
        )

    def critic_loss(self, ctx: Context) -> Terms:
        """Pairs (x, E(x)) against pairs (G(z), z) (Donahue et al., equation 3)."""
        real, z = ctx.batch("real").modelled, self.latent.draw(ctx, self.generator.latent)
        with torch.no_grad():
            fake, code = self.generate(ctx, z), self.encode(ctx, real)
        outcome = contest(
            ctx.players["critic"], self.objective, self.penalties, ctx.draws, ctx.step, real, fake,
            {"real": code, "fake": z}, mean_over(ctx, self.objective),
        )  # fmt: skip
        observe(ctx, self.objective, outcome)
        return outcome.terms

    def coder_loss(self, ctx: Context) -> Terms:
        """The critic's loss with the roles swapped (Donahue et al., section 3.4), or its opposite in a zero-sum game."""
        real, z = ctx.batch("real").modelled, self.latent.draw(ctx, self.generator.latent)
        fake, code = self.generate(ctx, z), self.encode(ctx, real)
        critic = ctx.players["critic"]
        on_real, on_fake = wide(critic(real, code)), wide(critic(fake, z))
        if self.objective.zero_sum:
            terms = {"adversarial": -self.objective.critic(on_real, on_fake, mean_over(ctx, self.objective))}
        else:
            terms = {"adversarial": self.objective.critic(on_fake, on_real, mean_over(ctx, self.objective))}
        if self.reconstruction:
            error = (wide(self.generate(ctx, code)) - real).square().mean()
            terms["reconstruction"] = self.reconstruction * error
        return terms

    def encode(self, ctx: Context, x: Tensor) -> Tensor:
        """E(x), [N, latent]: a latent that is bounded bounds it, or the critic would tell them apart by their size alone."""
        z = ctx.players["coder"].get_submodule("encoder")(x)
        match self.latent:
            case Normal():
                return z
            case Uniform():
                return z.tanh()
            case Truncated(bound=bound):
                return bound * (z / bound).tanh()

    def generate(self, ctx: Context, z: Tensor) -> Tensor:
        """G(z), [N, …]."""
        return ctx.players["coder"].get_submodule("generator")(z)

    def critique(self, ctx: Context, samples: Tensor) -> Tensor:
        """D(x, E(x)), raw, [N]."""
        return wide(ctx.players["critic"](samples, self.encode(ctx, samples)))

    def complete(self, ctx: Context, images: Tensor, observed: Tensor, steps: int) -> Tensor:
        """Fill in what is missing: encode, generate, put back what is observed, and so again, as Gibbs would.

        It begins with a sample of the prior, so that another seed gives another completion, and E is not shown what it has
        never seen, an image half of which is grey.
        """
        x = torch.where(observed, images, self.generate(ctx, self.latent.draw(ctx, self.generator.latent)))
        for _ in range(steps):
            x = torch.where(observed, images, self.generate(ctx, self.encode(ctx, x)))
        return x
