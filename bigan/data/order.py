"""Which sample lies at which position of the endless stream: a pure function of (shards, seed, window, position).

An epoch permutes blocks (whole shards, or runs of samples within one), groups them into windows, and permutes the samples
within each window: a reader of consecutive positions then needs a few shards at a time and not all of them.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import numpy as np
from numpy.typing import NDArray

WINDOW = 16_384

_EPOCHS_KEPT = 2  # readers ahead stand in the next epoch, or window, while the trainer finishes this one
_WINDOWS_KEPT = 3
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_BLOCKS = 2**32  # the counter's word that sets the draws of an epoch's blocks apart from those of its windows


def permutation(count: int, seed: int, epoch: int, part: int) -> NDArray[np.int64]:
    """A permutation of 0 … count-1, keyed by (seed, epoch, part): [count] int64.

    It sorts raw Philox draws instead of calling `Generator.permutation`: numpy keeps a bit generator's stream for good,
    but may change what a Generator makes of it (NEP 19), and a run must resume exactly under a later numpy.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, 0, part, 0], dtype=np.uint64)
    return np.argsort(np.random.Philox(key=key, counter=counter).random_raw(count), kind="stable")


@dataclass(frozen=True)
class _Epoch:
    """An epoch's windows: their blocks, and the position within the epoch at which each ends."""

    windows: Sequence[NDArray[np.int64]]
    ends: NDArray[np.int64]


@final
class Order:
    """The endless stream's order: epoch after epoch, each a permutation of its own. Threads may share it.

    Position p is in epoch p // samples, at rank p % samples. No state but a cache: a seek costs one permutation of the
    blocks and one of a window, wherever it goes, and ranks that read disjoint slices together visit every sample exactly
    once an epoch.

    Args:
        counts: samples of each shard, in the manifest's order; a sample's number counts through them.
        seed: unsigned 64 bits.
        window: about how many samples are shuffled with each other; a set no larger is shuffled whole.
        block: samples that stay together when windows are formed; a whole shard unless given.
    """

    def __init__(self, counts: Sequence[int], seed: int, window: int = WINDOW, block: int | None = None) -> None:
        assert counts, "a stream without shards has no order"
        assert min(counts) > 0, f"shards of {min(counts)} samples"
        assert 0 <= seed < 2**64, f"seed {seed} is no unsigned 64-bit number"
        assert window > 0, f"a window of {window} samples"
        self.seed = seed
        self.samples = sum(counts)
        self._starts, self._sizes = _blocks(counts, block)
        self._window_count = min(len(self._sizes), -(-self.samples // window))
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()
        self._windows: OrderedDict[tuple[int, int], NDArray[np.int64]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def blocks_per_window(self) -> int:
        """The most blocks that one window has."""
        return -(-len(self._sizes) // self._window_count)

    def samples_at(self, start: int, count: int) -> NDArray[np.int64]:
        """The samples at positions start … start+count-1, over as many windows and epochs as that takes: [count] int64."""
        assert start >= 0, f"position {start} lies before the stream"
        assert count >= 0, f"{count} samples"
        out = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            window, first = self.window_at(start + done)
            piece = window[start + done - first :][: count - done]
            out[done : done + len(piece)] = piece
            done += len(piece)
        return out

    def window_at(self, position: int) -> tuple[NDArray[np.int64], int]:
        """The samples of the window that a position lies in, in their order, and the position of the first."""
        number, rank = divmod(position, self.samples)
        with self._lock:
            epoch = _kept(self._epochs, number, _EPOCHS_KEPT, lambda: self._epoch(number))
            window = int(np.searchsorted(epoch.ends, rank, side="right"))
            samples = _kept(self._windows, (number, window), _WINDOWS_KEPT, lambda: self._window(epoch, number, window))
        return samples, number * self.samples + int(epoch.ends[window]) - len(samples)

    def _epoch(self, number: int) -> _Epoch:
        blocks = permutation(len(self._sizes), self.seed, number, _BLOCKS)
        windows = np.array_split(blocks, self._window_count)  # of equal numbers of blocks, and no last one that is small
        return _Epoch(windows, np.cumsum([self._sizes[window].sum() for window in windows]))

    def _window(self, epoch: _Epoch, number: int, window: int) -> NDArray[np.int64]:
        blocks = np.sort(epoch.windows[window])
        starts, sizes = self._starts[blocks].tolist(), self._sizes[blocks].tolist()
        samples = np.concatenate([np.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)])
        return samples[permutation(len(samples), self.seed, number, window)]


def _blocks(counts: Sequence[int], block: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First sample and size of each block, in the order of the shards."""
    samples = np.array(counts, dtype=np.int64)
    each = samples if block is None else np.minimum(samples, block)
    blocks = -(-samples // each)
    sizes = np.repeat(each, blocks)
    sizes[np.cumsum(blocks) - 1] = samples - (blocks - 1) * each  # the rest of a shard is a shorter block
    return np.cumsum(sizes) - sizes, sizes


def _kept(cache: OrderedDict[K, V], key: K, most: int, make: Callable[[], V]) -> V:
    """The value of a key, made if it is not there; the least recently used go."""
    if key not in cache:
        while len(cache) >= most:
            cache.popitem(last=False)
        cache[key] = make()
    cache.move_to_end(key)
    return cache[key]
