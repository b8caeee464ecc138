"""What a generator's z is drawn from. Each sample's is a function of its row of the global batch, as every draw is."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from bigan.game import Context
from bigan.settings import BY_KIND, Positive, settings


@settings
class Normal:
    """z ~ N(0, 1)."""

    kind: Literal["normal"] = "normal"

    def draw(self, ctx: Context, size: int) -> Tensor:
        """Latents [count, size]."""
        return ctx.normal("latent", size)


@settings
class Uniform:
    """z ~ U(-1, 1), as in DCGAN (Radford et al., 2016) and the first GANs; its standard deviation is 3^-½."""

    kind: Literal["uniform"] = "uniform"

    def draw(self, ctx: Context, size: int) -> Tensor:
        """Latents [count, size] in [-1, 1]."""
        return 2 * ctx.uniform("latent", size) - 1


@settings
class Truncated:
    """z ~ N(0, 1) under the condition |z| ≤ bound (Marchesi, 2017; Brock et al., BigGAN, 2019, section 3.1).

    Drawn by the inverse distribution function and not by trying again, so that a row takes one number whatever it is.

    Attributes:
        bound: less of it is less variety, and samples nearer to the typical.
    """

    kind: Literal["truncated"] = "truncated"
    bound: Positive = 2.0

    def draw(self, ctx: Context, size: int) -> Tensor:
        """Latents [count, size] in [-bound, bound]."""
        uniform = ctx.uniform("latent", size)
        below = torch.special.ndtr(uniform.new_tensor(-self.bound, dtype=torch.float64))
        normal = torch.special.ndtri(below + uniform.double() * (1 - 2 * below))
        return normal.clamp(-self.bound, self.bound).to(uniform.dtype)  # where the bound's tail is lost to rounding


Latent = Annotated[Normal | Uniform | Truncated, BY_KIND]
