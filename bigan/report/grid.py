"""Pictures of samples."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from bigan.images import to_uint8


def pixels(images: Tensor) -> NDArray[np.uint8]:
    """Images [N, C, H, W] in [-1, 1] → [N, H, W, C], rounded to 8 bits."""
    return to_uint8(images).permute(0, 2, 3, 1).numpy()


def save_image(image: NDArray[np.uint8], path: Path) -> None:
    """Write one image [H, W, C], C = 1 or 3."""
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(path)


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """Write images [N, C, H, W] in [-1, 1] as one picture, nearly square unless the columns are given."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    sheet = make_grid(images.float().cpu(), nrow=columns, padding=2, pad_value=-1.0)[: images.shape[1]]
    save_image(pixels(sheet[None])[0], path)
