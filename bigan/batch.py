"""What a data set is (`DataSpec`) and what a player is given of it (`Batch`). Imports torch alone: all may import it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What a game may know of a stream when it is built.

    Attributes:
        samples: how many samples one epoch has.
        image_shape: (C, H, W) of its images, or None where the samples are no images.
        classes: names of the classes, in the order of the labels; empty where there are none.
    """

    samples: int
    image_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] = ()


def image_shape(data: Mapping[str, DataSpec], stream: str) -> tuple[int, int, int]:
    """The (C, H, W) of a stream that a game reads.

    Raises:
        ValueError: if there is no such stream, or it has no images.
    """
    if stream not in data:
        raise ValueError(f"data.{stream}: is missing; the game reads it")
    shape = data[stream].image_shape
    if shape is None:
        raise ValueError(f"data.{stream}: has no images; the game reads them")
    return shape


@dataclass(frozen=True)
class Batch:
    """N samples as named tensors, each with N rows.

    Attributes:
        index: [N] int64, the position of each sample in the endless stream (epoch * samples + rank in the epoch's order).
        fields: name → tensor [N, …]. Image streams have "images" [N, C, H, W] and, where there are classes, "labels" [N] int64.
    """

    index: Tensor
    fields: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, tensor in self.fields.items():
            assert len(tensor) == len(self.index), f"{name}: {len(tensor)} rows for {len(self.index)} samples"

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.fields:
            raise ValueError(f"the data set has no {name!r}; it has {', '.join(self.fields)}")
        return self.fields[name]

    @property
    def images(self) -> Tensor:
        """[N, C, H, W]: uint8 as read from the shards, floating point in [-1, 1] once on the device."""
        return self["images"]

    @property
    def labels(self) -> Tensor:
        """[N] int64."""
        return self["labels"]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply one function to every tensor, the index included."""
        return Batch(function(self.index), {name: function(tensor) for name, tensor in self.fields.items()})

    def rows(self, start: int, count: int) -> "Batch":
        """Samples start … start + count - 1 of this batch."""
        return self.map(lambda tensor: tensor[start : start + count])

    def to(self, device: torch.device) -> "Batch":
        """Move to a device, and bring images (every uint8 tensor [N, C, H, W]) to float32 in [-1, 1], channels_last."""
        return self.map(lambda tensor: _scaled(tensor.to(device, non_blocking=True)))


def _scaled(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.uint8 or tensor.ndim != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last).float().div_(127.5).sub_(1.0)
