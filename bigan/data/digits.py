"""Images that are made of digits: coloured ones, and ones that a caption describes."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from PIL.Image import Image

from bigan.batch import DataSpec
from bigan.clock import Draws
from bigan.data.fit import fitted
from bigan.data.sources.base import Source
from bigan.data.sources.idx import is_idx, open_digits, open_idx
from bigan.data.toy import EPOCH, DrawnStream
from bigan.settings import settings

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (255, 40, 40), "green": (40, 220, 60), "blue": (60, 100, 255), "yellow": (250, 230, 40), "white": (255, 255, 255),
}  # fmt: skip
NAMES = tuple("0123456789")
Fields = dict[str, NDArray]


@settings
class Digits(ABC):
    """Digits from which images are made, [size, size] or less each.

    Attributes:
        path: an idx images file of digits, or a folder of them of which the split "train" is taken (MNIST); scikit-learn's
            1,797 digits unless given.
        size: side of the images in pixels.
    """

    kind: str
    path: str | None = None
    size: Annotated[int, Ge(8), Le(256)] = 32

    @property
    def where(self) -> str:
        """Its file, as an error names it."""
        return self.path or "scikit-learn's digits"

    @abstractmethod
    def prepared(self) -> tuple[DataSpec, Callable[[Draws], Fields], str]:
        """What every sample has, what draws them, and the digest of the digits that are read."""

    def open(self, seed: int) -> DrawnStream:
        """Read the digits, and open the endless stream."""
        spec, draw, digest = self.prepared()
        return DrawnStream(spec, {"kind": self.kind, "size": self.size, "digits": digest}, seed, draw)

    def digits(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The digits, [N, size, size] as `bigan pack` brings them to that size, and their labels [N]."""
        images, labels = self.pictures()
        return _sized(images, self.size), labels

    def pictures(self) -> tuple[list[Image], NDArray[np.int64]]:
        """The digits as they are in the file, N, and their labels [N]."""
        source: Source = open_digits()
        if self.path:
            path = Path(self.path)
            names = frozenset(os.listdir(path)) if os.path.isdir(path) else frozenset()
            if not os.path.exists(path) or not is_idx(path, names):
                raise ValueError(f"path: {path} is no idx images file, and no folder of such (MNIST's, or alike)")
            source = open_idx(path, None)
        if len(source.classes) != 10:
            raise ValueError(f"path: {self.path} has {len(source.classes)} classes; digits have 10")
        return [item.load() for item in source.items], np.array([item.label for item in source.items], dtype=np.int64)


@settings
class ColouredDigits(Digits):
    """Digits in one of five colours on black: "labels" are the colours, the attribute "digit" is which digit it is."""

    kind: Literal["coloured_digits"] = "coloured_digits"

    def prepared(self) -> tuple[DataSpec, Callable[[Draws], Fields], str]:
        """Images [3, size, size] of any digit in any colour."""
        digits, labels = self.digits()
        tints = np.array([*COLOURS.values()], dtype=np.uint16)

        def draw(draws: Draws) -> Fields:
            rows = picked(draws.uniform("digit").numpy(), len(digits))
            chosen = picked(draws.uniform("colour").numpy(), len(tints))
            images = _painted(digits[rows], tints[chosen][:, None, None])
            return {"images": images, "labels": chosen, "attributes": labels[rows][:, None].astype(np.float32)}

        shape = (3, self.size, self.size)
        spec = DataSpec(samples=EPOCH, image_shape=shape, classes=tuple(COLOURS), attributes=("digit",))
        return spec, draw, digest(digits, labels)


@settings
class CaptionedDigits(Digits):
    """One digit or two alike on black, as a caption says: "two small red 5s, left"; 320 captions in all.

    A digit stands anywhere in a square of half the side: one halfway up, two above each other. Of so small digits the margin
    that all in the file have is left out.

    "labels" are the digits; the attributes "two", "large", "colour" (0 … 3) and "right" say what the rest of the caption does.
    """

    kind: Literal["captioned_digits"] = "captioned_digits"

    def prepared(self) -> tuple[DataSpec, Callable[[Draws], Fields], str]:
        """Images [3, size, size], and what is said of them."""
        images, labels = self.pictures()
        inner = _without_margin(images)
        small, large = (_sized(inner, side) for side in (self.size * 3 // 8, self.size // 2))
        of_class = [np.flatnonzero(labels == digit) for digit in range(10)]
        tints = np.array([*COLOURS.values()], dtype=np.uint16)
        captions = {facts: caption(*facts).encode() for facts in np.ndindex(2, 2, 4, 10, 2)}
        width = max(map(len, captions.values()))
        rows = {facts: np.frombuffer(text.ljust(width, b"\0"), dtype=np.uint8) for facts, text in captions.items()}

        def draw(draws: Draws) -> Fields:
            facts = [picked(draws.uniform(name).numpy(), count) for name, count in _FACTS]
            uniform = draws.uniform("place", 2, 3).numpy()
            half = self.size // 2
            images = np.zeros((draws.count, self.size, self.size, 3), dtype=np.uint8)
            for row, (two, big, colour, digit, right) in enumerate(zip(*facts, strict=True)):
                shapes, members, top = large if big else small, of_class[digit], 0 if two else half // 2
                side = shapes.shape[1]
                counts = np.array([len(members), half - side + 1, half - side + 1])  # a digit has a square for itself
                for number, (which, x, y) in enumerate(picked(uniform[row, : 1 + two], counts)):
                    onto = images[row, top + number * half + y :, right * half + x :]
                    onto[:side, :side] = _painted(shapes[members[which]], tints[colour])
            two, big, colour, digit, right = facts
            return {
                "images": images,
                "labels": digit,
                "attributes": np.stack([two, big, colour, right], axis=1).astype(np.float32),
                "captions": np.stack([rows[one] for one in zip(*facts, strict=True)]),
            }

        spec = DataSpec(
            samples=EPOCH, image_shape=(3, self.size, self.size), classes=NAMES, caption_bytes=width, words=_WORDS,
            attributes=("two", "large", "colour", "right"),
        )  # fmt: skip
        return spec, draw, digest(large, labels)


_FACTS = (("two", 2), ("large", 2), ("colour", 4), ("digit", 10), ("right", 2))


def caption(two: int, large: int, colour: int, digit: int, right: int) -> str:
    """What is said of an image of `CaptionedDigits`."""
    size, tint = ("small", "large")[large], [*COLOURS][colour]
    return f"{('one', 'two')[two]} {size} {tint} {digit}{'s' * two}, {('left', 'right')[right]}"


_WORDS = tuple(sorted({word for facts in np.ndindex(2, 2, 4, 10, 2) for word in caption(*facts).replace(",", "").split()}))


def picked(uniform: NDArray, count: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers in [0, 1] as whole ones, 0 … count - 1."""
    return np.minimum((uniform.astype(np.float64) * count).astype(np.int64), count - 1)  # a uniform number may round to 1


def digest(digits: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """SHA-256 of digits and labels."""
    return hashlib.sha256(digits.tobytes() + labels.astype("<i8").tobytes()).hexdigest()


def _without_margin(images: list[Image]) -> list[Image]:
    """As much cut off at every side of all, which are of one size, as holds a twentieth of their ink at most."""
    ink = np.mean([np.asarray(image, dtype=np.float64) for image in images], axis=0)
    height, width = ink.shape
    fits = [m for m in range(min(height, width) // 2) if ink[m : height - m, m : width - m].sum() >= 0.95 * ink.sum()]
    box = (fits[-1], fits[-1], width - fits[-1], height - fits[-1])
    return [image.crop(box) for image in images]


def _sized(images: list[Image], side: int) -> NDArray[np.uint8]:
    """[N, side, side], as `bigan pack` brings them to that size."""
    return np.stack([np.asarray(fitted(image, 1, (side, side))) for image in images])


def _painted(shapes: NDArray[np.uint8], tints: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """[…, H, W] in colours […, 3]: […, H, W, 3]."""
    return (shapes[..., None].astype(np.uint16) * tints // 255).astype(np.uint8)
