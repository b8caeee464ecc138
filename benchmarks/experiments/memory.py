"""Row 10: do samples between latents look like samples, and are they of the data or copies of it?"""

from pathlib import Path

import torch
from torch import Tensor

from bigan.data.pack import pack
from bigan.data.sources import open_source
from bigan.data.stream import Shards
from bigan.images import to_uint8
from bigan.interpolate import STEPS, WAYS, ways
from bigan.metrics.features import Classifier
from bigan.metrics.fit import train_classifier
from bigan.metrics.neighbours import Neighbours, neighbours
from bigan.report.grid import save_grid
from experiments.row import SHARED, Figure, Lab, Missing, Trained, row

SIZE = 16
MANY, FEW = 5000, 50  # training images; the test set gives as many that are held out
SAMPLES = 2000
NAMES = tuple("0123456789")
NETWORKS = ("game.generator={kind: dcgan, latent: 16, width: 32}", "game.critic={kind: dcgan, width: 32}", "batch=32")


@row("10", "interpolation, and whether a generator memorises")
def memory(lab: Lab) -> list[Figure]:
    train, held_out = (_images(lab, split, MANY) for split in ("train", "t10k"))
    usual = _trained(lab, "usual", MANY, 80)
    classifier = train_classifier(*train, NAMES, seed=lab.seed)
    along = torch.cat([ways(usual.restored.look, STEPS, seed=seed)["images"] for seed in range(16)])
    confidence = _confidence(classifier, along).unflatten(0, (-1, STEPS)).mean(0)
    save_grid(along[: WAYS * STEPS], lab.picture("interpolation.png"), columns=STEPS)
    found = _neighbours(lab, usual, train[0], held_out[0], "neighbours.png")
    few, others = (_images(lab, split, FEW)[0] for split in ("train", "t10k"))
    copied = _neighbours(lab, _trained(lab, "overfitted", FEW, 48), few, others, "memorised.png")
    return [
        Figure("confidence on the way / at its ends", float(confidence[1:-1].mean() / confidence[[0, -1]].mean()), "≥ 0.9"),
        Figure("confidence half-way / at the ends", float(confidence[STEPS // 2] / confidence[[0, -1]].mean())),
        Figure("confidence at the ends", float(confidence[[0, -1]].mean())),
        Figure("confidence, held-out images", float(_confidence(classifier, held_out[0].float() / 127.5 - 1).mean())),
        Figure("nearest neighbours, training / held-out", found.ratio, "≥ 0.9"),
        Figure("the same", found.ratio, "≤ 1.1"),
        Figure(f"the same, trained on {FEW} images", copied.ratio, "< 0.9"),
        Figure("flagged as overfitted, of the two", float(found.memorises) + float(copied.memorises), "= 1"),
    ]


def _packed(lab: Lab, split: str, count: int) -> Path:
    if not (SHARED / "mnist").is_dir():
        raise Missing("needs MNIST in ../shared/data/mnist")
    folder = lab.folder / f"{split}-{count}"
    pack(open_source(str(SHARED / "mnist"), split=split, limit=count), folder, size=SIZE)
    return folder


def _images(lab: Lab, split: str, count: int) -> tuple[Tensor, Tensor]:
    """Images [count, 1, SIZE, SIZE] uint8 and labels, spread over a split of MNIST."""
    with Shards(path=str(_packed(lab, split, count))).open(seed=0) as stream:
        batch = stream.read(0, count)
    return batch.images, batch.labels


def _trained(lab: Lab, name: str, count: int, kimg: float) -> Trained:
    data = f"data.real.path={_packed(lab, 'train', count)}"
    return lab.run("configs/digits.yaml", *NETWORKS, data, f"length_kimg={kimg}", "tick_kimg=16", name=name)


def _confidence(classifier: Classifier, images: Tensor) -> Tensor:
    """[N]: the probability that the classifier gives to what it takes each image for."""
    with torch.no_grad():
        return classifier.network(images).softmax(1).amax(1)


def _neighbours(lab: Lab, trained: Trained, train: Tensor, held_out: Tensor, picture: str) -> Neighbours:
    """Distances in pixels; the picture shows samples, and below each its nearest training and held-out image."""
    made = to_uint8(trained.samples(SAMPLES))
    rows = [made[:16]]
    for data in (train, held_out):
        rows.append(data[torch.cdist(made[:16].flatten(1).double(), data.flatten(1).double()).argmin(1)])
    save_grid(torch.cat(rows).float() / 127.5 - 1, lab.picture(picture), columns=16)
    return neighbours(made, train, held_out)
