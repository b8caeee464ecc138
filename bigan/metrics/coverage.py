"""Which classes a generator makes: class shares by the classifier's prediction, the plainest sign of mode collapse."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ENOUGH = 0.25


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Class shares of a set of images, held against the data's.

    Attributes:
        shares: class → share of the images; they sum to 1.
        smallest: the smallest share among the classes that the data has.
        covered: how many of these have at least a quarter (ENOUGH) of their share in the data. A quarter is far above what a
            classifier's errors put into an empty class, and far below what chance takes from a class of some ten images.
        present: how many classes the data has, by the same classifier's predictions.
    """

    shares: dict[str, float]
    smallest: float
    covered: int
    present: int


def class_coverage(real: Tensor, fake: Tensor, classes: Sequence[str]) -> Coverage:
    """Coverage of the data's classes by generated images.

    Args:
        real: [N] int64, predictions for images of the data; predicted, too, so that the classifier's errors meet both sides.
        fake: [M] int64, predictions for generated images.
        classes: names, in the order of the predictions; two of the same name would be one, and are refused.
    """
    if len(set(classes)) != len(classes) or len(real) == 0 or len(fake) == 0:
        raise ValueError(f"coverage needs images on both sides and classes with names of their own, got {list(classes)}")
    data, made = _shares(real, len(classes)), _shares(fake, len(classes))
    present = data > 0
    return Coverage(
        shares=dict(zip(classes, made.tolist(), strict=True)),
        smallest=float(made[present].min()),
        covered=int((made[present] >= ENOUGH * data[present]).sum()),
        present=int(present.sum()),
    )


def _shares(predictions: Tensor, classes: int) -> Tensor:
    return torch.bincount(predictions, minlength=classes).double() / len(predictions)
