"""Photographs to pack, in the layouts that the loaders read: made from noise, so that nobody needs a data set."""

import io
import json
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from bigan.data.foreign import index_shards

EACH = 500  # samples a shard


def photograph(seed: int, side: int) -> Image.Image:
    """Noise of every scale, as natural images have it (Field, 1987), its fall chosen so that files have photographs' sizes:
    a JPEG of 256 px has 18 kB (of BSDS500's photographs 23 kB), a PNG of 64 px 9.4 kB (8.7 kB).
    """
    rng = np.random.default_rng(seed)
    pixels = np.zeros((side, side, 3))
    for scale in (4, 8, 16, 32, 64, 128, 256):
        if scale <= side:
            layer = Image.fromarray(rng.integers(0, 256, (scale, scale, 3), dtype=np.uint8))
            pixels += np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC), dtype=float) / scale**0.5
    pixels -= pixels.min()
    return Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8))


def encoded(image: Image.Image, extension: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "JPEG", "quality": 90} if extension == "jpg" else {"format": "PNG"}))
    return buffer.getvalue()


def make(folder: Path, extension: str, side: int, count: int) -> None:
    """FOLDER/files/c/000000.jpg for ImageFolder, and FOLDER/shards for webdataset and for bigan; once."""
    if (folder / "made").exists():
        return
    (folder / "files" / "c").mkdir(parents=True, exist_ok=True)
    (folder / "shards").mkdir(exist_ok=True)
    distinct = [encoded(photograph(seed, side), extension) for seed in range(min(count, 200))]
    for first in range(0, count, EACH):
        with webdataset.TarWriter(str(folder / "shards" / f"{first // EACH:06d}.tar")) as writer:  # pyright: ignore
            for number in range(first, min(first + EACH, count)):
                content = distinct[number % len(distinct)]
                writer.write({"__key__": f"{number:06d}", extension: content})
                (folder / "files" / "c" / f"{number:06d}.{extension}").write_bytes(content)
    index_shards(folder / "shards", shuffled=True)
    (folder / "made").write_text(json.dumps({"side": side, "count": count, "bytes": sum(map(len, distinct)) // len(distinct)}))
