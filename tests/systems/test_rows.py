"""Rows of the table of systems, those that take seconds, as `benchmarks/systems.py` measures them; the others shortened."""

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import systems  # noqa: E402
from bigan.divergences import Name  # noqa: E402
from bigan.objectives import Minimax, Wasserstein  # noqa: E402
from experiments import divergences, game, theory, wasserstein  # noqa: E402
from experiments.row import EXPERIMENTS, Figure, Lab  # noqa: E402
from experiments.table import PAGES, Kept, figures_of, fill, shown, slowest  # noqa: E402


@pytest.mark.parametrize("experiment", [game.minimax, theory.saturation, theory.dirac], ids=lambda value: value.__name__)
def test_a_row_holds(experiment: Callable[[Lab], list[Figure]], tmp_path: Path) -> None:
    figures = experiment(Lab(seed=1, folder=tmp_path))
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


def test_the_loss_of_wgan_gp_by_its_slope_is_the_distance(tmp_path: Path) -> None:
    """Row 23 at one shift, with a critic that is trained for less long."""
    figures = wasserstein.read_off(Lab(seed=1, folder=tmp_path), 2.0, rounds=150)
    print(*figures, sep="\n")
    assert all(figure.holds(figure.value) is not False for figure in figures)


def test_every_experiment_is_shown_on_a_page() -> None:
    systems.chosen([])
    assert shown() == set(EXPERIMENTS)


def test_the_pages_show_what_was_measured() -> None:
    """Each page's tables are those of results/systems.json, and each picture of a page is there."""
    systems.chosen([])
    for path in sorted(PAGES.glob("*.md")):
        page = path.read_text()
        assert fill(page, systems.read()) == page, f"{path.name}: python benchmarks/systems.py --save writes it anew"
        for picture in re.findall(r"!\[.*?\]\((.*?)\)", page):
            assert (PAGES / picture).is_file(), f"{path.name}: {picture}"


def kept_of(*seeds: float | None) -> Kept:
    """What is kept of an experiment that found these; None: that failed."""
    about = {"name": "error", "line": "≤ 0.1", "unit": ""}
    runs = [{"missing": "failed"} if value is None else {"figures": [{**about, "value": value}]} for value in seeds]
    return {"minimax": {str(seed): run for seed, run in enumerate(runs)}}


def test_a_table_is_written_between_its_marks() -> None:
    systems.chosen([])
    kept = kept_of(0.25, None)
    page = fill("before\n<!-- figures: minimax -->\nold words\n<!-- end -->\nafter\n", kept)
    assert "| error | 0.25 | 0.25 (of seed 0 alone) | ≤ 0.1 | **no** |" in page
    assert "seed 1: failed" in page
    assert "old words" not in page
    assert page.startswith("before\n")
    assert page.endswith("<!-- end -->\nafter\n")
    assert fill(page, kept) == page


@pytest.mark.parametrize(
    ("seeds", "holds"),
    [((0.0, 0.1, 9.0), True), ((0.0, 0.2, 0.2), False), ((0.0, 0.0, None), False), ((math.nan, 0.0, 0.0), False)],
)
def test_a_row_holds_by_its_median_if_every_seed_has_one(seeds: tuple[float | None, ...], holds: bool) -> None:
    systems.chosen([])
    (found,) = figures_of(EXPERIMENTS["minimax"], kept_of(*seeds))
    assert found.holds is holds


def test_the_longest_row_is_that_of_one_seed() -> None:
    """Experiments of a row add up, seed by seed; a row that was not measured takes no part."""
    systems.chosen([])
    which = [EXPERIMENTS[name] for name in ("colourised", "denoised", "minimax", "facades", "pose")]
    seconds = {"colourised": (50, 70, 60), "denoised": (50, 10, 130), "minimax": (1, 2, 3), "facades": (10, 189, 20)}
    kept: Kept = {name: {str(seed): {"seconds": each} for seed, each in enumerate(of)} for name, of in seconds.items()}
    kept["pose"] = {"0": {"missing": "failed"}}
    told = slowest(which, kept)
    assert told.startswith("One seed of a row takes 20 s of one core (the median of the rows), at most 190 s (row 41)")
    assert slowest(which, {}) == ""
