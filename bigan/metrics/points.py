"""Judge generated points against real ones: what there is to say without features."""

from dataclasses import dataclass

from torch import Tensor

from bigan.data.toy import Modes
from bigan.metrics.modes import ModeCoverage, mode_coverage
from bigan.metrics.sliced import sliced_wasserstein


@dataclass(frozen=True, kw_only=True)
class PointsCard:
    """Points beside as many real ones, and real ones beside real ones: what a perfect generator gets.

    Attributes:
        points: N of each set.
        fake_distance: sliced Wasserstein-1 distance of the generated points to the real ones.
        real_distance: of other real points to the same.
        fake_modes: of the generated points, None where the data's modes are not known.
        real_modes: of the real ones.
    """

    points: int
    fake_distance: float
    real_distance: float
    fake_modes: ModeCoverage | None
    real_modes: ModeCoverage | None

    def lines(self) -> list[str]:
        """As a person reads it."""
        rows = [
            f"{self.points} points a set",
            f"{'':22s}{'generated':>10s}{'real':>10s}",
            f"{'sliced Wasserstein':22s}{self.fake_distance:10.4f}{self.real_distance:10.4f}",
        ]
        fake, real = self.fake_modes, self.real_modes
        if fake is not None and real is not None:
            rows.append(f"{'modes covered':22s}{fake.covered:7d}/{fake.present:<2d}{real.covered:7d}/{real.present:<2d}")
            rows.append(f"{'high quality':22s}{fake.high_quality:10.1%}{real.high_quality:10.1%}")
        return rows


def judge_points(real: Tensor, fake: Tensor, modes: Modes | None) -> PointsCard:
    """Judge fake [N, D] against the first N of real [at least 2 N, D], and those against the next N.

    Raises:
        ValueError: if there are too few real points, or points of another number of dimensions.
    """
    if len(real) < 2 * len(fake) or real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            f"{len(fake)} generated points {list(fake.shape[1:])} need twice as many real ones; got {len(real)} "
            f"{list(real.shape[1:])}; draw fewer"
        )
    reference, others = real[: len(fake)], real[len(fake) : 2 * len(fake)]
    return PointsCard(
        points=len(fake),
        fake_distance=sliced_wasserstein(fake, reference),
        real_distance=sliced_wasserstein(others, reference),
        fake_modes=mode_coverage(fake, modes) if modes else None,
        real_modes=mode_coverage(others, modes) if modes else None,
    )
