"""Bring any image to the one size, the one mode and the one format of a data set. The same image gives the same bytes."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageOps, features

from bigan.spec import MAX_SIDE

FORMATS = ("png", "jpg", "webp")
GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L"})

_JPEG_QUALITY = 95
_FULL_CHROMA = 95  # from this quality on, colour at half the resolution would be what is lost most
_WEBP_SIDE = 16383  # pixels; the format's own bound


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How images are stored.

    Attributes:
        size: (height, width) in pixels.
        channels: 1 (grey) or 3 (RGB); None where that is not known yet.
        format: one of `FORMATS`.
        quality: 1 … 100; None for 95 of a jpg, and for a webp without loss. A png has none.

    Raises:
        ValueError: naming the setting that is wrong.
    """

    size: tuple[int, int]
    channels: int | None
    format: str = "png"
    quality: int | None = None

    def __post_init__(self) -> None:
        height, width = self.size
        if self.format not in FORMATS:
            raise ValueError(f"format: {self.format}; give one of {', '.join(FORMATS)}")
        most = _WEBP_SIDE if self.format == "webp" else MAX_SIDE
        if not (1 <= height <= most and 1 <= width <= most):
            raise ValueError(f"size: {height}x{width}; both sides of a {self.format} must be 1 to {most} pixels")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels: {self.channels}; give 1 (grey) or 3 (RGB)")
        if self.quality is not None and self.format == "png":
            raise ValueError(f"quality: {self.quality}; a png loses nothing, leave it out or choose format jpg or webp")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality: {self.quality}; give 1 to 100")

    def encode(self, image: Image.Image) -> bytes:
        """Crop about the centre to the target's aspect, resize (Lanczos down, bicubic up), convert, and store.

        Raises:
            ValueError: its pixels have no known range.
            Exception: whatever Pillow raises for an image whose file is broken.
        """
        assert self.channels is not None, "grey or colour must be known"
        stored = fitted(image, self.channels, self.size)
        if self.format == "webp":
            stored = stored.convert("RGB")  # it has no grey; three equal bands cost it little
        buffer = io.BytesIO()
        # A fresh image, so that no profile or comment is copied.
        Image.fromarray(np.asarray(stored)).save(buffer, **self._options())
        return buffer.getvalue()

    def _options(self) -> dict[str, Any]:
        if self.format == "png":
            return {"format": "PNG"}
        if self.format == "webp" and self.quality is None:
            # As fast as a png; Pillow's default method, 4, takes several times as long for a few per cent of the bytes.
            return {"format": "WEBP", "lossless": True, "method": 2}
        if self.format == "webp":
            return {"format": "WEBP", "quality": self.quality}
        quality = self.quality or _JPEG_QUALITY
        return {"format": "JPEG", "quality": quality} | ({"subsampling": 0} if quality >= _FULL_CHROMA else {})


def fitted(image: Image.Image, channels: int, size: tuple[int, int]) -> Image.Image:
    """Any image as grey (1 channel) or RGB (3), cropped and resized to (height, width) as `Encoding.encode` says."""
    return _resized(_converted(image, channels), size)


def encoders() -> dict[str, str]:
    """What reads and writes the images, and so decides about the bytes: library → version."""
    found = {name: features.version(name) for name in ("libjpeg_turbo", "jpg", "zlib_ng", "zlib", "webp")}
    return {"pillow": PIL.__version__} | {name: version for name, version in found.items() if version}


@contextlib.contextmanager
def only_bombs_are_heard() -> Iterator[None]:
    """Pillow's warnings about odd metadata are dropped, the one about a decompression bomb is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """Upright, 8 bits, grey or RGB; what is transparent lies on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # convert("L") would clip at 255
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cropped about its centre to the aspect of (height, width), then resized to it."""
    height, width = size
    crop_width = min(image.width, max(1, round(image.height * width / height)))
    crop_height = min(image.height, max(1, round(image.width * height / width)))
    left, top = (image.width - crop_width) // 2, (image.height - crop_height) // 2
    image = image.crop((left, top, left + crop_width, top + crop_height))
    shrinks = crop_width > width or crop_height > height
    return image.resize((width, height), Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC)
