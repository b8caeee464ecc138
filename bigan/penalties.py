"""Gradient penalties: plain functions of the critic's gradient with respect to its input.

Where a penalty is lazy (`every` > 1) it is taken at every k-th step of the critic and weighs k times as much (Karras et al.,
StyleGAN2, 2020, appendix B).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from bigan.precision import wide
from bigan.settings import BY_KIND, Count, NonNegative, settings


@settings
class R1:
    """weight/2 · E‖∇D(x)‖² at real images (Mescheder et al., 2018, equation 9)."""

    kind: Literal["r1"] = "r1"
    weight: NonNegative = 1.0
    every: Count = 1
    at: Literal["real"] = "real"

    def __call__(self, gradient: Tensor) -> Tensor:
        """The penalty of a gradient [N, …]: a scalar."""
        return self.weight / 2 * squared_norm(gradient).mean()


@settings
class R2:
    """weight/2 · E‖∇D(G(z))‖² at generated images (Mescheder et al., 2018, equation 10)."""

    kind: Literal["r2"] = "r2"
    weight: NonNegative = 1.0
    every: Count = 1
    at: Literal["fake"] = "fake"

    def __call__(self, gradient: Tensor) -> Tensor:
        """The penalty of a gradient [N, …]: a scalar."""
        return self.weight / 2 * squared_norm(gradient).mean()


@settings
class GradientPenalty:
    """weight · E(‖∇D(x̂)‖ - 1)² on lines between real and generated images (Gulrajani et al., WGAN-GP, 2017, equation 3)."""

    kind: Literal["gradient_penalty"] = "gradient_penalty"
    weight: NonNegative = 10.0
    every: Count = 1
    at: Literal["mix"] = "mix"

    def __call__(self, gradient: Tensor) -> Tensor:
        """The penalty of a gradient [N, …]: a scalar."""
        return self.weight * (norm(gradient) - 1).square().mean()


Penalty = Annotated[R1 | R2 | GradientPenalty, BY_KIND]


def squared_norm(gradient: Tensor) -> Tensor:
    """Each sample's squared Euclidean norm, [N, …] → [N], in float32 or wider."""
    return wide(gradient).flatten(1).square().sum(1)


def norm(gradient: Tensor) -> Tensor:
    """Each sample's Euclidean norm, [N, …] → [N]; where it is 0 its derivative is taken to be 0."""
    squared = squared_norm(gradient)
    zero = squared == 0
    return torch.where(zero, squared, torch.where(zero, 1.0, squared).sqrt())


def mix(real: Tensor, fake: Tensor, at: Tensor) -> Tensor:
    """Points x̂ = εx + (1 - ε)G(z); `at` is ε, [N] in [0, 1]."""
    return torch.lerp(fake, real, at.to(real.dtype).view(-1, *[1] * (real.ndim - 1)))


def with_gradient(critic: nn.Module, images: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A critic's logits [N], in float32 or wider, and the gradient of each with respect to its own image; both differentiable.

    A function and not a method, so that any module is a critic, averaged, unrolled or a user's own.

    Args:
        critic: from images [N, …] (and a condition) to logits [N]; it must not couple samples of the batch.
        images: [N, …].
    """
    images = images.detach().requires_grad_()
    logits = wide(critic(images) if condition is None else critic(images, condition))
    with torch.autocast(images.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return logits, gradient


def judge(
    critic: nn.Module, penalties: Sequence[Penalty], step: int, points: Mapping[str, Callable[[], Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logits at the points and the penalties that are due at this step, with one forward a point.

    Args:
        points: name → images; "real" and "fake" are always judged, others where a penalty asks for them.

    Returns:
        logits by point, and penalty terms by the penalty's kind.
    """
    due = [penalty for penalty in penalties if step % penalty.every == 0]
    logits: dict[str, Tensor] = {}
    terms: dict[str, Tensor] = {}
    for name in dict.fromkeys(("real", "fake", *(penalty.at for penalty in due))):
        wanted = [penalty for penalty in due if penalty.at == name]
        if not wanted:
            logits[name] = wide(critic(points[name]()))
            continue
        logits[name], gradient = with_gradient(critic, points[name]())
        for penalty in wanted:
            terms[penalty.kind] = penalty.every * penalty(gradient)
    return logits, terms
