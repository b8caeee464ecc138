"""MNIST as several rows read it: images with their labels, and the classifier that judges digits, trained once for all."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from bigan.data.digits import CaptionedDigits, ColouredDigits
from bigan.data.stream import Shards
from bigan.measure import read_data
from bigan.metrics.features import Classifier
from experiments.row import WORK, Lab

_CPU = torch.device("cpu")
Made = TypeVar("Made", ColouredDigits, CaptionedDigits)


class Digits(NamedTuple):
    """Images [N, 1, size, size] in [-1, 1] and labels [N]."""

    images: Tensor
    labels: Tensor


def digits(lab: Lab, size: int, split: str = "train", count: int = 60_000) -> Digits:
    """Each image of a split once, or so many of them."""
    with Shards(path=str(lab.mnist(size, split))).open(seed=0) as stream:
        batch = stream.read(0, min(count, stream.spec.samples)).to(_CPU)
    return Digits(batch.images.contiguous(), batch.labels)


def unseen(data: Made) -> Made:
    """Images that are made of a folder's test digits, as those of the data are of its training digits."""
    assert data.path
    return replace(data, path=str(Path(data.path) / "t10k-images-idx3-ubyte.gz"))


def judge(lab: Lab, size: int) -> Classifier:
    """What tells digits of that size apart."""
    with Shards(path=str(lab.mnist(size))).open(seed=0) as stream:
        return read_data(stream, WORK / "features", 5000, _CPU).classifier
