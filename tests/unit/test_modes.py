"""Figures of points: modes covered, sliced distances, nearest neighbours; each against cases known by hand or by SciPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from bigan.data.toy import Mixture, Ring
from bigan.metrics.modes import mode_coverage
from bigan.metrics.neighbours import neighbours
from bigan.metrics.points import judge_points
from bigan.metrics.sliced import sliced_wasserstein

PAIR = Mixture(means=((0, 0), (10, 0)), stds=(1, 2), weights=(3, 1)).modes()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_high_quality_is_within_three_standard_deviations_of_a_mode() -> None:
    points = torch.tensor([[0, 2.9], [0, 3.1], [10, 5.9], [10, 6.1], [4.9, 0], [float("nan"), 0]])
    found = mode_coverage(points, PAIR)
    assert found.high_quality == pytest.approx(3 / 6)  # (4.9, 0) is nearer to 0, yet within 3 of the wide mode's deviations


@pytest.mark.parametrize(("of_small", "covered"), [(62, 1), (63, 2)])
def test_a_mode_is_covered_from_a_quarter_of_its_share_on(of_small: int, covered: int) -> None:
    points = torch.zeros(1000, 2)
    points[:of_small, 0] = 10.0  # a fair share is 250
    assert mode_coverage(points, PAIR).covered == covered


def test_far_points_cover_nothing() -> None:
    points = torch.full((100, 2), 50.0)
    found = mode_coverage(points, PAIR)
    assert (found.covered, found.high_quality) == (0, 0.0)


@pytest.mark.parametrize("shape", [(0, 2), (5, 3), (5,), (5, 1, 2)])
def test_other_points_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"points must be \[N, 2\]"):
        mode_coverage(torch.zeros(shape), PAIR)


@given(st.integers(0, 2**32), st.floats(-5, 5), st.floats(0.1, 3))
def test_on_a_line_the_sliced_distance_is_wassersteins(seed: int, shift: float, scale: float) -> None:
    one, other = normal(200, 1, seed=seed), normal(200, 1, seed=seed + 1) * scale + shift
    expected = wasserstein_distance(one[:, 0].numpy(), other[:, 0].numpy())
    assert sliced_wasserstein(one, other) == pytest.approx(expected, rel=1e-5)


def test_a_shifted_cloud_is_as_far_as_its_shadows() -> None:
    """The mean of |cos| over directions in the plane is 2/π."""
    cloud = normal(500, 2)
    assert sliced_wasserstein(cloud, cloud + torch.tensor([3.0, 4.0]), 2000) == pytest.approx(5 * 2 / np.pi, rel=0.03)
    assert sliced_wasserstein(cloud, cloud.flip(0)) == 0
    with pytest.raises(ValueError, match="of one size"):
        sliced_wasserstein(cloud, cloud[:-1])


def test_points_are_judged_beside_real_ones() -> None:
    ring = Ring()
    real, good = ring.open(0).read(0, 4000).modelled, ring.open(1).read(0, 1000).modelled
    card = judge_points(real, good, ring.modes())
    assert card.fake_distance < 0.2
    assert card.real_distance < 0.2
    assert card.fake_modes is not None
    assert (card.fake_modes.covered, card.fake_modes.present) == (8, 8)
    bad = judge_points(real, good + 1, ring.modes())
    assert bad.fake_distance > 0.5
    assert bad.real_distance == card.real_distance
    assert any("modes covered" in line and "0/8" in line and "8/8" in line for line in bad.lines())
    assert not any("modes" in line for line in judge_points(real, good, None).lines())
    with pytest.raises(ValueError, match="draw fewer"):
        judge_points(real, real, None)
    with pytest.raises(ValueError, match="twice as many"):
        judge_points(real, torch.zeros(5, 3), None)


def test_fresh_samples_are_as_near_to_either_half() -> None:
    train, held_out, fresh = normal(1000, 1, 4, 4), normal(1000, 1, 4, 4, seed=1), normal(1000, 1, 4, 4, seed=2)
    found = neighbours(fresh, train, held_out)
    assert 0.97 < found.ratio < 1.03
    assert 0.45 < found.closer < 0.55
    assert not found.memorises


def test_copies_are_known_for_what_they_are() -> None:
    train, held_out = normal(1000, 16), normal(1000, 16, seed=1)
    copies = train[:300] + 0.1 * normal(300, 16, seed=2)
    found = neighbours(copies, train, held_out)
    assert found.train == pytest.approx(0.4, rel=0.05)  # .1 times the root of 16
    assert found.ratio < 0.3
    assert found.closer > 0.99
    assert found.memorises
    assert not neighbours(copies, held_out, train).memorises


def test_halves_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="of one size"):
        neighbours(normal(10, 4), normal(20, 4), normal(21, 4))
