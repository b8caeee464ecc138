"""What a player is given of a data set (`Batch`), and what that is (`bigan.spec`). Imports torch alone: all may import it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bigan.images import from_uint8
from bigan.spec import ArraySpec, DataSpec, ImageSpec, image_shape, modelled

__all__ = ["ArraySpec", "Batch", "DataSpec", "ImageSpec", "image_shape", "modelled"]


@dataclass(frozen=True)
class Batch:
    """N samples as named tensors, each with N rows.

    Attributes:
        index: [N] int64, the position of each sample in the endless stream (epoch * samples + rank in the epoch's order).
        fields: name → tensor [N, …]. "images" [N, C, H, W]; where the data set has them, "labels" [N] int64,
            "attributes" [N, A] float32, "captions" [N, L] uint8 (UTF-8, zeros after its end; on the host always, where its
            words are looked up), further images and arrays.
        pictures: which fields are images: those that `to` brings to [-1, 1].
    """

    index: Tensor
    fields: Mapping[str, Tensor]
    pictures: frozenset[str] = frozenset({"images"})

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
    def modelled(self) -> Tensor:
        """What a game without conditions models, as `bigan.spec.modelled` names it: the images, or the array of numbers."""
        return self["images" if "images" in self.fields else next(n for n, t in self.fields.items() if t.is_floating_point())]

    @property
    def labels(self) -> Tensor:
        """[N] int64."""
        return self["labels"]

    @property
    def attributes(self) -> Tensor:
        """[N, A] float32, in the order of the data set's names."""
        return self["attributes"]

    def texts(self, name: str = "captions") -> list[str]:
        """A field of UTF-8 bytes [N, L] as N strings."""
        return [bytes(row).rstrip(b"\0").decode("utf-8", "replace") for row in self[name].numpy()]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply one function to every tensor, the index included."""
        return Batch(function(self.index), {name: function(tensor) for name, tensor in self.fields.items()}, self.pictures)

    def rows(self, start: int, count: int) -> "Batch":
        """Samples start … start + count - 1 of this batch."""
        return self.map(lambda tensor: tensor[start : start + count])

    def to(self, device: torch.device) -> "Batch":
        """Move all but captions to a device, and there bring uint8 pictures to float32 in [-1, 1], channels_last."""
        moved = {name: t if name == "captions" else t.to(device, non_blocking=True) for name, t in self.fields.items()}
        fields = {name: _scaled(tensor) if name in self.pictures else tensor for name, tensor in moved.items()}
        return Batch(self.index.to(device, non_blocking=True), fields, self.pictures)


def _scaled(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.uint8:
        return tensor
    return from_uint8(tensor.contiguous(memory_format=torch.channels_last))
