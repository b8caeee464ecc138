"""Which of the thousand modes of stacked digits a generator makes, as Metz et al. (2017) and Lin et al. (2018) count them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bigan.metrics.features import Classifier

MODES = 1000
USUAL = 26_000
"""Samples of PacGAN's tables; with fewer, chance alone leaves modes out."""


@dataclass(frozen=True, kw_only=True)
class Modes:
    """Of one set of images.

    Attributes:
        modes: how many of the thousand have at least one image.
        kl: KL(images ‖ uniform) over the thousand, in nats; a single mode has log 1000 = 6.91.
    """

    modes: int
    kl: float


@dataclass(frozen=True, kw_only=True)
class StackedCard:
    """Generated images beside as many real ones, each channel read by the same classifier of digits.

    Attributes:
        images: of each set.
        fake: of the generated ones.
        real: of the data: what a perfect generator gets from so many images.
        features: digest of the classifier's weights.
        accuracy: the classifier's on digits held out of its training.
    """

    images: int
    fake: Modes
    real: Modes
    features: str
    accuracy: float

    def lines(self) -> list[str]:
        """As a person reads it."""
        rows = [
            f"{self.images} images a set; each channel read by a classifier ({self.accuracy:.1%} right)",
            f"{'':18s}{'generated':>10s}{'real':>10s}",
            f"{'modes of 1000':18s}{self.fake.modes:10d}{self.real.modes:10d}",
            f"{'KL to uniform':18s}{self.fake.kl:10.3f}{self.real.kl:10.3f}",
        ]
        if self.images < USUAL:
            rows.append(f"tables are usually of {USUAL} images (--count {USUAL}); fewer leave modes out by chance")
        return rows


def judge_stacked(classifier: Classifier, real: Tensor, fake: Tensor) -> StackedCard:
    """Judge fake [N, 3, H, W] beside real [N, 3, H, W], both uint8.

    Args:
        classifier: of single digits [1, H, W], in ten classes.
    """
    return StackedCard(
        images=len(fake), fake=_modes(classifier, fake), real=_modes(classifier, real),
        features=classifier.digest, accuracy=classifier.training.accuracy,
    )  # fmt: skip


def _modes(classifier: Classifier, images: Tensor) -> Modes:
    digits = classifier.read(images.flatten(0, 1).unsqueeze(1)).predictions.unflatten(0, (-1, 3))
    counts = torch.bincount(digits @ torch.tensor([100, 10, 1]), minlength=MODES)
    shares = counts[counts > 0].double() / len(images)
    return Modes(modes=int((counts > 0).sum()), kl=float((shares * (shares * MODES).log()).sum()))
