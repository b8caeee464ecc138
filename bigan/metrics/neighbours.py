"""Does a generator memorise? Distances to the nearest training sample, held against those to the nearest held-out one."""

from dataclasses import dataclass

import torch
from torch import Tensor

MEMORISED = 0.9


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """How near generated samples lie to the data.

    Attributes:
        train: mean distance to the nearest training sample.
        held_out: mean distance to the nearest sample of as many that were held out.
        closer: share of the samples that are nearer to the training data; a half where nothing is memorised.
    """

    train: float
    held_out: float
    closer: float

    @property
    def ratio(self) -> float:
        """About 1 where training data are as strange to the generator as held-out data; less where it memorises."""
        return self.train / self.held_out

    @property
    def memorises(self) -> bool:
        """Whether the ratio says so."""
        return self.ratio < MEMORISED


def neighbours(samples: Tensor, train: Tensor, held_out: Tensor) -> Neighbours:
    """Hold samples [N, …] against two sets [M, …] of one distribution, one of which was trained on.

    Raises:
        ValueError: if the sets differ in size: the nearest of more is nearer.
    """
    if train.shape != held_out.shape or train.shape[1:] != samples.shape[1:] or not len(samples) or not len(train):
        raise ValueError(
            f"training and held-out data must be of one size, and samples of their shape; got {list(train.shape)}, "
            f"{list(held_out.shape)} and {list(samples.shape)}"
        )
    near, far = nearest(samples, train), nearest(samples, held_out)
    return Neighbours(train=float(near.mean()), held_out=float(far.mean()), closer=float((near < far).double().mean()))


def nearest(samples: Tensor, data: Tensor, chunk: int = 1024) -> Tensor:
    """[N] float64: Euclidean distance from each sample [N, …] to its nearest of the data [M, …], `chunk` rows at once."""
    flat = data.flatten(1).double()
    rows = [torch.cdist(part, flat).amin(1) for part in samples.flatten(1).double().split(chunk)]
    return torch.cat(rows)
