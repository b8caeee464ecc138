"""Conditional GANs: samples that are asked for (Mirza & Osindero, 2014), by labels, attributes, arrays or captions."""

import math
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from bigan.batch import DataSpec, modelled
from bigan.conditions import Condition, Given, Label, swapped
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.games.bank import Bank
from bigan.games.contest import against, check_penalties, contest, contest_headed, mean_over, observe, persuade
from bigan.latents import Latent, Normal
from bigan.networks import Critic, Generator, group
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.networks.joint import Conditioned, both, conditional_critic, headed
from bigan.objectives import NonSaturating, Objective
from bigan.penalties import Penalty, way
from bigan.precision import wide
from bigan.settings import Count, Positive, settings
from bigan.uses import Chosen, Sample

_BANK = 256  # conditions that `sample` draws from


@settings
class CGAN:
    """Settings of the game; reads the stream "real", samples with their conditions.

    Attributes:
        latent: what z is drawn from; the generator is given z and the condition's code side by side.
        condition: what a sample is asked to be.
        how: the critic is given the condition by "projection" (Miyato & Koyama, 2018) or by "concatenation" to its features
            (Reed et al., 2016); or, by "classifier", has to tell it of real and generated samples alike (Odena et al., AC-GAN,
            2017).
        features: of the critic below the condition.
        mismatch: the critic is shown real samples under others' conditions, too, which count as half of the generated ones
            (Reed et al., 2016, algorithm 1): "is it real?" and "does it match?" are two questions.
        weight: of the classifier's terms.
        critic_steps: how often the critic moves before the generator does.
    """

    kind: Literal["cgan"] = "cgan"
    generator: Generator = field(default_factory=DCGANGenerator)
    critic: Critic = field(default_factory=DCGANCritic)
    latent: Latent = field(default_factory=Normal)
    condition: Condition = field(default_factory=Label)
    how: Literal["projection", "concatenation", "classifier"] = "projection"
    features: Count = 128
    mismatch: bool = False
    weight: Positive = 1.0
    objective: Objective = field(default_factory=NonSaturating)
    penalties: tuple[Penalty, ...] = ()
    critic_steps: Count = 1

    def __post_init__(self) -> None:
        check_penalties(self.critic, self.penalties)
        if self.mismatch and self.how == "classifier":
            raise ValueError(
                "mismatch: a critic that classifies is shown no conditions; set how to concatenation or projection"
            )

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The players for this data; ValueError where it has no such conditions."""
        name, shape = modelled(data, "real")
        given = self.condition.fit(data, "real")
        if self.how == "classifier" and given.loss is None:
            raise ValueError(f"how: {given.field} are nothing that a classifier tells; set it to concatenation or projection")
        network = replace(self.generator, latent=self.generator.latent + given.size).build(shape)
        generator, critic = Conditioned(network, given.encoder()), self._critic(shape, given)
        bank, tied = Bank({"condition": given.blank}, _BANK), group(self.critic)
        coupled = self.objective.coupled

        def sample(ctx: Context, condition: Tensor | None = None) -> Samples:
            if condition is None:
                asked = bank.draw(ctx, "real", lambda batch: {"condition": given.read(batch)})["condition"]
            else:
                asked = condition.to(bank.get_buffer("condition").device).expand(ctx.count, *given.blank.shape)
            return {name: self.generate(ctx, asked), "condition": asked}

        def chosen(text: str) -> Sample:
            condition = given.parse(text)
            return lambda ctx: sample(ctx, condition)

        return Game(
            players={"generator": generator, "critic": critic},
            averaged=frozenset({"generator"}),
            moves=(
                Move(
                    player="critic",
                    loss=lambda ctx: self.critic_loss(ctx, given, bank),
                    reads=("real",),
                    repeat=self.critic_steps,
                    group=math.lcm(tied, 2) if self.mismatch else tied,
                    coupled=coupled,
                ),
                Move(
                    player="generator",
                    loss=lambda ctx: self.generator_loss(ctx, given),
                    reads=("real",),  # whose conditions it has to meet
                    group=tied,
                    coupled=coupled,
                ),
            ),
            sample=sample,
            state=bank,
            after=lambda played: bank.put(played, "critic"),
            notes=(way(critic),) if self.penalties else (),
            critique=self._critique if self.how == "classifier" and self.critic.minibatch is None else None,
            uses=(Chosen(chosen),),
            sources=("real",),
        )

    def _critic(self, shape: tuple[int, ...], given: Given) -> nn.Module:
        if self.how == "classifier":
            return headed(self.critic, shape, self.features, given.size)
        return conditional_critic(self.critic, shape, given.encoder(), given.size, self.how, self.features)

    def _critique(self, ctx: Context, samples: Tensor) -> Tensor:
        return wide(ctx.players["critic"](samples))

    def generate(self, ctx: Context, condition: Tensor) -> Tensor:
        """Fresh samples [N, …] under conditions [N, …]."""
        return ctx.players["generator"](self.latent.draw(ctx, self.generator.latent), condition)

    def critic_loss(self, ctx: Context, given: Given, bank: Bank) -> Terms:
        """The objective's critic loss, a half of it on mismatched pairs where these are shown, and penalties that are due."""
        batch, critic = ctx.batch("real"), ctx.players["critic"]
        real, condition = batch.modelled, given.read(batch)
        bank.offer(ctx, {"condition": condition})
        with torch.no_grad():
            fake = self.generate(ctx, condition)
        mean = mean_over(ctx, self.objective)
        if self.how == "classifier":
            outcome, outputs = contest_headed(
                critic, self.objective, self.penalties, ctx.draws, ctx.step, real, fake, asked=("real", "fake"), mean=mean
            )
            observe(ctx, self.objective, outcome)
            told = {f"classifier({side})": self._told(ctx, given, said, condition, side) for side, said in outputs.items()}
            return outcome.terms | told
        outcome = contest(critic, self.objective, self.penalties, ctx.draws, ctx.step, real, fake, condition, mean)
        observe(ctx, self.objective, outcome)
        terms, logits = outcome.terms, outcome.logits
        if self.mismatch:
            others = swapped(condition)
            wrong = wide(critic(real, others))
            same = (others == condition).flatten(1).all(1) if condition.ndim > 1 else others == condition
            wrong = torch.where(same, logits["fake"], wrong)  # the neighbour asks for the same, which is no mismatch
            ctx.observe("D(mismatch)", self.objective.score(wrong.detach()))
            terms["adversarial"] = (terms["adversarial"] + self.objective.critic(logits["real"], wrong, mean)) / 2
        return terms

    def generator_loss(self, ctx: Context, given: Given) -> Terms:
        """The objective's generator loss under the conditions of the batch."""
        batch, critic = ctx.batch("real"), ctx.players["critic"]
        condition = given.read(batch)
        fake = self.generate(ctx, condition)
        mean = mean_over(ctx, self.objective)
        if self.how != "classifier":
            return {
                "adversarial": persuade(lambda samples: critic(samples, condition), self.objective, fake, batch.modelled, mean)
            }
        real = against(critic, self.objective, batch.modelled)
        logits, outputs = both(critic, fake)
        adversarial = self.objective.generator(wide(logits), real, mean)
        return {"adversarial": adversarial, "classifier(fake)": self._told(ctx, given, outputs, condition, "fake")}

    def _told(self, ctx: Context, given: Given, outputs: Tensor, condition: Tensor, side: str) -> Tensor:
        """The classifier's term, of what it says [N, K]."""
        assert given.loss is not None
        assert given.right is not None
        ctx.observe(f"classifier_accuracy({side})", given.right(outputs.detach(), condition))
        return self.weight * given.loss(outputs, condition).mean()
