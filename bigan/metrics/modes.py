"""Which modes of a known mixture samples cover, and how near to a mode they lie."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bigan.data.toy import Modes
from bigan.metrics.coverage import ENOUGH

NEAR = 3.0  # standard deviations


@dataclass(frozen=True, kw_only=True)
class ModeCoverage:
    """What modes samples cover.

    Attributes:
        covered: how many modes have, within NEAR of their standard deviations, at least a quarter (ENOUGH) of their share.
        present: how many modes there are.
        high_quality: share of the samples within NEAR standard deviations of a mode; of the mixture's own it is .989 in two
            dimensions.
    """

    covered: int
    present: int
    high_quality: float


def mode_coverage(points: Tensor, modes: Modes) -> ModeCoverage:
    """Hold points [N, D] against the modes; each counts for the mode that is nearest by its own standard deviation.

    Raises:
        ValueError: for no points, or points of other dimensions.
    """
    if points.ndim != 2 or len(points) == 0 or points.shape[1] != modes.centres.shape[1]:
        raise ValueError(f"points must be [N, {modes.centres.shape[1]}], at least one; got {list(points.shape)}")
    distances = torch.cdist(points.double().cpu(), modes.centres, compute_mode="donot_use_mm_for_euclid_dist") / modes.stds
    nearest = distances.min(1)
    near = nearest.values <= NEAR  # which a NaN is not
    shares = torch.bincount(nearest.indices[near], minlength=len(modes.weights)).double() / len(points)
    return ModeCoverage(
        covered=int((shares >= ENOUGH * modes.weights).sum()),
        present=len(modes.weights),
        high_quality=float(near.double().mean()),
    )
