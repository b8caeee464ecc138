"""Shards and indices damaged at random: never a silent wrong sample."""

import random
from pathlib import Path

import pytest
import torch

from bigan.data.check import check
from bigan.data.manifest import Manifest

from .test_faults import SAMPLES, copy, stream_of, whole

__all__ = ["copy", "whole"]


def fuzzed(content: bytes, rng: random.Random, other: bytes) -> bytes:
    data = bytearray(content)
    kind, (low, high) = rng.random(), sorted(rng.randrange(len(data)) for _ in range(2))
    if kind < 0.4:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind < 0.6:
        del data[low:]
    else:
        at = rng.randrange(len(other))
        data[low:high] = other[at : at + rng.choice([high - low, rng.randrange(2000)])]
    return bytes(data)


@pytest.mark.parametrize("suffix", [".tar", ".index.json"])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_to_a_file_no_wrong_sample_is_given(copy: Path, suffix: str, seed: int) -> None:
    """Flipped, cut and spliced at random: each sample is the right one, or was counted; without the index likewise."""
    rng = random.Random(seed)
    names = sorted(path.name for path in copy.glob(f"*{suffix}"))
    with stream_of(copy) as stream:
        expected = stream.read(0, SAMPLES)
    for _ in range(25):
        name, other = rng.sample(names, 2)
        before = (copy / name).read_bytes()
        index = copy / f"{name.split('.')[0]}.index.json"
        index_before = index.read_bytes()
        (copy / name).write_bytes(fuzzed(before, rng, (copy / other).read_bytes()))
        if suffix == ".tar" and rng.random() < 0.3:
            index.unlink()
        with stream_of(copy, 0.9) as stream:
            found = stream.read(0, SAMPLES)
            bad = stream.faults.records
            order = stream._order.samples_at(0, SAMPLES)  # pyright: ignore[reportPrivateUsage]
        for row, sample in enumerate(order.tolist()):
            assert sample in bad or torch.equal(found.images[row], expected.images[row])
        if (copy / name).read_bytes() != before:
            assert check(copy)[1]
        (copy / name).write_bytes(before)
        index.write_bytes(index_before)
    assert Manifest.load(copy).spec.samples == SAMPLES
