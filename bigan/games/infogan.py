"""InfoGAN: a generator whose codes can be read off its samples (Chen et al., 2016)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bigan.batch import DataSpec, modelled
from bigan.conditions import number, whole
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.games.contest import against, check_penalties, contest_headed, mean_over, observe
from bigan.latents import Latent, Normal
from bigan.networks import Critic, Generator, group
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.networks.joint import both, headed
from bigan.objectives import NonSaturating, Objective
from bigan.penalties import Penalty, way
from bigan.precision import wide
from bigan.settings import Count, CountFrom0, NonNegative, Positive, Several, settings
from bigan.uses import Chosen


class Codes(NamedTuple):
    """What a sample is made to say.

    Attributes:
        categories: [N, number of categorical codes] int64.
        values: [N, number of continuous codes] in [-1, 1].
    """

    categories: Tensor
    values: Tensor


@settings
class InfoGAN:
    """Settings of the game; reads the stream "real", images or points.

    Attributes:
        generator: its `latent` is the noise z alone; the codes come on top.
        latent: what z is drawn from.
        critic_steps: how often the critic and Q move before the generator does.
        categories: of how many values each categorical code is.
        continuous: how many codes are uniform in [-1, 1].
        weight: λ, of the bound L_I, which both players raise.
        spread: standard deviation of Q's normal distribution of a continuous code. The authors' code fixes it at 1, where no Q
            brings the bound above 0; the smaller it is, the more these codes weigh.
        features: of the trunk on which D and Q stand.
        hidden: units of the layer that Q has for itself.
    """

    kind: Literal["infogan"] = "infogan"
    generator: Generator = field(default_factory=lambda: DCGANGenerator(latent=62))
    critic: Critic = field(default_factory=DCGANCritic)
    latent: Latent = field(default_factory=Normal)
    objective: Objective = field(default_factory=NonSaturating)
    penalties: tuple[Penalty, ...] = ()
    critic_steps: Count = 1
    categories: tuple[Several, ...] = (10,)
    continuous: CountFrom0 = 2
    weight: NonNegative = 1.0
    spread: Positive = 0.5
    features: Count = 128
    hidden: Count = 128

    def __post_init__(self) -> None:
        if not (self.categories or self.continuous):
            raise ValueError("categories: there are neither these nor continuous codes; that game is of kind gan")
        check_penalties(self.critic, self.penalties)

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The players for this data."""
        name, shape = modelled(data, "real")
        size = sum(self.categories) + self.continuous
        generator = replace(self.generator, latent=self.generator.latent + size).build(shape)
        critic = headed(self.critic, shape, self.features, size, self.hidden)
        ties = {"group": group(self.critic), "coupled": self.objective.coupled}
        return Game(
            players={"generator": generator, "critic": critic},
            averaged=frozenset({"generator"}),
            moves=(
                Move(player="critic", loss=self.critic_loss, reads=("real",), repeat=self.critic_steps, **ties),
                Move(player="generator", loss=self.generator_loss, reads=("real",) if self.objective.pairs else (), **ties),
            ),
            sample=lambda ctx: self.sample(ctx, name, self.codes(ctx)),
            notes=(way(critic, shape),) if self.penalties else (),
            critique=None if self.critic.minibatch else lambda ctx, samples: wide(ctx.players["critic"](samples)),
            uses=(Chosen(lambda text: self.chosen(name, text)),),
        )

    def critic_loss(self, ctx: Context) -> Terms:
        """D's loss and -λ L_I of Q, which stands on the same trunk."""
        codes, critic, real = self.codes(ctx), ctx.players["critic"], ctx.batch("real").modelled
        with torch.no_grad():
            fake = self.generate(ctx, codes)
        mean = mean_over(ctx, self.objective)
        outcome, said = contest_headed(
            critic, self.objective, self.penalties, ctx.draws, ctx.step, real, fake, asked=("fake",), mean=mean
        )
        observe(ctx, self.objective, outcome)
        return {**outcome.terms, **self.information(ctx, said["fake"], codes)}

    def generator_loss(self, ctx: Context) -> Terms:
        """The objective's generator loss and -λ L_I of the generator (equation 6)."""
        codes, critic = self.codes(ctx), ctx.players["critic"]
        logits, said = both(critic, self.generate(ctx, codes))
        real = against(critic, self.objective, ctx.batch("real").modelled if self.objective.pairs else None)
        adversarial = self.objective.generator(wide(logits), real, mean_over(ctx, self.objective))
        return {"adversarial": adversarial, **self.information(ctx, said, codes)}

    def information(self, ctx: Context, said: Tensor, codes: Codes) -> Terms:
        """-λ L_I of what Q said, [N, …]; and how well Q reads the codes."""
        bound = self.bound(said, codes)
        ctx.observe("L_I", bound)
        *scores, values = wide(said).split([*self.categories, self.continuous], 1)
        if scores:
            right = [(score.argmax(1) == codes.categories[:, k]).float() for k, score in enumerate(scores)]
            ctx.observe("code_accuracy", torch.stack(right, 1))
        if self.continuous:
            ctx.observe("code_error", (values - codes.values).square().mean(1).sqrt())
        return {"information": -self.weight * bound.mean()}

    def bound(self, said: Tensor, codes: Codes) -> Tensor:
        """log Q(c | x) + H(c) in nats, [N]; its mean is L_I ≤ I(c; x) (equations 4 and 5)."""
        *scores, values = wide(said).split([*self.categories, self.continuous], 1)
        likelihood = values.new_zeros(len(values))
        for k, score in enumerate(scores):
            likelihood = likelihood - F.cross_entropy(score, codes.categories[:, k], reduction="none")
        error = ((codes.values - values) / self.spread).square() / 2
        likelihood = likelihood - (error + math.log(self.spread * math.sqrt(2 * math.pi))).sum(1)
        return likelihood + self.entropy

    @property
    def entropy(self) -> float:
        """H(c) in nats: of even categories, and of uniform numbers in [-1, 1]."""
        return sum(math.log(count) for count in self.categories) + self.continuous * math.log(2)

    def codes(self, ctx: Context) -> Codes:
        """Fresh codes."""
        categories = [ctx.integers(f"category {k}", count) for k, count in enumerate(self.categories)]
        values = 2 * ctx.uniform("code", self.continuous) - 1
        return Codes(torch.stack(categories, 1) if categories else values[:, :0].long(), values)

    def generate(self, ctx: Context, codes: Codes) -> Tensor:
        """Samples [N, …] of these codes and fresh noise."""
        one_hot = [F.one_hot(codes.categories[:, k], count) for k, count in enumerate(self.categories)]
        z = self.latent.draw(ctx, self.generator.latent)
        return ctx.players["generator"](torch.cat([z, *one_hot, codes.values], 1))

    def sample(self, ctx: Context, name: str, codes: Codes) -> Samples:
        """Samples and their codes."""
        return {name: self.generate(ctx, codes), "categories": codes.categories, "codes": codes.values}

    def chosen(self, name: str, text: str) -> Callable[[Context], Samples]:
        """What samples the codes that the user writes, categories first: "3", "3,0.5,-1", or "3,,1" where one is drawn.

        Raises:
            ValueError: for what is no code.
        """
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > len(self.categories) + self.continuous:
            raise ValueError(f"{text!r}: there are {len(self.categories)} categories and {self.continuous} numbers")
        categories = {
            k: whole(part, self.categories[k], "categories") for k, part in enumerate(parts[: len(self.categories)]) if part
        }
        values = {k: number(part, text) for k, part in enumerate(parts[len(self.categories) :]) if part}

        def sample(ctx: Context) -> Samples:
            drawn = self.codes(ctx)
            for column, fixed in ((drawn.categories, categories), (drawn.values, values)):
                for k, value in fixed.items():
                    column[:, k] = value
            return self.sample(ctx, name, drawn)

        return sample
