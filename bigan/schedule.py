"""How a learning rate moves with a run's progress, counted in images, so that neither batch nor ranks bend the curve."""

import math
from typing import Literal

from bigan.clock import Clock
from bigan.settings import NonNegative, Positive, Share, settings


@settings
class Schedule:
    """A factor of the learning rate: it warms up linearly and, between two points, falls to a floor.

    CycleGAN (Zhu et al., 2017) is constant, then `linear` to 0; R3GAN (Huang et al., 2024) is `cosine`.

    Attributes:
        warmup_kimg: after which the factor is no longer held down.
        decay: its shape between `from_kimg` and `to_kimg`; 1 before, `floor` after.
        floor: where it ends, a share of the whole rate.
    """

    warmup_kimg: NonNegative = 0.0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    from_kimg: NonNegative = 0.0
    to_kimg: Positive | None = None
    floor: Share = 0.0

    def __post_init__(self) -> None:
        if self.decay == "constant":
            if (self.from_kimg, self.to_kimg, self.floor) != (0.0, None, 0.0):
                raise ValueError(
                    "decay: constant takes no from_kimg, to_kimg or floor; set linear or cosine, or leave them out"
                )
        elif self.to_kimg is None:
            raise ValueError(f"to_kimg: is missing; say where the {self.decay} decay ends")
        elif self.to_kimg <= self.from_kimg:
            raise ValueError(f"to_kimg: {self.to_kimg:g} must lie behind from_kimg, {self.from_kimg:g}")

    def factor(self, clock: Clock) -> float:
        """The factor in the round that begins at the clock, in [0, 1]; never 0 while it warms up."""
        warmup = self.warmup_kimg * 1000
        warm = min(1.0, (clock.images + clock.batch) / warmup) if warmup else 1.0
        return warm * (self.floor + (1 - self.floor) * self._left(clock.images / 1000))

    def _left(self, kimg: float) -> float:
        """What is left of the way from 1 to the floor."""
        if self.to_kimg is None:
            return 1.0
        done = min(1.0, max(0.0, (kimg - self.from_kimg) / (self.to_kimg - self.from_kimg)))
        return 1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
