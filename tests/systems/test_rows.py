"""Rows of the table of systems, those that take seconds, as `benchmarks/systems.py` measures them; the others shortened."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from bigan.divergences import Name  # noqa: E402
from bigan.objectives import Minimax, Wasserstein  # noqa: E402
from experiments import divergences, game, theory  # noqa: E402
from experiments.row import Figure, Lab  # noqa: E402


@pytest.mark.parametrize(
    ("experiment", "changes"),
    [
        (game.minimax, ()),
        (theory.saturation, ()),
        (theory.dirac, ()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_row_holds(experiment: Callable[[Lab], list[Figure]], changes: tuple[str, ...], tmp_path: Path) -> None:
    figures = experiment(Lab(seed=1, folder=tmp_path, changes=changes))
    print(*figures, sep="\n")
    assert any(figure.line for figure in figures)
    assert all(figure.holds(figure.value) is not False for figure in figures)


def test_an_f_gan_comes_to_its_optimum(tmp_path: Path) -> None:
    """Row 20 for one divergence, at a fifth of its length and twice its tolerance."""
    fall = "schedule={decay: linear, from_kimg: 100, to_kimg: 250, floor: 0.03}"
    short = ("length_kimg=250", "tick_kimg=250", "batch=512", f"optimizer.{fall}", f"optimizers.generator.{fall}")
    fit = divergences.fitted(Lab(seed=1, folder=tmp_path, changes=short), "reverse_kl")
    assert fit == pytest.approx(divergences.best("reverse_kl"), abs=0.2)


WANTED: dict[Name, tuple[float, float]] = {
    "kl": (1.01, 1.8308), "reverse_kl": (1.5782, 1.6319), "jensen_shannon": (1.307, 1.7542), "jeffrey": (1.3218, 1.7034),
    "pearson": (0.5737, 1.9274),
}  # fmt: skip


def test_the_optima_of_the_table() -> None:
    """Recomputed by quadrature, they are those that others quote."""
    for name, fit in WANTED.items():
        assert divergences.best(name) == pytest.approx(fit, abs=1e-3)


def test_on_parallel_lines_only_wasserstein_has_a_gradient(tmp_path: Path) -> None:
    """Row 21 at one offset, with a critic that is trained for less long."""
    lab = Lab(seed=1, folder=tmp_path)
    slope, statistics = divergences.apart(lab, Minimax(), 1.0, rounds=150)
    assert abs(slope) < 1e-3
    assert statistics["critic/estimate/JSD"] == pytest.approx(math.log(2), rel=0.01)
    slope, statistics = divergences.apart(lab, Wasserstein(), 1.0, rounds=150)
    assert slope == pytest.approx(1.0, abs=0.15)
    assert statistics["critic/estimate/K*W1"] / statistics["critic/input_gradient(mix)"] == pytest.approx(1.0, abs=0.1)
