"""Modes of stacked digits, counted where they are known."""

import math
from typing import cast

import pytest
import torch
from torch import Tensor

from bigan.metrics.features import Classifier, Reading
from bigan.metrics.stacked import MODES, judge_stacked


class FirstPixel:
    """Takes an image for the digit that its first pixel is."""

    digest = "first pixel"

    class training:  # noqa: N801
        accuracy = 1.0

    def read(self, images: Tensor) -> Reading:
        assert images.shape[1:] == (1, 4, 4)
        return Reading(torch.zeros(len(images), 1), images[:, 0, 0, 0].long())


def stacked(numbers: Tensor) -> Tensor:
    digits = torch.stack([numbers // 100, numbers // 10 % 10, numbers % 10], 1)
    return digits[:, :, None, None].expand(-1, -1, 4, 4).to(torch.uint8)


@pytest.mark.parametrize(
    ("numbers", "modes", "kl"),
    [
        (torch.arange(MODES), 1000, 0.0),
        (torch.full((50,), 377), 1, math.log(1000)),
        (torch.arange(0, MODES, 2).repeat(3), 500, math.log(2)),
        (torch.tensor([1, 1, 1, 100]), 2, 0.75 * math.log(750) + 0.25 * math.log(250)),
    ],
)
def test_modes_and_divergence(numbers: Tensor, modes: int, kl: float) -> None:
    card = judge_stacked(cast(Classifier, FirstPixel()), stacked(torch.arange(MODES)), stacked(numbers))
    assert (card.fake.modes, card.real.modes) == (modes, 1000)
    assert card.fake.kl == pytest.approx(kl, abs=1e-12)
    assert card.real.kl == pytest.approx(0, abs=1e-12)
    assert card.lines()[2].split() == ["modes", "of", "1000", str(modes), "1000"]
