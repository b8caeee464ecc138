"""Rows 22 and 23 on shifted Gaussians: what a critic's loss tells of the Wasserstein distance."""

import numpy as np
from scipy.stats import wasserstein_distance

from experiments.match import match
from experiments.points import last_picture
from experiments.row import Figure, Lab, row

SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
CLIPPED = "benchmarks/experiments/games/clipped.yaml"
PENALISED = "benchmarks/experiments/games/penalised.yaml"
LAMBDA = 10.0  # there


@row("22", "WGAN: the critic's loss and the true distance")
def wgan(lab: Lab) -> list[Figure]:
    """Two Gaussians, one shifted, a fresh critic each; then a generator that learns."""
    estimates, distances = [], []
    for shift in SHIFTS:
        with match(lab, CLIPPED, f"data.real.means=[{shift}]") as it:
            it.play(300)
            estimates.append(it.play(20)["critic/estimate/K*W1"])
            fake = it["generator"](it.latents(4096, 1)).detach()
            distances.append(wasserstein_distance(it.real(4096)[:, 0].numpy(), fake[:, 0].numpy()))
    correlation = float(np.corrcoef(distances, estimates)[0, 1])
    trained = lab.run("configs/wgan.yaml")
    last_picture(lab, trained, "wgan.png")
    real = trained.restored.run.data["real"].open(lab.seed).read(0, 20_000).modelled
    distance = wasserstein_distance(real[:, 0].numpy(), trained.samples(20_000)[:, 0].numpy())
    return [
        Figure("correlation of the critic's loss with W1, shifted Gaussians", correlation, "> 0.95"),
        Figure("W1 of data and generator after training", float(distance), "≤ 0.1"),
    ]


@row("23", "WGAN-GP: the slope, and the distance")
def distance(lab: Lab) -> list[Figure]:
    """A critic of WGAN-GP alone, against a generator that stays N(0, 1): its loss by its slope is the distance.

    A linear critic gains W1 · s by its slope s and pays λ(s - 1)², so that it is best at 1 + W1/2λ and not at 1.
    """
    return [figure for shift in (0.5, 1.0, 2.0, 4.0) for figure in read_off(lab, shift)]


def read_off(lab: Lab, shift: float, rounds: int = 400) -> list[Figure]:
    """What a critic that is trained for so many rounds says of N(shift, 1)."""
    with match(lab, PENALISED, f"data.real.means=[{shift}]") as it:
        it.play(rounds)
        told = it.play(100)
        fake = it["generator"](it.latents(2**16, 1)).detach()
        true = float(wasserstein_distance(it.real(2**16)[:, 0].numpy(), fake[:, 0].numpy()))
    slope = told["critic/input_gradient(mix)"]
    told_distance = told["critic/estimate/K*W1"] / slope
    return [
        Figure(f"slope, W1 = {shift}", slope),
        Figure(f"distance of the slope from 1 + W1/2λ, W1 = {shift}", abs(slope - 1 - true / (2 * LAMBDA)), "≤ 0.1"),
        Figure(
            f"relative error of the loss by the slope, W1 = {shift}",
            abs(told_distance / true - 1),
            "≤ 0.1",
        ),
    ]
