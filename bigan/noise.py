"""Instance noise: normal noise on all that a critic sees, which fades as the game goes on."""

from torch import Tensor

from bigan.clock import Clock, Numbers
from bigan.settings import Positive, settings


@settings
class InstanceNoise:
    """Settings of noise on real and generated samples alike (Sønderby et al., 2017; Arjovsky & Bottou, 2017, section 4).

    What is smaller than the noise cannot be told apart: a game settles what is coarse first, and details as it fades, by
    std · (1 - t / kimg)².

    Attributes:
        kimg: when it has gone.
        std: at the start; the data's along their first principal component or more, or that is settled by chance.
    """

    kimg: Positive
    std: Positive = 1.0

    def left(self, clock: Clock) -> float:
        """Its standard deviation in the round that begins at the clock."""
        return self.std * max(0.0, 1 - clock.images / 1000 / self.kimg) ** 2

    def on(self, samples: Tensor, clock: Clock, draws: Numbers, name: str) -> Tensor:
        """Samples [N, …] under noise of their own, drawn under that name."""
        std = self.left(clock)
        return samples + std * draws.normal(name, *samples.shape[1:]).to(samples.dtype) if std else samples
