"""A user's own images, as a run's networks take them."""

from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps, UnidentifiedImageError
from torch import Tensor

from bigan.data.fit import fitted, only_bombs_are_heard
from bigan.data.sources.base import one_line, open_image


def read_image(path: Path, channels: int, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """A picture of any size, cropped about its centre and resized to (height, width) as `bigan pack` does it.

    Returns:
        [C, H, W] uint8, and the (height, width) that it had.

    Raises:
        ValueError: if the file is no image, or cannot be read.
    """
    try:
        with only_bombs_are_heard():
            picture = ImageOps.exif_transpose(open_image(str(path)))
            array = np.asarray(fitted(picture, channels, size))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: is no image") from None
    except Exception as error:  # a broken file raises whatever its decoder does
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise ValueError(f"{path}: cannot be read as an image ({reason})") from None
    return torch.from_numpy(array.copy()).view(*size, channels).permute(2, 0, 1), (picture.height, picture.width)
