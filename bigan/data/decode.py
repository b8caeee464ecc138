"""From the bytes of a shard's member to a tensor or a label. Only what is listed here is ever decoded; nothing is executed."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bigan.batch import DataSpec

# Extension → the one Pillow decoder that may touch it: Pillow's guessing would offer its other decoders to hostile bytes.
IMAGE_FORMATS: Mapping[str, str] = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
LABEL = "cls"

_MODES = {1: "L", 3: "RGB"}


def decode_sample(members: Mapping[str, bytes], spec: DataSpec, where: str) -> tuple[Tensor, int | None]:
    """Decode one sample.

    Args:
        members: extension → bytes; one image and, where the data has classes, one `cls`.
        spec: what the manifest promises of every sample.
        where: names the shard and the key in errors.

    Returns:
        the image, uint8 [C, H, W], and the label, None where the data has no classes.

    Raises:
        ValueError: a member of another kind, a missing one, or content that is not what the manifest says.
    """
    image: Tensor | None = None
    label: int | None = None
    for extension, data in members.items():
        if extension in IMAGE_FORMATS and image is None:
            assert spec.image_shape is not None
            image = decode_image(extension, data, spec.image_shape, where)
        elif extension == LABEL:
            label = decode_label(data, len(spec.classes), where)
        else:
            allowed = ", ".join(IMAGE_FORMATS)
            raise ValueError(
                f"{where}: member .{extension} is not read; a sample has one image ({allowed}) and at most one .cls"
            )
    if image is None:
        raise ValueError(f"{where}: has no image")
    if spec.classes and label is None:
        raise ValueError(f"{where}: has no .cls, but the manifest names {len(spec.classes)} classes")
    return image, label


def decode_image(extension: str, data: bytes, shape: tuple[int, int, int], where: str) -> Tensor:
    """Decode one image to uint8 [C, H, W]; ValueError unless it has exactly this shape (C is 1: grey, or 3: RGB)."""
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(data), formats=[IMAGE_FORMATS[extension]]) as image:
            # Before any pixel is decoded: this is also what refuses a decompression bomb.
            if (image.mode, image.size) != (_MODES[channels], (width, height)):
                raise ValueError(
                    f"is {image.mode} {image.width}x{image.height} (width x height), "
                    f"the manifest says {_MODES[channels]} {width}x{height}"
                )
            pixels = np.array(image)
    except Exception as error:  # Pillow's decoders raise all sorts on broken bytes
        reason = f"is no .{extension} image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise ValueError(f"{where}.{extension}: {reason}") from error
    # Turned by numpy: torch would start a team of OpenMP threads for each thread that decodes.
    return torch.from_numpy(np.ascontiguousarray(pixels.reshape(height, width, channels).transpose(2, 0, 1)))


def decode_label(data: bytes, classes: int, where: str) -> int:
    """Decode a class number written in decimal; ValueError unless it is one of 0 … classes-1."""
    digits = data.strip()
    if not digits.isdigit() or len(digits) > 9:
        raise ValueError(f"{where}.cls: {data[:20]!r} is no class number")
    if int(digits) >= classes:
        raise ValueError(f"{where}.cls: class {int(digits)}, but the manifest names {classes} classes")
    return int(digits)
