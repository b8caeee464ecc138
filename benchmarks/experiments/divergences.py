"""Rows 20 and 21: f-GAN's divergences fit a mixture; divergences of distributions that do not meet."""

import math
from collections.abc import Mapping

import torch
from scipy.optimize import minimize
from torch import Tensor

from bigan.divergences import DIVERGENCES, Name
from bigan.objectives import Minimax, Wasserstein
from experiments.match import match
from experiments.row import Figure, Lab, row

AFFINE, LINE = "benchmarks/experiments/games/affine.yaml", "benchmarks/experiments/games/line.yaml"
X = torch.linspace(-14, 16, 6001, dtype=torch.float64)
Fit = tuple[float, float]
"""Mean and standard deviation of the generator."""


def normal(mean: float, std: float) -> Tensor:
    """The density at X."""
    return torch.exp(-((X - mean) / std).square() / 2) / (std * math.sqrt(2 * math.pi))


MIXTURE = 0.33 * normal(-1.0, 0.255) + 0.67 * normal(2.0, math.sqrt(2))


def measured(name: Name, fit: Fit) -> float:
    """The divergence of the mixture from a Gaussian, by quadrature."""
    row, density = DIVERGENCES[name], normal(*fit)
    return row.scale * torch.trapezoid(density * row.f(MIXTURE / density), X).item() + row.offset


def best(name: Name) -> Fit:
    """The Gaussian at the least divergence."""
    found = minimize(
        lambda at: measured(name, (at[0], math.exp(at[1]))), [1.0, 0.5], method="Nelder-Mead", options={"xatol": 1e-6}
    )
    return float(found.x[0]), math.exp(float(found.x[1]))


def fitted(lab: Lab, name: Name, *assignments: str) -> Fit:
    """What f-GAN comes to."""
    run = lab.run(AFFINE, f"game.rules.objective.divergence={name}", *assignments, name=name)
    mean, std = run.restored.players["generator"].parameters()
    return mean.item(), std.abs().item()


@row("20", "f-GAN: seven divergences fit a Gaussian to a mixture")
def f_gan(lab: Lab) -> list[Figure]:
    fits: dict[Name, Fit] = {name: fitted(lab, name) for name in DIVERGENCES}
    optima = {name: best(name) for name in DIVERGENCES}
    figures = [
        figure
        for name in DIVERGENCES
        for figure in (
            Figure(f"{name}: mean (best {optima[name][0]:.4f})", fits[name][0]),
            Figure(f"{name}: standard deviation (best {optima[name][1]:.4f})", fits[name][1]),
            Figure(
                f"{name}: the larger error", max(abs(a - b) for a, b in zip(fits[name], optima[name], strict=True)), "≤ 0.1"
            ),
        )
    ]
    _draw(lab, fits)
    # "gan" is Jensen-Shannon's divergence by another bound, and has no column of its own.
    names: list[Name] = [name for name in DIVERGENCES if name != "gan"]
    return [
        *figures,
        Figure(
            f"columns of the cross table, of {len(names)}, that are smallest on the diagonal",
            _diagonal(fits, names),
            f"= {len(names)}",
        ),
    ]


def _diagonal(fits: Mapping[Name, Fit], names: list[Name]) -> int:
    """Rows are what was trained for, columns what is measured."""
    table = {trained: [measured(name, fits[trained]) for name in names] for trained in names}
    for trained, values in table.items():
        print(f"{trained:18}" + "".join(f"{value:10.5f}" for value in values))
    return sum(min(names, key=lambda trained: table[trained][column]) == name for column, name in enumerate(names))


def _draw(lab: Lab, fits: Mapping[Name, Fit]) -> None:
    from matplotlib.figure import Figure as Canvas

    axes = (canvas := Canvas(figsize=(6, 3.5))).subplots()
    axes.fill_between(X.tolist(), MIXTURE.tolist(), color="0.85", label="data")
    for name, fit in fits.items():
        axes.plot(X.tolist(), normal(*fit).tolist(), linewidth=1, label=name)
    axes.set(xlim=(-5, 8), ylim=(0, None))
    axes.legend(fontsize="small")
    canvas.savefig(lab.picture("f_gan.png"), dpi=110, bbox_inches="tight")


@row("21", "two parallel lines: Jensen and Shannon see no distance, Wasserstein does")
def parallel_lines(lab: Lab) -> list[Figure]:
    """The critic is trained alone against a line at a distance, and then plays against it."""
    figures = []
    for offset in (0.5, 1.0, 2.0):
        slope, statistics = apart(lab, Minimax(), offset)
        figures += [
            Figure(f"JSD / log 2 at {offset}", statistics["critic/estimate/JSD"] / math.log(2), "> 0.99"),
            Figure(f"gradient of JSD at {offset}", abs(slope), "< 0.001"),
        ]
        slope, statistics = apart(lab, Wasserstein(), offset)
        distance = statistics["critic/estimate/K*W1"] / statistics["critic/input_gradient(mix)"]
        figures += [
            Figure(f"error of W1 / {offset}", abs(distance / offset - 1), "≤ 0.1"),
            Figure(f"gradient of W1 at {offset}", slope, "> 0.9"),
        ]
    return [
        *figures,
        Figure("where Jensen and Shannon leave the line that began at 1", _moved(lab, Minimax()), "> 0.9"),
        Figure("where Wasserstein leaves it", _moved(lab, Wasserstein()), "< 0.05"),
    ]


def _game(objective: Minimax | Wasserstein, offset: float) -> list[str]:
    penalties = "[{kind: gradient_penalty}]" if isinstance(objective, Wasserstein) else "[]"
    return [f"game.rules.objective.kind={objective.kind}", f"game.rules.penalties={penalties}", f"game.offset={offset}"]


def apart(lab: Lab, objective: Minimax | Wasserstein, offset: float, rounds: int = 450) -> tuple[float, dict[str, float]]:
    """The gradient of the generator's loss by the offset, and the statistics, once the critic is trained."""
    with match(lab, LINE, *_game(objective, offset)) as it:
        it.play(rounds)
        statistics = it.play(50)
        return it.slope(objective, 2 * torch.rand(4096, 1) - 1).item(), statistics


def _moved(lab: Lab, objective: Minimax | Wasserstein) -> float:
    """Where the generator is in the end, if both play once the critic is trained."""
    with match(lab, LINE, *_game(objective, 1.0), "game.rules.pretrain_kimg=100") as it:
        it.play(700)
        (offset,) = it["generator"].parameters()
        return abs(offset.item())
