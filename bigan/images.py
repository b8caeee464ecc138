"""Images as files hold them."""

import torch
from torch import Tensor


def rounded(images: Tensor) -> Tensor:
    """Images in [-1, 1] rounded to 0 … 255, uint8, where they lie."""
    return images.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """uint8 0 … 255 → float32 in [-1, 1], where and as they lie."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] rounded to 0 … 255, on the CPU; uint8 ones as they are; [N, …].

    Raises:
        ValueError: if a value is infinite or NaN, which a diverged generator makes.
    """
    if images.dtype == torch.uint8:
        return images
    if broken := int((~images.isfinite()).flatten(1).any(1).sum()):
        raise ValueError(f"{broken} of {len(images)} images hold NaN or infinity: the generator has diverged")
    return rounded(images).cpu()
