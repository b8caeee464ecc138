"""Translation between many classes of images by one translator, which is told where to (Choi et al., StarGAN, 2018)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bigan.batch import DataSpec, image_shape
from bigan.conditions import Attributes, Given, Label, swapped
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.games.bank import PICTURES, Bank
from bigan.games.contest import check_penalties, contest_headed, observe
from bigan.networks import Critic, Translator, group, sees_alone
from bigan.networks.joint import Conditioned, both, headed
from bigan.networks.patch import PatchCritic
from bigan.networks.resnet import ResNetTranslator
from bigan.objectives import Objective, Wasserstein
from bigan.penalties import GradientPenalty, Penalty, way
from bigan.precision import wide
from bigan.settings import BY_KIND, Count, NonNegative, settings
from bigan.uses import Chosen, Sample, Translation, Way


@settings
class StarGAN:
    """Settings of the game; reads the stream "real", images of classes or attributes.

    An image is asked to be what its neighbour in the batch is. The critic has a second head, which tells classes.

    Attributes:
        critic: a trunk for both heads. Of PatchCritic the mean patch is judged, so that a penalty is recorded; the authors'
            code judges each patch, and penalises the gradient of their sum.
        condition: what is told and asked for.
        features: of the critic's trunk.
        classify: weight of the classification, λ_cls.
        reconstruct: weight of |G(G(x, c'), c) - x|, λ_rec.
        critic_steps: how often the critic moves before the generator does.
    """

    kind: Literal["stargan"] = "stargan"
    generator: Translator = field(default_factory=lambda: ResNetTranslator(blocks=6))
    critic: Critic = field(default_factory=lambda: PatchCritic(norm="none"))
    condition: Annotated[Label | Attributes, BY_KIND] = field(default_factory=Label)
    features: Count = 128
    objective: Objective = field(default_factory=Wasserstein)
    penalties: tuple[Penalty, ...] = (GradientPenalty(),)
    classify: NonNegative = 1.0
    reconstruct: NonNegative = 10.0
    critic_steps: Count = 5

    def __post_init__(self) -> None:
        check_penalties(self.critic, self.penalties)
        if isinstance(self.condition, Attributes):
            sees_alone(self.critic, "critic", "it tells the attributes that a user does not name")
        if self.objective.pairs:
            raise ValueError(f"objective.pairing: {self.objective.pairing} is not for images of other classes; set independent")

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The players for this data."""
        shape, given = image_shape(data, "real"), self.condition.fit(data, "real")
        translator = self.generator.build((shape[0] + given.size, *shape[1:]), shape)
        critic = headed(self.critic, shape, self.features, given.size)
        bank = Bank({"source": torch.zeros(shape, dtype=torch.uint8), "condition": given.blank}, PICTURES)
        tied = math.lcm(2, group(self.critic))
        return Game(
            players={"generator": Conditioned(translator, given.encoder()), "critic": critic},
            averaged=frozenset({"generator"}),
            moves=(
                Move(
                    player="critic",
                    loss=lambda ctx: self.critic_loss(ctx, given, bank),
                    reads=("real",),
                    repeat=self.critic_steps,
                    group=tied,
                ),
                Move(player="generator", loss=lambda ctx: self.generator_loss(ctx, given), reads=("real",), group=tied),
            ),
            sample=lambda ctx: self.sample(ctx, given, bank),
            state=bank,
            after=lambda played: bank.put(played, "critic"),
            notes=(way(critic, shape),) if self.penalties else (),
            critique=None if self.critic.minibatch else lambda ctx, samples: wide(ctx.players["critic"](samples)),
            uses=(
                Translation(lambda text: Way(shape, self._to(text, given))),
                Chosen(lambda text: self._given(text, given, bank)),
            ),
            sources=("real",),
        )

    def critic_loss(self, ctx: Context, given: Given, bank: Bank) -> Terms:
        """Equations 1, 2 and 8: real against translated, and the classes of what is real."""
        critic, real = ctx.players["critic"], ctx.batch("real").images
        condition = given.read(ctx.batch("real"))
        other = swapped(condition)
        bank.offer(ctx, {"source": real, "condition": other})
        with torch.no_grad():
            fake = ctx.players["generator"](real, other)
        outcome, classes = contest_headed(
            critic, self.objective, self.penalties, ctx.draws, ctx.step, real, fake, asked=("real",)
        )
        observe(ctx, self.objective, outcome)
        return outcome.terms | {"classification": self._classification(ctx, given, classes["real"], condition)}

    def generator_loss(self, ctx: Context, given: Given) -> Terms:
        """Equations 1, 3 and 4: taken for real, and for the class that was asked for; and back to what it was."""
        generator, real = ctx.players["generator"], ctx.batch("real").images
        condition = given.read(ctx.batch("real"))
        other = swapped(condition)
        fake = generator(real, other)
        logits, classes = both(ctx.players["critic"], fake)
        return {
            "adversarial": self.objective.generator(wide(logits)),
            "classification": self._classification(ctx, given, classes, other),
            "reconstruction": self.reconstruct * F.l1_loss(wide(generator(fake, condition)), real),
        }

    def _classification(self, ctx: Context, given: Given, classes: Tensor, condition: Tensor) -> Tensor:
        assert given.loss is not None
        assert given.right is not None
        ctx.observe("classified", given.right(classes, condition))
        return self.classify * given.loss(classes, condition).mean()

    def sample(self, ctx: Context, given: Given, bank: Bank, chosen: Tensor | None = None) -> Samples:
        """Images, the run's first where the data are not at hand, each translated to what its neighbour was, or all to one."""
        drawn = bank.draw(ctx, "real", lambda batch: {"source": batch.images, "condition": swapped(given.read(batch))})
        source, condition = drawn["source"], drawn["condition"]
        if chosen is not None:
            condition = chosen.to(condition.device).expand_as(condition)
        return {"images": ctx.players["generator"](source, condition), "source": source, "condition": condition}

    def _given(self, text: str, given: Given, bank: Bank) -> Sample:
        chosen = given.parse(text)
        return lambda ctx: self.sample(ctx, given, bank, chosen)

    def _to(self, text: str, given: Given) -> Callable[[Context, Tensor], Tensor]:
        """What translates images as the user says; attributes that are not named stay what the critic reads off an image."""
        chosen = given.parse(text)
        named = torch.ones_like(chosen, dtype=torch.bool)
        if isinstance(self.condition, Attributes):
            alone = [given.parse(f"{part.partition('=')[0]}=1") for part in text.split(",")]
            named = torch.stack(alone).bool().any(0)

        def run(ctx: Context, images: Tensor) -> Tensor:
            condition = chosen.to(images.device).expand(len(images), *chosen.shape)
            if not named.all():
                _, classes = both(ctx.players["critic"], images)
                condition = torch.where(named.to(images.device), condition, (classes > 0).to(condition.dtype))
            return ctx.players["generator"](images, condition)

        return run
