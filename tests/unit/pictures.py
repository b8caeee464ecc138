"""Small pictures in folders, and what a packed folder holds."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def image(seed: int, height: int = 6, width: int = 4, mode: str = "L") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(2) if bands == 1 else pixels)


def folder_of(root: Path, *names: str, mode: str = "L") -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image(seed, mode=mode).save(root / name)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def raw_samples(folder: Path) -> list[dict[str, bytes]]:
    """What plain webdataset reads from the shards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset as wds

        shards = sorted(str(path) for path in folder.glob("*.tar"))
        return list(wds.WebDataset(shards, shardshuffle=False, empty_check=False))  # pyright: ignore


def pixels_of(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(BytesIO(sample["png"]))) for sample in raw_samples(folder)]


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
