import math

import pytest
import torch
from torch import Tensor

from bigan.metrics.coverage import class_coverage
from bigan.metrics.frechet import Moments, frechet_distance, moments
from bigan.metrics.precision_recall import precision_recall


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def covariance(rank: int, size: int, seed: int) -> Tensor:
    factor = normal(size, rank, seed=seed).double()
    return factor @ factor.T


# Fréchet distance


def test_frechet_of_commuting_gaussians_is_the_closed_form() -> None:
    a, b = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([4.0, 4.0, 0.25]).double()
    turn = torch.linalg.qr(normal(3, 3).double()).Q
    mean = torch.tensor([1.0, -2.0, 0.5]).double()
    first = Moments(mean, turn @ a.diag() @ turn.T)
    second = Moments(torch.zeros(3).double(), turn @ b.diag() @ turn.T)
    expected = mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet_distance(first, second) == pytest.approx(float(expected), rel=1e-12)


def test_frechet_of_any_two_by_two_gaussians_is_the_closed_form() -> None:
    a, b = covariance(2, 2, 1), covariance(2, 2, 2)
    product = a @ b  # tr of the root of a 2x2 matrix M with positive eigenvalues: (tr M + 2 det(M)^½)^½
    root = math.sqrt(product.trace() + 2 * math.sqrt(torch.linalg.det(product)))
    zero = torch.zeros(2).double()
    expected = float(a.trace() + b.trace()) - 2 * root
    assert frechet_distance(Moments(zero, a), Moments(zero, b)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("rank", [0, 1, 5, 24])
def test_frechet_of_a_set_with_itself_is_zero_and_swapping_changes_nothing(rank: int) -> None:
    first = Moments(normal(24).double(), covariance(rank, 24, 3))
    second = Moments(normal(24, seed=1).double(), covariance(24, 24, 4))
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)
    forth, back = frechet_distance(first, second), frechet_distance(second, first)
    assert forth == pytest.approx(back, rel=1e-12)
    assert forth > 1


def test_frechet_of_rank_deficient_gaussians_in_orthogonal_planes() -> None:
    a, b = torch.zeros(6).double(), torch.zeros(6).double()
    a[:2], b[2:4] = 3.0, 5.0
    zero = torch.zeros(6).double()
    assert frechet_distance(Moments(zero, a.diag()), Moments(zero, b.diag())) == pytest.approx(16.0, abs=1e-6)


def test_moments_are_float64_and_unbiased() -> None:
    features = normal(50, 4) + 1000
    found = moments(features)
    assert found.covariance.dtype == torch.float64
    torch.testing.assert_close(found.covariance, torch.cov(features.double().T))
    with pytest.raises(ValueError, match="two rows"):
        moments(features[:1])


# precision and recall


def modes(rows: int, centres: list[float], seed: int) -> Tensor:
    points = normal(rows, 8, seed=seed)
    points[:, 0] += torch.tensor(centres).repeat_interleave(rows // len(centres))
    return points


def test_a_dropped_mode_costs_recall_and_not_precision() -> None:
    real = modes(800, [0.0, 100.0], seed=0)
    found = precision_recall(real, modes(400, [0.0], seed=1))
    assert found.precision > 0.85
    assert 0.35 < found.recall < 0.5
    exact = precision_recall(real, real[:400])
    assert exact.precision == 1.0
    assert exact.recall == pytest.approx(0.5, abs=0.03)


def test_outliers_cost_precision_and_not_recall() -> None:
    real = modes(400, [0.0], seed=0)
    fake = torch.cat([real[:300], normal(100, 8, seed=5) * 0.1 + 1e4])
    found = precision_recall(real, fake)
    assert found.precision == 0.75
    assert found.recall > 0.95


def test_radii_are_those_of_the_third_other_neighbour() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]])  # radii 3, 2, 2, 3, 99
    fake = torch.tensor([[-3.0], [-3.1], [5.9], [6.1]])  # radii 9.1, 9.2, 9, 9.2
    assert precision_recall(real, fake) == (0.75, 0.8)  # 6.1 lies within 99 of 100, -3.1 in none; 100 lies in none


def test_chunks_change_nothing_and_copies_count_as_neighbours() -> None:
    real, fake = normal(101, 16), normal(87, 16, seed=1) * 1.1
    whole = precision_recall(real, fake)
    assert all(precision_recall(real, fake, chunk=chunk) == whole for chunk in (1, 7, 64))
    collapsed = normal(1, 16, seed=2).repeat(87, 1) * 0.01
    assert precision_recall(real, collapsed, chunk=50).recall == 0.0
    far = torch.cat([collapsed[:20] + 50, collapsed[:20] + 70])  # where a matrix product would have lost the digits
    assert precision_recall(far, far[torch.arange(40).roll(7)], chunk=9) == (1.0, 1.0)
    assert precision_recall(far, far + 1e-4, chunk=9) == (0.0, 0.0)
    with pytest.raises(ValueError, match="at least 4"):
        precision_recall(real[:3], fake)


# coverage


def test_coverage_counts_the_classes_with_a_quarter_of_their_share() -> None:
    real = torch.tensor([0] * 40 + [1] * 40 + [2] * 20)
    fake = torch.tensor([0] * 88 + [1] * 9 + [2] * 3)
    found = class_coverage(real, fake, ("a", "b", "c", "absent"))
    assert found.shares == {"a": 0.88, "b": 0.09, "c": 0.03, "absent": 0.0}
    assert (found.smallest, found.covered, found.present) == (0.03, 1, 3)
    assert class_coverage(real, torch.tensor([0] * 85 + [1] * 10 + [2] * 5), tuple("abcd")).covered == 3
    with pytest.raises(ValueError, match="names of their own"):
        class_coverage(real, fake, ("a", "b", "a", "c"))
