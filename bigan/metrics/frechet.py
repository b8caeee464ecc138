"""The Fréchet distance between two sets of features, each taken for a Gaussian (Heusel et al., NeurIPS 2017)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean [D] and covariance [D, D] of features, float64."""

    mean: Tensor
    covariance: Tensor


def moments(features: Tensor) -> Moments:
    """Mean and unbiased covariance of features [N, D], in float64; ValueError where N < 2."""
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"a covariance needs at least two rows of features, got {list(features.shape)}")
    wide = features.double()
    mean = wide.mean(0)
    centred = wide - mean
    return Moments(mean, centred.T @ centred / (len(wide) - 1))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared distance |μa - μb|² + tr(Σa + Σb - 2 (Σa Σb)^½) of Dowson and Landau (1982); the "FID" of Heusel et al.

    tr (Σa Σb)^½ is the sum of the singular values of Σa^½ Σb^½. That takes the roots of symmetric matrices alone, so that
    covariances without full rank need neither an offset on the diagonal nor the real part of a complex root.

    The estimate from N samples is biased upwards, by about 1/N: compare only distances with equal N.
    """
    overlap = torch.linalg.svdvals(_root(a.covariance) @ _root(b.covariance)).sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2.0 * overlap
    return max(0.0, float((a.mean - b.mean).square().sum() + spread))


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root; eigenvalues that rounding made negative count as zero."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0.0).sqrt() @ vectors.T
