"""Rows 6, 8 and 25 on images: DCGAN on MNIST, other links and pairings there, and the thousand modes of stacked digits."""

import torch

from bigan.data.stacked import StackedDigits
from bigan.data.stream import Shards
from bigan.evaluate import evaluate
from bigan.measure import read_data
from bigan.metrics.stacked import USUAL, StackedCard
from bigan.report.grid import save_grid
from experiments.row import SHARED, WORK, Figure, Lab, Missing, Trained, row

SAMPLES = 5000
DCGAN = "configs/mnist_dcgan.yaml"
SMALL = ("length_kimg=120", "game.critic.norm=none", "game.penalties=[{kind: r1, weight: 0.5}]")


@row("8", "DCGAN on MNIST")
def dcgan(lab: Lab) -> list[Figure]:
    trained = _on_mnist(lab, 32, name="dcgan")
    save_grid(trained.samples(64), lab.picture("mnist_dcgan.png"), columns=16)
    return _beside_untrained(lab, 32, {"DCGAN": trained})


@row("25", "LSGAN, hinge and relativistic critics on MNIST")
def links_on_images(lab: Lab) -> list[Figure]:
    objectives = {
        "LSGAN": "{kind: least_squares}",
        "hinge": "{kind: hinge}",
        "relativistic": "{kind: non_saturating, pairing: relativistic}",
    }
    runs = {name: _on_mnist(lab, 16, f"game.objective={value}", *SMALL, name=name) for name, value in objectives.items()}
    return _beside_untrained(lab, 16, runs)


@row("6", "stacked MNIST: the modes of a DCGAN and of PacDCGAN")
def stacked(lab: Lab) -> list[Figure]:
    if not (SHARED / "mnist").is_dir():
        raise Missing("needs MNIST in ../shared/data/mnist")
    runs = {
        name: lab.run("configs/stacked_digits.yaml", f"data.real.path={SHARED / 'mnist'}", *changes, name=name)
        for name, changes in (("PacDCGAN", ()), ("DCGAN", ("game.pack=1",)))
    }
    save_grid(runs["PacDCGAN"].samples(64), lab.picture("stacked_mnist.png"), columns=16)
    return [figure for name, trained in runs.items() for figure in _modes(name, trained)]


def _modes(name: str, trained: Trained) -> list[Figure]:
    assert isinstance(trained.restored.run.data["real"], StackedDigits)
    card = evaluate(trained.home, count=USUAL, seed=0).card
    assert isinstance(card, StackedCard)
    return [Figure(f"modes of 1000, {name}", card.fake.modes), Figure(f"KL to uniform, {name}", card.fake.kl, unit="nats")]


def _on_mnist(lab: Lab, size: int, *changes: str, name: str) -> Trained:
    return lab.run(DCGAN, f"data.real.path={lab.mnist(size)}", *changes, name=name)


def _beside_untrained(lab: Lab, size: int, runs: dict[str, Trained]) -> list[Figure]:
    """The rarest class and the Fréchet distance of each run, in the features of a classifier of MNIST."""
    with Shards(path=str(lab.mnist(size))).open(seed=0) as stream:
        data = read_data(stream, WORK / "features", SAMPLES, torch.device("cpu"))
    untrained = data.figures(_on_mnist(lab, size, "length_kimg=0.032", name="untrained").samples(SAMPLES)).frechet
    figures = [Figure("Fréchet distance, untrained", untrained)]
    for name, trained in runs.items():
        found = data.figures(trained.samples(SAMPLES))
        assert found.coverage is not None
        figures += [
            Figure(f"share of the rarest class, {name}", found.coverage.smallest, "≥ 0.05"),
            Figure(f"Fréchet distance, {name}", found.frechet),
            Figure(f"the same by the untrained, {name}", found.frechet / untrained, "≤ 0.1"),
        ]
    return figures
