"""Rows 1, 3 and 4: the game itself, on toy data."""

from experiments.points import covered
from experiments.row import Figure, Lab, row


@row("1", "the minimax game of 2014 learns N(3, 0.5²)")
def minimax(lab: Lab) -> list[Figure]:
    points = lab.run("configs/gaussian.yaml").samples(10_000)
    return [
        Figure("error of the mean", abs(points.mean().item() - 3.0), "≤ 0.1"),
        Figure("error of the standard deviation", abs(points.std().item() - 0.5), "≤ 0.1"),
    ]


@row("3", "k critic steps a round, 8-ring")
def critic_steps(lab: Lab) -> list[Figure]:
    return [
        figure
        for k in (1, 2, 5)
        for figure in covered(lab.run("configs/ring.yaml", f"game.critic_steps={k}", name=f"k{k}"), named=f", k = {k}")
    ]


@row("4", "a critic that is trained first, on an untrained generator")
def pretraining(lab: Lab) -> list[Figure]:
    trained = lab.run("configs/gaussian.yaml", "data.real.means=[[8.0]]", "game.pretrain_kimg=50", "tick_kimg=10")
    accuracies = [(event["kimg"], event["critic/accuracy"]) for event in trained.events if "critic/accuracy" in event]
    before = [accuracy for kimg, accuracy in accuracies if 40 < kimg <= 51]
    last = [accuracy for _, accuracy in accuracies[-10:]]
    return [
        Figure("accuracy before the generator moves", before[0], "> 0.95"),
        Figure("distance of the last accuracies from ½", abs(sum(last) / len(last) - 0.5), "≤ 0.05"),
    ]
