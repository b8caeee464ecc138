"""A picture that moves."""

from pathlib import Path

from PIL import Image, ImageSequence


def frames_of(path: Path) -> tuple[int, tuple[int, int]]:
    """How many frames there are, and their size (width, height)."""
    with Image.open(path) as movie:
        return sum(1 for _ in ImageSequence.Iterator(movie)), movie.size
