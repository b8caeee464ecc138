"""Stacked digits: three digits as the channels of one image, a thousand modes that can be counted (Metz et al., 2017)."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from bigan.batch import DataSpec
from bigan.clock import Draws
from bigan.data.digits import Digits, Fields, digest, picked
from bigan.data.toy import EPOCH
from bigan.settings import settings

CLASSES = tuple(f"{number:03d}" for number in range(1000))


@settings
class StackedDigits(Digits):
    """Images [3, size, size] of three digits a, b, c drawn at random, with the label 100 a + 10 b + c."""

    kind: Literal["stacked_digits"] = "stacked_digits"

    def prepared(self) -> tuple[DataSpec, Callable[[Draws], Fields], str]:
        """Images and labels."""
        digits, labels = self.digits()

        def draw(draws: Draws) -> Fields:
            chosen = picked(draws.uniform("digit", 3).numpy(), len(digits))
            images = np.ascontiguousarray(digits[chosen].transpose(0, 2, 3, 1))
            return {"images": images, "labels": labels[chosen] @ np.array([100, 10, 1])}

        spec = DataSpec(samples=EPOCH, image_shape=(3, self.size, self.size), classes=CLASSES)
        return spec, draw, digest(digits, labels)
