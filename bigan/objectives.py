"""Adversarial losses: a link, which says what each of a critic's outputs costs, times a pairing of real and generated samples.

`real` and `fake` are the critic's raw outputs [N], in float32 or wider; every loss is a mean over N. A critic's loss is
E first(·) + E second(·), and the pairing says of what (Jolicoeur-Martineau, "The relativistic discriminator", 2019, section 4).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bigan.divergences import DIVERGENCES, Name
from bigan.settings import BY_KIND, settings

Map = Callable[[Tensor], Tensor]
Pairing = Literal["independent", "relativistic", "relativistic_average"]
Unpaired = Literal["independent"]


def over_batch(values: Tensor) -> Tensor:
    """Mean of values [N, …] over the N samples at hand."""
    return values.mean(0)


@dataclass(frozen=True, kw_only=True)
class Link:
    """What an objective does with outputs; all maps are elementwise.

    Attributes:
        first: the critic's loss of an output that should be high.
        second: the critic's loss of an output that should be low.
        descended: the generator's loss of an output at a generated sample, where it is compared with none.
        score: D(x) as it is logged.
        probability: whether that is the probability that x is real.
        half: the best critic's output where real and generated samples are equally likely; None where it may be any.
        zero_sum: whether the generator descends what the critic ascends.
        divergence: what the critic's loss bounds by offset - scale · loss, "" for nothing.
    """

    first: Map
    second: Map
    descended: Map
    score: Map = lambda output: output
    probability: bool = False
    half: float | None = 0.0
    zero_sum: bool = False
    divergence: str = ""
    scale: float = 1.0
    offset: float = 0.0


@settings
class Adversarial(ABC):
    """What every objective has.

    Attributes:
        pairing: "independent" judges each sample alone; "relativistic" judges differences of real and generated samples as
            they lie in the batch; "relativistic_average" judges each sample against the mean output of the other side.
    """

    pairing: Pairing = "independent"

    @abstractmethod
    def link(self) -> Link:
        """The objective as functions."""

    @property
    def pairs(self) -> bool:
        """Whether the generator's loss compares with real samples, which its move has to read."""
        return self.pairing != "independent"

    @property
    def coupled(self) -> bool:
        """Whether a loss takes means over the global batch within it."""
        return self.pairing == "relativistic_average"

    @property
    def probability(self) -> bool:
        """Whether `score` is the probability, by the critic, that a sample is real."""
        return not self.pairs and self.link().probability

    @property
    def zero_sum(self) -> bool:
        """Whether both players are told one value, which the critic ascends and the generator descends."""
        return not self.pairs and self.link().zero_sum

    def score(self, logits: Tensor) -> Tensor:
        """D(x), [N] → [N]: the probability, the critic's value, or f-GAN's T; the raw output under relativistic pairings."""
        return logits if self.pairs else self.link().score(logits)

    def critic(self, real: Tensor, fake: Tensor, mean: Map = over_batch) -> Tensor:
        """The critic's loss, [].

        Args:
            real: [N], outputs at real samples.
            fake: [N], outputs at generated ones.
            mean: of [N] over the samples of the global batch; asked where `coupled`.
        """
        link = self.link()
        match self.pairing:
            case "independent":
                return link.first(real).mean() + link.second(fake).mean()
            case "relativistic":
                return link.first(real - fake).mean()
            case "relativistic_average":
                return link.first(real - mean(fake)).mean() + link.second(fake - mean(real)).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None, mean: Map = over_batch) -> Tensor:
        """The generator's loss, []; where `pairs`, the critic's with the roles swapped, which needs `real`."""
        if not self.pairs:
            return self.link().descended(fake).mean()
        assert real is not None, "a relativistic generator compares with real samples"
        return self.critic(fake, real, mean)

    def right(self, real: Tensor, fake: Tensor) -> Tensor:
        """The share of each pair that the critic judges rightly, [N] in {0, ½, 1}; its mean is the accuracy.

        Where outputs mean something only beside each other (relativistic pairings, Wasserstein), a pair is judged as one.
        """
        half = self.link().half
        if self.pairs or half is None:
            return (real > fake).to(real.dtype)
        return ((real > half).to(real.dtype) + (fake < half).to(real.dtype)) / 2

    def estimate(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The divergence of data and generator by name, as this critic bounds it from below, []; empty where none is known."""
        link = self.link()
        if self.pairs or not link.divergence:
            return {}
        return {link.divergence: link.offset - link.scale * self.critic(real, fake)}


_LOGISTIC = Link(
    first=lambda output: F.softplus(-output),
    second=F.softplus,
    descended=lambda output: F.softplus(-output),
    score=torch.sigmoid,
    probability=True,
    divergence="JSD",
    scale=0.5,
    offset=math.log(2),
)


@settings
class NonSaturating(Adversarial):
    """The game in which the generator maximises log D(G(z)) (Goodfellow et al., 2014, section 3); critic's loss as Minimax.

    Relativistic, it is RSGAN (Jolicoeur-Martineau, 2019) and the game of R3GAN (Huang et al., 2024).
    """

    kind: Literal["non_saturating"] = "non_saturating"

    def link(self) -> Link:
        """-log D, -log(1 - D) and -log D, D the logistic function of the output."""
        return _LOGISTIC


@settings
class Minimax(Adversarial):
    """The zero-sum game, whose generator loses its gradient to a critic that wins (Goodfellow et al., 2014, equation 1)."""

    kind: Literal["minimax"] = "minimax"
    pairing: Unpaired = "independent"

    def link(self) -> Link:
        """-log D, -log(1 - D) and log(1 - D), D the logistic function of the output."""
        return replace(_LOGISTIC, descended=lambda output: -F.softplus(output), zero_sum=True)


@settings
class LeastSquares(Adversarial):
    """Squared distance to labels (Mao et al., LSGAN, 2017, equation 2).

    Under relativistic pairings the labels are +1 and -1, of differences, and the factor ½ is left out, as in that paper.

    Attributes:
        real: b, the critic's label of real samples; above `fake`.
        fake: a, its label of generated ones.
        target: c, what the generator wants the critic to say.
    """

    kind: Literal["least_squares"] = "least_squares"
    real: float = 1.0
    fake: float = 0.0
    target: float = 1.0

    def __post_init__(self) -> None:
        if self.pairs and (self.real, self.fake, self.target) != (1.0, 0.0, 1.0):
            raise ValueError(
                f"pairing: {self.pairing} compares samples, with labels +1 and -1; leave out real, fake and target"
            )
        if self.real <= self.fake:
            raise ValueError(f"real: {self.real} must be above fake, {self.fake}: the critic's output rises towards the data")

    def link(self) -> Link:
        """½(D - b)², ½(D - a)² and ½(D - c)²; at the best critic it tells Σ = ∫ (p - q)²/(p + q)."""
        if self.pairs:
            return _to_labels(1.0, -1.0, 1.0, factor=1.0)
        link = _to_labels(self.real, self.fake, self.target, factor=0.5)
        scale = 8 / (self.real - self.fake) ** 2
        return replace(link, half=(self.real + self.fake) / 2, divergence="triangular", scale=scale, offset=2.0)


def _to_labels(high: float, low: float, wanted: float, factor: float) -> Link:
    return Link(
        first=lambda output: factor * (output - high).square(),
        second=lambda output: factor * (output - low).square(),
        descended=lambda output: factor * (output - wanted).square(),
    )


@settings
class Hinge(Adversarial):
    """Hinge loss (Lim & Ye, "Geometric GAN", 2017; Miyato et al., SNGAN, 2018, equations 16 and 17)."""

    kind: Literal["hinge"] = "hinge"

    def link(self) -> Link:
        """max(0, 1 - D), max(0, 1 + D) and -D; at the best critic it tells the total variation ½∫ |p - q|."""
        return Link(
            first=lambda output: F.relu(1 - output),
            second=lambda output: F.relu(1 + output),
            descended=lambda output: -output,
            divergence="TV",
            scale=0.5,
            offset=1.0,
        )


@settings
class Wasserstein(Adversarial):
    """The dual of the Wasserstein-1 distance; the critic must be held Lipschitz (Arjovsky et al., WGAN, 2017, equation 2).

    Its estimate is of K·W1, K the critic's Lipschitz constant: a gradient penalty aims at 1, under clipping it is unknown.
    """

    kind: Literal["wasserstein"] = "wasserstein"
    pairing: Unpaired = "independent"

    def link(self) -> Link:
        """-D, D and -D; a constant added to D changes nothing, so that no output of it is half-way."""
        return Link(
            first=lambda output: -output,
            second=lambda output: output,
            descended=lambda output: -output,
            zero_sum=True,
            half=None,
            divergence="K*W1",
        )


@settings
class FDivergence(Adversarial):
    """The variational bound of an f-divergence (Nowozin et al., f-GAN, 2016, equation 6).

    Attributes:
        divergence: a row of `bigan.divergences`.
        generator_loss: "minimax" descends the bound itself, -E f*(T); "non_saturating" descends -E T (section 3.2).
    """

    kind: Literal["f_divergence"] = "f_divergence"
    pairing: Unpaired = "independent"
    divergence: Name = "jensen_shannon"
    generator_loss: Literal["minimax", "non_saturating"] = "minimax"

    def link(self) -> Link:
        """-g(v), f*(g(v)) and the generator's, v the output; logged is T = g(v), or for "gan" D = e^T."""
        row = DIVERGENCES[self.divergence]
        logistic = self.divergence == "gan"
        return Link(
            first=lambda output: -row.activation(output),
            second=row.composite,
            descended=lambda output: -(row.composite if self.generator_loss == "minimax" else row.activation)(output),
            score=torch.sigmoid if logistic else row.activation,
            probability=logistic,
            half=row.half,
            zero_sum=self.generator_loss == "minimax",
            divergence=row.title,
            scale=row.scale,
            offset=row.offset,
        )


Objective = Annotated[Minimax | NonSaturating | LeastSquares | Hinge | Wasserstein | FDivergence, BY_KIND]
