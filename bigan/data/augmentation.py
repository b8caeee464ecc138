"""Random augmentation of images: mirrored, and shifted. How a sample is seen belongs to its position in the stream."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigan.data.hashing import flips, shifts


class Augmentation(NamedTuple):
    """How samples are seen.

    Attributes:
        seed: of the stream.
        flip: whether a random half is mirrored left to right.
        jitter: how many pixels, at most, an image is shifted each way; its border is repeated.
    """

    seed: int
    flip: bool
    jitter: int

    def augmented(self, rows: dict[str, NDArray], pictures: Iterable[str], start: int) -> dict[str, NDArray]:
        """Rows with those images [N, H, W, C], at positions start, start + 1, …; all images of a sample alike."""
        return rows | {name: self._seen(rows[name], start) for name in pictures}

    def _seen(self, images: NDArray, start: int) -> NDArray:
        count, height, width, _ = images.shape
        if self.jitter:
            down, right = shifts(self.seed, start, count, self.jitter).T
            y = (np.arange(height) - down[:, None]).clip(0, height - 1)
            x = (np.arange(width) - right[:, None]).clip(0, width - 1)
            images = images[np.arange(count)[:, None, None], y[:, :, None], x[:, None, :]]
        if self.flip:
            mirrored = flips(self.seed, start, count)
            images[mirrored] = images[mirrored][:, :, ::-1]
        return images
