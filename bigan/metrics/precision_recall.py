"""Improved precision and recall (Kynkäänniemi et al., NeurIPS 2019), in bounded memory."""

from typing import NamedTuple

import torch
from torch import Tensor


class PrecisionRecall(NamedTuple):
    """Both in [0, 1]: the share of the fake within the real manifold, and the share of the real within the fake one."""

    precision: float
    recall: float


def precision_recall(real: Tensor, fake: Tensor, neighbours: int = 3, chunk: int = 2048) -> PrecisionRecall:
    """How much of the fake is like the real (precision), and how much of the real is covered (recall); equation 1 of the paper.

    A set's manifold is the union of the balls around its points, each as wide as the distance to its k-th nearest other point.
    Time grows with (N + M)²; memory is one chunk x chunk matrix of distances.

    Args:
        real: [N, D] features, N > neighbours.
        fake: [M, D] features, M > neighbours; both figures depend on N and M, so compare with equal ones alone.
        neighbours: k; 3 in the paper.
        chunk: rows compared at once; does not change the result.
    """
    if min(len(real), len(fake)) <= neighbours:
        raise ValueError(f"{len(real)} real and {len(fake)} fake images: at least {neighbours + 1} of each are needed")
    real_radii, fake_radii = _radii(real, neighbours, chunk), _radii(fake, neighbours, chunk)
    in_real = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    in_fake = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for i in range(0, len(fake), chunk):
        for j in range(0, len(real), chunk):
            distances = _distances(fake[i : i + chunk], real[j : j + chunk])
            in_real[i : i + chunk] |= (distances <= real_radii[j : j + chunk]).any(1)
            in_fake[j : j + chunk] |= (distances <= fake_radii[i : i + chunk, None]).any(0)
    return PrecisionRecall(float(in_real.double().mean()), float(in_fake.double().mean()))


def _radii(points: Tensor, neighbours: int, chunk: int) -> Tensor:
    """[N]: from each point to its k-th nearest other one; the nearest of all, at distance 0, is the point itself."""
    radii = []
    for rows in points.split(chunk):
        nearest = torch.empty(len(rows), 0, dtype=points.dtype, device=points.device)
        for others in points.split(chunk):
            candidates = torch.cat([nearest, _distances(rows, others)], 1)
            nearest = candidates.topk(min(neighbours + 1, candidates.shape[1]), 1, largest=False).values
        radii.append(nearest.amax(1))
    return torch.cat(radii)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # By differences, not by a matrix product: equal points have distance 0, and no figure depends on the chunks.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
