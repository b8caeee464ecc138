"""The exponential moving average of a player's weights (EMA), whose samples are better than the live weights'."""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bigan.clock import Clock
from bigan.settings import NonNegative, Positive, settings


@settings
class Average:
    """An average whose memory is counted in images, as progress is (Karras et al., StyleGAN2, 2020).

    Attributes:
        half_life_kimg: thousands of images after which a weight counts half; 0 keeps the live weights.
        ramp: the half-life is at most this share of the progress so far, so that the first weights are forgotten.
    """

    half_life_kimg: NonNegative = 10.0
    ramp: Positive = 0.05

    def decay(self, clock: Clock) -> float:
        """What the average keeps of itself at this step, in [0, 1)."""
        half_life = min(self.half_life_kimg * 1000, self.ramp * clock.images)
        return 0.5 ** (clock.batch / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def blend(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move an average towards a module: parameters and floating-point buffers by the decay, counters by copying.

    Batch norm's running moments are averaged with the weights that they belong to.
    """
    mine = [*average.parameters(), *average.buffers()]
    theirs = [*module.parameters(), *module.buffers()]
    pairs = list(zip(mine, theirs, strict=True))
    floating = [(a, b) for a, b in pairs if a.is_floating_point()]
    if floating:
        get_ema_multi_avg_fn(decay)([a for a, _ in floating], [b for _, b in floating], 0)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
