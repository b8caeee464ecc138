"""Semi-supervised learning by a GAN: a classifier of K classes and of what is generated (Salimans et al., 2016, section 5)."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigan.batch import DataSpec, modelled
from bigan.game import Context, Game, Move, Terms
from bigan.latents import Latent, Uniform
from bigan.networks import Critic, Generator, judges_alone
from bigan.networks.joint import trunk
from bigan.networks.layers import init_kaiming
from bigan.networks.mlp import MLPCritic, MLPGenerator
from bigan.precision import wide
from bigan.settings import Count, NonNegative, settings


@settings
class Semi:
    """Settings of the game; reads "real", whose labels are not looked at, and "labelled", images or points of the same shape.

    Attributes:
        critic: the classifier's network up to the features.
        latent: what z is drawn from.
        features: f, on which the classes stand, and whose mean the generator matches.
        noise: standard deviation of the normal noise on what the classifier is shown while it trains.
        unlabelled: weight of what is not labelled, beside the classes.
    """

    kind: Literal["semi"] = "semi"
    generator: Generator = field(default_factory=lambda: MLPGenerator(latent=100, width=500, depth=2, norm="batch"))
    critic: Critic = field(default_factory=lambda: MLPCritic(width=500, depth=3))
    latent: Latent = field(default_factory=Uniform)
    features: Count = 250
    noise: NonNegative = 0.3
    unlabelled: NonNegative = 1.0

    def __post_init__(self) -> None:
        judges_alone(self.critic, "a classifier")

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The players for this data; both are averaged, the classifier as well."""
        (name, shape), other = modelled(data, "real"), modelled(data, "labelled")
        if other != (name, shape):
            told = [f"{field} {list(sides)}" for field, sides in ((name, shape), other)]
            raise ValueError(f"data.labelled: has {told[1]}, and data.real has {told[0]}; they must be alike")
        classes = len(data["labelled"].classes)
        if classes < 2:
            raise ValueError("data.labelled: has no classes to be told apart; give data with two or more")
        head = nn.Linear(self.features, classes)
        init_kaiming(head)
        critic = nn.ModuleDict({"trunk": trunk(self.critic, shape, self.features), "classes": head})
        return Game(
            players={"generator": self.generator.build(shape), "critic": critic},
            averaged=frozenset({"generator", "critic"}),
            moves=(
                Move(player="critic", loss=self.critic_loss, reads=("real", "labelled")),
                Move(player="generator", loss=self.generator_loss, reads=("real",), coupled=True),
            ),
            sample=lambda ctx: {name: self.generate(ctx)},
            critique=lambda ctx, samples: self.classify(ctx, samples).logsumexp(1),
        )

    def critic_loss(self, ctx: Context) -> Terms:
        """Cross-entropy of the labelled; of the rest, that it is of any class, and of the generated, that they are of none.

        The class "generated" has the logit 0, so that D = Z / (Z + 1), Z the sum of the exponents of K logits (section 5).
        """
        labelled = ctx.batch("labelled")
        with torch.no_grad():
            fake = self.generate(ctx)
        shown = {"labelled": labelled.modelled, "real": ctx.batch("real").modelled, "fake": fake}
        logits = {name: self.classify(ctx, self._noisy(ctx, name, x)) for name, x in shown.items()}
        real, generated = (logits[name].logsumexp(1) for name in ("real", "fake"))
        ctx.observe("D(real)", real.sigmoid())
        ctx.observe("D(fake)", generated.sigmoid())
        ctx.observe("labelled_accuracy", (logits["labelled"].argmax(1) == labelled.labels).float())
        return {
            "classes": F.cross_entropy(logits["labelled"], labelled.labels),
            "adversarial": self.unlabelled * (F.softplus(-real).mean() + F.softplus(generated).mean()) / 2,
        }

    def generator_loss(self, ctx: Context) -> Terms:
        """‖E f(x) - E f(G(z))‖², over the global batch: feature matching (section 3.1)."""
        real, fake = ctx.batch("real").modelled, self.generate(ctx)
        features = ctx.players["critic"].get_submodule("trunk")
        wanted, found = (wide(features(self._noisy(ctx, name, x))) for name, x in (("real", real), ("fake", fake)))
        return {"features": (ctx.global_mean(wanted) - ctx.global_mean(found)).square().mean()}

    def _noisy(self, ctx: Context, name: str, x: Tensor) -> Tensor:
        return x + self.noise * ctx.normal(name, *x.shape[1:]) if self.noise else x

    def classify(self, ctx: Context, x: Tensor) -> Tensor:
        """Logits of the classes, [N, K]."""
        critic = ctx.players["critic"]
        return wide(critic.get_submodule("classes")(critic.get_submodule("trunk")(x)))

    def generate(self, ctx: Context) -> Tensor:
        """Fresh samples [N, …]."""
        return ctx.players["generator"](self.latent.draw(ctx, self.generator.latent))
