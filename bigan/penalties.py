"""Gradient penalties: plain functions of the critic's gradient with respect to its input.

Where a penalty is lazy (`every` > 1) it is taken at every k-th step of the critic and weighs k times as much (Karras et al.,
StyleGAN2, 2020, appendix B).
"""

import copy
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal
from weakref import WeakKeyDictionary

import torch
from annotated_types import Gt
from torch import Tensor, nn

from bigan.ops import row_combine, row_combine_, squared_norm
from bigan.ops.reference import accumulation_dtype
from bigan.precision import wide
from bigan.pullback import NoPullbackError, obstacle, record
from bigan.pullback.maps import dense_format
from bigan.settings import BY_KIND, Count, NonNegative, settings

_LOG = logging.getLogger("bigan.penalties")
# What `obstacle` could not see, and need not be tried again.
_REFUSED: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


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
    """weight · E(‖∇D(x̂)‖ - 1)² on lines between real and generated images (Gulrajani et al., WGAN-GP, 2017, equation 3).

    Attributes:
        one_sided: only norms above 1 are penalised (the same, section 4; Petzka et al., WGAN-LP, 2018).
    """

    kind: Literal["gradient_penalty"] = "gradient_penalty"
    weight: NonNegative = 10.0
    every: Count = 1
    one_sided: bool = False
    at: Literal["mix"] = "mix"

    def __call__(self, gradient: Tensor) -> Tensor:
        """The penalty of a gradient [N, …]: a scalar."""
        excess = norm(gradient) - 1
        return self.weight * (excess.clamp_min(0) if self.one_sided else excess).square().mean()


@settings
class WGANDiv:
    """weight · E‖∇D(x̂)‖^power on lines between real and generated images (Wu et al., WGAN-div, 2018, equation 6).

    Attributes:
        weight: k.
        power: p.
    """

    kind: Literal["wgan_div"] = "wgan_div"
    weight: NonNegative = 2.0
    every: Count = 1
    power: Annotated[float, Gt(1)] = 6.0
    at: Literal["mix"] = "mix"

    def __call__(self, gradient: Tensor) -> Tensor:
        """The penalty of a gradient [N, …]: a scalar."""
        return self.weight * norm(gradient).pow(self.power).mean()


@settings
class DRAGAN:
    """weight · E(‖∇D(x + δ)‖ - 1)², x real and δ normal noise (Kodali et al., DRAGAN, 2017, section 2.3).

    Attributes:
        spread: standard deviation of δ, where images lie in [-1, 1].
    """

    kind: Literal["dragan"] = "dragan"
    weight: NonNegative = 10.0
    every: Count = 1
    spread: NonNegative = 0.25
    at: Literal["near"] = "near"

    def __call__(self, gradient: Tensor) -> Tensor:
        """The penalty of a gradient [N, …]: a scalar."""
        return self.weight * (norm(gradient) - 1).square().mean()


Penalty = Annotated[R1 | R2 | GradientPenalty | WGANDiv | DRAGAN, BY_KIND]


def norm(gradient: Tensor) -> Tensor:
    """Each sample's Euclidean norm, [N, …] → [N]; where it is 0 its derivative is taken to be 0."""
    squared = squared_norm(gradient)
    zero = squared == 0
    return torch.where(zero, squared, torch.where(zero, 1.0, squared).sqrt())


def mix(real: Tensor, fake: Tensor, at: Tensor, out: Tensor | None = None) -> Tensor:
    """Points x̂ = εx + (1 - ε)G(z); `at` is ε, [N] in [0, 1]; written into `out` where it is given."""
    at = at.to(accumulation_dtype(real.dtype))
    if out is None:
        return row_combine(real, at, fake, 1 - at)
    row_combine_(out, real, at, fake, 1 - at)
    return out


def with_gradient(critic: nn.Module, images: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A critic's logits [N], in float32 or wider, and the gradient of each with respect to its own image; both differentiable.

    A function and not a method, so that any module is a critic, averaged, unrolled or a user's own. Where the critic is made of
    layers that `bigan.pullback` knows, this costs little more than the logits; otherwise it is autograd's double backward.

    Args:
        critic: from images [N, …] (and a condition) to logits [N]; it must not couple samples of the batch.
        images: [N, …]; no gradient flows to them.
    """
    recorded = _recorded(critic, images, condition, len(images))
    return by_autograd(critic, images, condition) if recorded is None else recorded


def by_autograd(critic: nn.Module, images: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`with_gradient` by a recorded backward, for any critic; differentiable to any order."""
    images = images.detach().requires_grad_()
    with torch.compiler.set_stance("force_eager"):  # torch.compile's functions can be differentiated only once
        logits = wide(_call(critic, images, condition))
    with torch.autocast(images.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return logits, gradient


def way(critic: nn.Module, shape: Sequence[int] | None = None) -> str:
    """One line for a run's start: how the critic's gradient penalties are computed, and which layer is why.

    Args:
        critic: as of `with_gradient`.
        shape: of an image; a critic of images alone is then tried at one, as some layers tell only with an input.
    """
    reason = obstacle(critic)
    if reason is None and shape is not None:
        try:
            record(copy.deepcopy(critic), torch.zeros(1, *shape))
        except NoPullbackError as error:
            reason = str(error)
    return f"gradient penalties: {'recorded pullback' if reason is None else f'double backward, because {reason}'}"


def due_at(step: int, penalties: Sequence[Penalty]) -> list[Penalty]:
    """Those that the critic pays at this one of its steps."""
    return [penalty for penalty in penalties if step % penalty.every == 0]


def judge(
    critic: nn.Module,
    penalties: Sequence[Penalty],
    step: int,
    points: Mapping[str, Callable[[Tensor], object]],
    like: Tensor,
    condition: Tensor | Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Logits at the points, and the penalties that are due at this step.

    A critic of layers that `bigan.pullback` knows, which cannot couple samples, judges all points as one batch. Any other
    judges point after point, so that batch norm sees them apart.

    Args:
        points: name → what writes its images into a given tensor; "real" and "fake" are always judged, others where a penalty
            asks for them.
        like: [N, …], of the shape, type and memory format of each point's images.
        condition: [N, …], of the images of every point alike, or point → its own.

    Returns:
        logits by point; penalty terms by the penalty's kind; gradients [N, …] by point where a penalty is due.

    Raises:
        ValueError: for no images, or a point that has no condition where others do.
    """
    if not len(like):
        raise ValueError("a critic's step needs at least one image a point")
    due = due_at(step, penalties)
    held = list(dict.fromkeys(penalty.at for penalty in due))
    names = list(dict.fromkeys((*held, "real", "fake")))
    shape = (len(names) * len(like), *like.shape[1:])
    batch = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=dense_format(like))
    images = dict(zip(names, batch.split(len(like)), strict=True))
    for name, point in images.items():
        points[name](point)
    conditions = condition if isinstance(condition, Mapping) else dict.fromkeys(names, condition)
    if lacking := [name for name in names if name not in conditions]:
        raise ValueError(f"penalties: there is no condition at {lacking[0]!r} points, only at {', '.join(conditions)}")
    given = [conditions[name] for name in names]
    together = _recorded(critic, batch, _joined(given), len(held) * len(like))
    if together is not None:
        logits = dict(zip(names, together[0].split(len(like)), strict=True))
        gradients = dict(zip(held, together[1].split(len(like)), strict=False))
    else:
        pairs = {name: by_autograd(critic, images[name], conditions[name]) for name in held}
        logits = {name: pair[0] for name, pair in pairs.items()}
        logits |= {name: wide(_call(critic, images[name], conditions[name])) for name in names if name not in held}
        gradients = {name: pair[1] for name, pair in pairs.items()}
    terms = {penalty.kind: penalty.every * penalty(gradients[penalty.at]) for penalty in due}
    return logits, terms, gradients


def _joined(conditions: Sequence[Tensor | None]) -> Tensor | None:
    given = [condition for condition in conditions if condition is not None]
    return torch.cat(given) if given else None


def _recorded(critic: nn.Module, images: Tensor, condition: Tensor | None, held: int) -> tuple[Tensor, Tensor] | None:
    """Logits and the first `held` gradients, or None where the critic has to take the autograd way."""
    reason = _REFUSED.get(critic) or obstacle(critic)
    if held == 0:
        return (wide(_call(critic, images, condition)), images[:0]) if reason is None else None
    if reason is None:
        try:
            return record(critic, images, condition, held)
        except NoPullbackError as error:
            reason = _REFUSED[critic] = str(error)
    _say_once(reason)
    return None


@functools.cache
def _say_once(reason: str) -> None:
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        _LOG.warning("gradient penalties take autograd's double backward: %s", reason)


def _call(critic: nn.Module, images: Tensor, condition: Tensor | None) -> Tensor:
    return critic(images) if condition is None else critic(images, condition)
