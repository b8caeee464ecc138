"""Where sums are taken in float32 although the layers run in bfloat16."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """The tensor in float32, or as it is where it is float64: norms, moments, penalties and losses are computed in it."""
    return x if x.dtype == torch.float64 else x.float()
