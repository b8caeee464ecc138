"""Packs: a critic that judges several samples as one sees whether they are all alike (Lin et al., PacGAN, 2018, section 3)."""

from typing import final

from torch import Tensor

from bigan.clock import Numbers
from bigan.pullback.maps import dense_format


def packed_shape(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The shape of a pack: samples lie side by side on their first axis, an image's channels."""
    return (size * shape[0], *shape[1:])


def pack(samples: Tensor, size: int) -> Tensor:
    """Join each `size` samples that lie side by side: [N, C, …] → [N / size, size · C, …]."""
    if size == 1:
        return samples
    joined = samples.reshape(len(samples) // size, size * samples.shape[1], *samples.shape[2:])
    return joined.contiguous(memory_format=dense_format(samples))


@final
class PackedNumbers:
    """Random numbers, one row a pack.

    Args:
        numbers: one row a sample.
        size: of a pack.
    """

    def __init__(self, numbers: Numbers, size: int) -> None:
        self._numbers, self._size = numbers, size

    @property
    def count(self) -> int:
        """How many packs."""
        return self._numbers.count // self._size

    def within(self, scope: str) -> "PackedNumbers":
        """The same rows under a longer name."""
        return PackedNumbers(self._numbers.within(scope), self._size)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers [packs, *shape]: those of the pack's samples, side by side."""
        return pack(self._numbers.normal(name, shape[0] // self._size, *shape[1:]), self._size)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Numbers in [0, 1], [packs, *shape]: those of the pack's first sample."""
        return self._numbers.uniform(name, *shape)[:: self._size]

    def integers(self, name: str, high: int) -> Tensor:
        """Whole numbers 0 … high - 1, [packs] int64: those of the pack's first sample."""
        return self._numbers.integers(name, high)[:: self._size]
