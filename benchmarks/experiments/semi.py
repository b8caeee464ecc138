"""Row 35: a classifier of MNIST that is told 100 labels, by a game and without it."""

from dataclasses import replace
from pathlib import Path

import torch

from bigan.data.pack import pack
from bigan.data.sources import open_source
from bigan.data.sources.base import fingerprint
from bigan.data.stream import Shards
from bigan.games.semi import Semi
from bigan.report.grid import save_grid
from experiments.row import SHARED, Figure, Lab, Trained, row

LABELS = 100
SIZE = 28
ALONE_KIMG = 100


@row("35", "K+1 classes and feature matching: MNIST with 100 labels")
def semi_supervised(lab: Lab) -> list[Figure]:
    data = (f"data.real.path={lab.mnist(SIZE)}", f"data.labelled.path={few_labelled(lab)}")
    alone = lab.run("configs/mnist_semi.yaml", *data, f"length_kimg={ALONE_KIMG}", "game.unlabelled=0", name="alone")
    trained = lab.run("configs/mnist_semi.yaml", *data)
    save_grid(trained.samples(64), lab.picture("mnist_semi.png"), columns=16)
    errors = {name: error_of(lab, run) for name, run in (("in the game", trained), ("by the labels alone", alone))}
    return [
        Figure("error in the game", errors["in the game"], "< 0.03"),
        Figure("error by the labels alone", errors["by the labels alone"]),
        Figure("the first over the second", errors["in the game"] / errors["by the labels alone"], "< 0.5"),
    ]


def few_labelled(lab: Lab) -> Path:
    """As many training images of each digit, by the seed, packed."""
    lab.mnist(SIZE)  # or it is said that there is none
    source, folder = open_source(str(SHARED / "mnist"), split="train"), lab.folder / "labelled"
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(lab.seed)).tolist()
    chosen = []
    for digit in range(10):
        chosen += [number for number in order if source.items[number].label == digit][: LABELS // 10]
    items = [source.items[number] for number in chosen]
    few = replace(source, items=items, fingerprint=fingerprint([source.fingerprint, *map(str, chosen)]))
    pack(few, folder, size=(SIZE, SIZE), workers=1)
    return folder


def error_of(lab: Lab, trained: Trained) -> float:
    """The share of the test images that the averaged classifier takes for another digit."""
    game, look = trained.restored.run.game, trained.restored.look
    assert isinstance(game, Semi)
    with Shards(path=str(lab.mnist(SIZE, "t10k"))).open(seed=0) as stream:
        test = stream.read(0, stream.spec.samples).to(torch.device("cpu"))
    logits = look.used(lambda ctx: game.classify(ctx, test.images), len(test), "test")
    return float((logits.argmax(1) != test.labels).float().mean())
