"""Pictures of samples."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.utils import make_grid

from bigan.images import to_uint8


def pixels(images: Tensor) -> NDArray[np.uint8]:
    """Images [N, C, H, W] in [-1, 1] → [N, H, W, C], rounded to 8 bits."""
    return to_uint8(images).permute(0, 2, 3, 1).numpy()


def beside_source(samples: Mapping[str, Tensor]) -> Tensor:
    """The "images" of samples, [N, C, H, W]; each to the right of its "source" where that is images, too, [N, C', H, 2 W].

    A source of another size is brought to that of the images, its pixels being repeated or left out; one of other channels
    than theirs, or than one, is no picture.
    """
    images, source = samples["images"], samples.get("source")
    if source is None or source.ndim != 4 or not source.is_floating_point() or len(source) != len(images):
        return images
    found, channels = {source.shape[1], images.shape[1]}, max(source.shape[1], images.shape[1])
    if not found <= {1, channels} or channels not in (1, 3):
        return images
    both = [interpolate(source, images.shape[2:]), images]
    return torch.cat([side.expand(-1, channels, -1, -1) for side in both], 3)


def save_image(image: NDArray[np.uint8], path: Path) -> None:
    """Write one image [H, W, C], C = 1 or 3."""
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(path)


def sheet(images: Tensor, columns: int | None = None) -> NDArray[np.uint8]:
    """Images [N, C, H, W] in [-1, 1] as one, [H, W, C], nearly square unless the columns are given."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    joined = make_grid(images.float().cpu(), nrow=columns, padding=2, pad_value=-1.0)[: images.shape[1]]
    return pixels(joined[None])[0]


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """Write images [N, C, H, W] in [-1, 1] as one picture, as `sheet` joins them."""
    save_image(sheet(images, columns), path)


def save_animation(frames: Sequence[NDArray[np.uint8]], path: Path, seconds: float) -> None:
    """Write frames [H, W, C] of one size, C = 1 or 3, as a GIF that runs for ever, each round so many seconds.

    All take one palette, of four of them: palettes of their own would flicker.
    """
    pictures = [Image.fromarray(frame.squeeze(2) if frame.shape[2] == 1 else frame).convert("RGB") for frame in frames]
    some = np.linspace(0, len(frames) - 1, 4).round().astype(int)
    together = Image.fromarray(np.concatenate([np.asarray(pictures[number]) for number in some]))
    palette = together.quantize(255, method=Image.Quantize.MAXCOVERAGE)  # which keeps white white
    first, *rest = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=round(1000 * seconds / len(frames)), loop=0)
