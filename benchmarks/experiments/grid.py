"""Rows 23 to 25 on points: penalties, links and pairings on the grid of 25 Gaussians, and the Swiss roll."""

from bigan.evaluate import evaluate
from bigan.metrics.points import PointsCard
from experiments.points import SAMPLES, covered, last_picture
from experiments.row import Figure, Lab, row

HQ = 0.8
SHORTER = ("length_kimg=1200", "optimizer.schedule={decay: linear, from_kimg: 400, to_kimg: 1200, floor: 0.02}")
OBJECTIVES = {
    "LSGAN": "{kind: least_squares, real: 4.0, fake: -4.0, target: 4.0}",  # with 1 and 0 it keeps the 11 modes it finds first
    "hinge": "{kind: hinge}",
    "relativistic": "{kind: non_saturating, pairing: relativistic}",
    "relativistic average": "{kind: non_saturating, pairing: relativistic_average}",
}


@row("23", "WGAN-GP on the grid")
def wgan_gp(lab: Lab) -> list[Figure]:
    return _on_the_grid(lab, "grid_wgan_gp")


@row("23", "WGAN-GP on the Swiss roll")
def swiss_roll(lab: Lab) -> list[Figure]:
    trained = lab.run("configs/grid_wgan_gp.yaml", "data.real={kind: swiss_roll}", *SHORTER, name="roll")
    last_picture(lab, trained, "swiss_roll.png")
    card = evaluate(trained.home, count=SAMPLES, seed=0).card
    assert isinstance(card, PointsCard)
    return [
        Figure("sliced W1", card.fake_distance),
        Figure("sliced W1 between two sets of the data", card.real_distance),
    ]


@row("24", "WGAN-div on the grid")
def wgan_div(lab: Lab) -> list[Figure]:
    return _on_the_grid(lab, "grid_wgan_div")


@row("25", "LSGAN and hinge on the grid")
def links(lab: Lab) -> list[Figure]:
    return _each(lab, "LSGAN", "hinge")


@row("25", "relativistic critics on the grid")
def pairings(lab: Lab) -> list[Figure]:
    return _each(lab, "relativistic", "relativistic average")


def _each(lab: Lab, *names: str) -> list[Figure]:
    return [
        figure
        for name in names
        for figure in _on_the_grid(lab, "grid", f"game.objective={OBJECTIVES[name]}", named=f", {name}")
    ]


def _on_the_grid(lab: Lab, config: str, *changes: str, named: str = "") -> list[Figure]:
    about = f"{config}{named.replace(', ', '_').replace(' ', '_').lower()}"
    trained = lab.run(f"configs/{config}.yaml", *changes, name=about)
    last_picture(lab, trained, f"{about}.png")
    return covered(trained, named=named, modes=25, high_quality=HQ)
