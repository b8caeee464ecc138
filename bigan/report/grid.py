"""Pictures of samples."""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid


def to_uint8(images: Tensor) -> Tensor:
    """Images [N, C, H, W] in [-1, 1] → uint8 [N, H, W, C], rounded to the nearest."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()


def save_image(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write one image [H, W, C], C = 1 or 3."""
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(path)


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """Write images [N, C, H, W] in [-1, 1] as one picture, nearly square unless the columns are given."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    sheet = make_grid(images.float().cpu(), nrow=columns, padding=2, pad_value=-1.0)[: images.shape[1]]
    save_image(to_uint8(sheet[None])[0].numpy(), path)
