"""Rows 23 to 25: penalties and objectives on the grid of 25 Gaussians, the Swiss roll and images."""

from experiments.points import covered
from experiments.row import Figure, Lab, row


@row("23", "WGAN-GP")
def wgan_gp(lab: Lab) -> list[Figure]:
    trained = lab.run("configs/grid_wgan_gp.yaml")
    slopes = [event["critic/input_gradient(mix)"] for event in trained.events[-10:] if "critic/input_gradient(mix)" in event]
    return [
        *covered(trained, modes=25),
        Figure("distance of the slope from 1", abs(sum(slopes) / len(slopes) - 1), "≤ 0.1"),
    ]


@row("24", "WGAN-div")
def wgan_div(lab: Lab) -> list[Figure]:
    return covered(lab.run("configs/grid_wgan_div.yaml"), modes=25)


@row("25", "LSGAN, hinge and relativistic critics on the grid")
def links_and_pairings(lab: Lab) -> list[Figure]:
    games = {
        "LSGAN": ("kind: least_squares",),
        "hinge": ("kind: hinge",),
        "relativistic": ("kind: non_saturating", "pairing: relativistic"),
        "relativistic average": ("kind: non_saturating", "pairing: relativistic_average"),
        "relativistic average LSGAN": ("kind: least_squares", "pairing: relativistic_average"),
    }
    return [
        figure
        for name, objective in games.items()
        for figure in covered(
            lab.run("configs/grid.yaml", f"game.objective={{{', '.join(objective)}}}", name=name.replace(" ", "_")),
            named=f", {name}",
            modes=25,
        )
    ]
