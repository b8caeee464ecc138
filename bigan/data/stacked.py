"""Stacked digits: three digits as the channels of one image, a thousand modes that can be counted (Metz et al., 2017)."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from bigan.batch import DataSpec
from bigan.clock import Draws
from bigan.data.fit import fitted
from bigan.data.sources.base import Source
from bigan.data.sources.idx import is_idx, open_digits, open_idx
from bigan.data.toy import EPOCH, DrawnStream
from bigan.settings import settings

CLASSES = tuple(f"{number:03d}" for number in range(1000))


@settings
class StackedDigits:
    """Images [3, size, size] of three digits a, b, c drawn at random, with the label 100 a + 10 b + c.

    Attributes:
        path: an idx images file of digits, or a folder of them of which the split "train" is taken (MNIST); scikit-learn's
            1,797 digits unless given.
        size: side in pixels, to which the digits are brought as `bigan pack` does it.
    """

    kind: Literal["stacked_digits"] = "stacked_digits"
    path: str | None = None
    size: Annotated[int, Ge(8), Le(256)] = 32

    @property
    def where(self) -> str:
        """Its file, or its kind, as an error names it."""
        return self.path or self.kind

    def open(self, seed: int) -> DrawnStream:
        """Read the digits, and open the endless stream: "images" and "labels"."""
        digits, labels = self.digits()
        content: Mapping[str, object] = {
            "kind": self.kind,
            "size": self.size,
            "digits": hashlib.sha256(digits.tobytes() + labels.astype("<i8").tobytes()).hexdigest(),
        }

        def draw(draws: Draws) -> dict[str, NDArray]:
            chosen = (draws.uniform("digit", 3).numpy() * np.float64(len(digits))).astype(np.int64)
            chosen = np.minimum(chosen, len(digits) - 1)  # a uniform number may round to 1
            images = np.ascontiguousarray(digits[chosen].transpose(0, 2, 3, 1))
            return {"images": images, "labels": labels[chosen] @ np.array([100, 10, 1])}

        spec = DataSpec(samples=EPOCH, image_shape=(3, self.size, self.size), classes=CLASSES)
        return DrawnStream(spec, content, seed, draw)

    def digits(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The digits that are stacked, [N, size, size], and their labels [N]."""
        source: Source = open_digits()
        if self.path:
            path = Path(self.path)
            names = frozenset(os.listdir(path)) if os.path.isdir(path) else frozenset()
            if not os.path.exists(path) or not is_idx(path, names):
                raise ValueError(f"path: {path} is no idx images file, and no folder of such (MNIST's, or alike)")
            source = open_idx(path, None)
        if len(source.classes) != 10:
            raise ValueError(f"path: {self.path} has {len(source.classes)} classes; digits have 10")
        size = (self.size, self.size)
        images = np.stack([np.asarray(fitted(item.load(), 1, size)) for item in source.items])
        return images, np.array([item.label for item in source.items], dtype=np.int64)
