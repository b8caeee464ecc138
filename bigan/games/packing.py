"""Packs: a critic that judges several samples as one sees whether they are all alike (Lin et al., PacGAN, 2018, section 3)."""

from torch import Tensor

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
