"""What every batch norm of ours does with its moments, and what one offers that can be folded into the layer after it."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Foldable(Protocol):
    """A norm that is a scale and a shift a channel."""

    def fold(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift [C], so that the norm of x: [N, C, *] is x · scale + shift; running moments move once."""
        ...


class Tracking(Protocol):
    """What `track` updates: the buffers of `nn.BatchNorm2d`."""

    training: bool
    momentum: float | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None


@torch.no_grad()
def track(norm: Tracking, mean: Tensor, var: Tensor, count: int) -> None:
    """Move the running moments of a norm in training towards a batch's, as `nn.BatchNorm2d` does.

    Args:
        norm: the layer.
        mean: [C], of the batch.
        var: [C], biased; the running one is unbiased.
        count: values of a channel that the moments are of.
    """
    if not norm.training or norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    rate = 1.0 / norm.num_batches_tracked.item() if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
    norm.running_var.lerp_((var * (count / max(count - 1, 1))).to(norm.running_var.dtype), rate)
