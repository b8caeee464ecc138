"""Row 22: WGAN, whose critic's loss tells the Wasserstein distance up to a factor."""

import numpy as np
from scipy.stats import wasserstein_distance

from experiments.match import match
from experiments.row import Figure, Lab, row

SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
CLIPPED = "benchmarks/experiments/games/clipped.yaml"


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
    real = trained.restored.run.data["real"].open(lab.seed).read(0, 20_000).modelled
    distance = wasserstein_distance(real[:, 0].numpy(), trained.samples(20_000)[:, 0].numpy())
    return [
        Figure("correlation of the critic's loss with W1, shifted Gaussians", correlation, "> 0.95"),
        Figure("W1 of data and generator after training", float(distance), "≤ 0.1"),
    ]
