"""SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014) over arrays of numbers."""

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer: a bijection of 64-bit words whose every output bit depends on every input bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def flips(seed: int, start: int, count: int) -> NDArray[np.bool_]:
    """Which of the positions start … start+count-1 are mirrored: [count] bool, a hash of (seed, position)."""
    return (_words(seed, start, count) >> np.uint64(63)).astype(np.bool_)


def shifts(seed: int, start: int, count: int, most: int) -> NDArray[np.int64]:
    """How far those positions are shifted down and to the right: [count, 2] in -most … most, of other bits of the hash."""
    bits = _words(seed, start, count)[:, None] >> np.array([32, 0], dtype=np.uint64) & np.uint64(0x7FFFFFFF)
    return (bits % np.uint64(2 * most + 1)).astype(np.int64) - most


def _words(seed: int, start: int, count: int) -> NDArray[np.uint64]:
    offset = mixed(np.array([seed], dtype=np.uint64) + GOLDEN)
    return mixed((np.arange(start, start + count, dtype=np.uint64) + offset) * GOLDEN)
