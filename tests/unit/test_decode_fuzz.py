"""Damaged images, whose checksums may be right: no decoder crashes or hangs."""

import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from bigan.data.faults import SampleError

from .tars import encoded
from .test_decode import decoded


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, cut, spliced; a PNG's checksums are made right again half of the time, so that its decoder is reached."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        kind, (low, high) = rng.random(), sorted(rng.randrange(len(data)) for _ in range(2))
        if kind < 0.6:
            data[low] ^= 1 << rng.randrange(8)
        elif kind < 0.8 and low > 0:
            del data[low:]
        else:
            data[low:high] = rng.randbytes(rng.randrange(40))
        data = data or bytearray(b"x")
    return with_checksums(bytes(data)) if rng.random() < 0.5 else bytes(data)


def with_checksums(data: bytes) -> bytes:
    out, at = data[:8], 8
    while data.startswith(b"\x89PNG") and at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunk = data[at + 4 : at + 8 + length]
        out, at = out + data[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk)), at + 12 + length
    return out if data.startswith(b"\x89PNG") else data


def fuzz(rounds: int, seed: int) -> None:
    """Every damaged image decodes to something of the right shape or is refused; run where a crash is seen."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((64, 64))
    whole: list[tuple[str, bytes]] = [
        ("png", encoded(photo)),
        ("jpg", encoded(photo, "JPEG")),
        ("jpg", encoded(photo, "JPEG", progressive=True)),
        ("webp", encoded(photo, "WEBP")),
        ("webp", encoded(photo, "WEBP", lossless=True)),
    ]
    rng = random.Random(seed)
    refused = 0
    for _ in range(rounds):
        extension, content = rng.choice(whole)
        try:
            decoded(extension, damaged(content, rng), (3, 64, 64))
        except SampleError:
            refused += 1
    assert refused > rounds // 2


def test_damaged_images_never_crash_the_decoders() -> None:
    """In a process of its own, whose death would be seen: torchvision's PNG decoder dies of a single bit."""
    code = "import sys; from tests.unit.test_decode_fuzz import fuzz; fuzz(3000, 0); print('whole')"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "whole"
