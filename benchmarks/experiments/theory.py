"""Rows 2, 5 and 7: what a critic that wins does to the generator's gradient, and what the equilibrium is."""

import math

import torch
from torch import Tensor

from bigan.objectives import Minimax, NonSaturating
from experiments.match import ALONE, match
from experiments.row import Figure, Lab, row

AFFINE, DIRAC = "benchmarks/experiments/games/affine.yaml", "benchmarks/experiments/games/dirac.yaml"
FROZEN = AFFINE.replace("affine", "frozen")


@row("2", "the non-saturating generator, against a critic that wins")
def saturation(lab: Lab) -> list[Figure]:
    """The generator is N(0, 1), the data are N(8, ½²), and the critic is trained alone."""
    ratios, accuracies = [], []
    with match(lab, FROZEN, "data.real.means=[8.0]", "data.real.stds=[0.5]", "data.real.weights=null") as it:
        for _ in range(20):
            it.play(20)
            latents = it.latents(4096, 1)
            saturated, alive = (it.slope(kind(), latents).norm().item() for kind in (Minimax, NonSaturating))
            ratios.append(alive / saturated)
            accuracies.append(it.accuracy(1))
    first = next(k for k, accuracy in enumerate(accuracies) if accuracy >= 0.99)
    return [
        Figure("accuracy of the critic", accuracies[-1], "≥ 0.99"),
        Figure("gradient of -log D over that of log(1 - D)", ratios[-1], "> 100"),
        Figure("the same when the accuracy came to 0.99", ratios[first]),
    ]


@row("5", "the equilibrium: D → ½")
def equilibrium(lab: Lab) -> list[Figure]:
    trained = lab.run("configs/gaussian.yaml")
    return [Figure("mean of |D - ½|", trained.last("critic/distance_from_half"), "< 0.05")]


@row("5", "the best critic: D = p/(p + q)")
def best_critic(lab: Lab) -> list[Figure]:
    """The generator stays N(0, 1), the data are the mixture."""
    x = torch.linspace(-6, 8, 1401)
    q = _normal(x, 0.0, 1.0)
    p = 0.33 * _normal(x, -1.0, 0.255) + 0.67 * _normal(x, 2.0, math.sqrt(2))
    with match(lab, FROZEN) as it:
        it.play(1000)
        with torch.no_grad():
            found = it["critic"](x[:, None]).sigmoid()
    error = torch.trapezoid((p + q) / 2 * (found - p / (p + q)).abs(), x).item()
    return [Figure("mean of |D - p/(p + q)|", error, "< 0.03")]


@row("5", "Dirac-GAN: simultaneous descent, with and without R1")
def dirac(lab: Lab) -> list[Figure]:
    plain, regularised = (_walk(lab, weight) for weight in (0.0, 1.0))
    radii = plain.norm(dim=1)
    _draw(lab, plain, regularised)
    return [
        Figure("radius after 500 steps over the first, without R1", (radii[-1] / radii[0]).item(), "> 1"),
        Figure("share of the turns that lead out, without R1", _outward(radii), "= 1"),
        Figure("radius after 500 steps, with R1", regularised[-1].norm().item(), "< 0.001"),
    ]


def _walk(lab: Lab, weight: float) -> Tensor:
    """(θ, ψ) after each step, [501, 2]."""
    with match(lab, DIRAC, f"game.r1={weight}") as it:
        places = [torch.cat([p.detach().clone() for p in it["both"].parameters()])]
        for _ in range(500):
            it.play(1)
            places.append(torch.cat([p.detach().clone() for p in it["both"].parameters()]))
    return torch.stack(places)


def _outward(radii: Tensor) -> float:
    """Of steps 25 apart, as the radius also swings within a turn."""
    return (radii[25::25] > radii[:-25:25]).float().mean().item()


def _draw(lab: Lab, plain: Tensor, regularised: Tensor) -> None:
    from matplotlib.figure import Figure as Canvas

    axes = (canvas := Canvas(figsize=(4, 4))).subplots()
    axes.plot(*plain.T.tolist(), linewidth=0.8, label="simultaneous descent")
    axes.plot(*regularised.T.tolist(), label="with R1")
    axes.set(xlabel="θ", ylabel="ψ", aspect="equal")
    axes.legend(loc="upper right", fontsize="small")
    canvas.savefig(lab.picture("dirac.png"), dpi=110, bbox_inches="tight")


@row("7", "the gradient of a generator under a perfect critic")
def vanishing(lab: Lab) -> list[Figure]:
    """A DCGAN is trained a little on the digits, then frozen, and a fresh critic is trained alone (Arjovsky & Bottou, 2017)."""
    small = ("game.generator.width=16", "game.critic.width=16", f"data.real.path={lab.digits(16)}")
    strong = ("game.critic.width=32", "game.critic.norm=batch", "optimizer.lr=1.0e-3")
    trained = lab.run("configs/digits.yaml", *small, "length_kimg=8")
    norms: dict[str, list[float]] = {"log(1 - D)": [], "-log D": []}
    variances: dict[str, list[float]] = {"log(1 - D)": [], "-log D": []}
    with match(lab, "configs/digits.yaml", *small, ALONE, "game.penalties=[]", "batch=32", *strong) as it:
        it["generator"].load_state_dict(trained.restored.players["generator"].state_dict())
        rounds = 1
        for _ in range(13):
            latents = [it.latents(32, 6) for _ in range(32)]
            for name, objective in (("log(1 - D)", Minimax()), ("-log D", NonSaturating())):
                slopes = torch.stack([it.slope(objective, z) for z in latents])
                norms[name].append(slopes.norm(dim=1).median().item())
                variances[name].append(slopes.var(dim=0).sum().item())
            it.play(rounds)
            rounds *= 2
    fallen = math.log10(norms["log(1 - D)"][0] / min(norms["log(1 - D)"]))
    return [
        Figure("orders of magnitude that the gradient of log(1 - D) falls", fallen, "≥ 3"),
        Figure("variance of the gradient of -log D over its first", variances["-log D"][-1] / variances["-log D"][0], "> 1"),
        Figure("norm of the gradient of -log D over its first", norms["-log D"][-1] / norms["-log D"][0]),
    ]


def _normal(x: Tensor, mean: float, std: float) -> Tensor:
    return torch.exp(-((x - mean) / std).square() / 2) / (std * math.sqrt(2 * math.pi))
