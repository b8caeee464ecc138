"""Random augmentation of images: mirrored, and shifted. How a sample is seen belongs to its position in the stream."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

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

    def fits(self, shapes: Mapping[str, tuple[int, int, int]], where: str) -> Self:
        """Itself; ValueError where images of those shapes, field → (C, H, W), cannot be seen so, or there are none."""
        if (self.flip or self.jitter) and not shapes:
            raise ValueError(f"{'flip' if self.flip else 'jitter'}: {where} has no images")
        for name, (_, height, width) in shapes.items():
            if self.jitter >= min(height, width):
                raise ValueError(f"jitter: {self.jitter} pixels leave nothing of {name} of {height}x{width}")
        return self

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
