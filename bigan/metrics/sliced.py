"""Sliced Wasserstein distance (Rabin et al., 2011; Bonneel et al., 2015): of clouds of points that have no features."""

import torch
from torch import Tensor

DIRECTIONS = 128


def sliced_wasserstein(one: Tensor, other: Tensor, directions: int = DIRECTIONS) -> float:
    """Mean over directions of the Wasserstein-1 distance between the points' shadows; in one dimension, W₁ itself.

    Args:
        one: [N, D] points.
        other: [N, D], as many.
        directions: how many, drawn evenly from the sphere under a fixed seed.

    Raises:
        ValueError: if the clouds differ in size or are empty.
    """
    if one.shape != other.shape or one.ndim != 2 or len(one) == 0:
        raise ValueError(f"both clouds must be [N, D], of one size; got {list(one.shape)} and {list(other.shape)}")
    dimensions = one.shape[1]
    if dimensions == 1:
        axes = torch.ones(1, 1, dtype=torch.float64)
    else:
        normal = torch.randn(dimensions, directions, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        axes = torch.nn.functional.normalize(normal, dim=0)
    shadows = [(points.double().cpu() @ axes).sort(0).values for points in (one, other)]
    return float((shadows[0] - shadows[1]).abs().mean())
