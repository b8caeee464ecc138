"""Idx files, as MNIST comes in."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_idx(folder: Path, split: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], *, zipped: bool = False) -> None:
    """Images [N, H, W] and labels [N] in the folder's two files of a split."""
    parts = (("images-idx3", (2051, *images.shape), images), ("labels-idx1", (2049, len(labels)), labels))
    for kind, head, body in parts:
        data = struct.pack(f">{len(head)}I", *head) + body.tobytes()
        (folder / f"{split}-{kind}-ubyte{'.gz' if zipped else ''}").write_bytes(gzip.compress(data) if zipped else data)
