"""Which sample lies at which position of the endless stream: a pure function of (seed, position)."""

import threading
from typing import final

import numpy as np
from numpy.typing import NDArray

_EPOCHS_KEPT = 2  # readers ahead stand in the next epoch while the trainer finishes this one


def epoch_permutation(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which one epoch visits its samples: [samples] int64, each of 0 … samples-1 once.

    It sorts raw Philox draws instead of calling `Generator.permutation`: numpy keeps a bit generator's stream for good,
    but may change what a Generator makes of it (NEP 19), and a run must resume exactly under a later numpy.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(samples), kind="stable")


@final
class Order:
    """The endless stream's order: epoch after epoch, each a permutation of its own. Threads may share it.

    Position p is in epoch p // samples, at rank p % samples. No state but a cache: a seek to any position costs at
    most one permutation, and ranks that read disjoint slices together visit every sample exactly once an epoch.
    """

    def __init__(self, samples: int, seed: int) -> None:
        assert samples > 0, f"a stream of {samples} samples has no order"
        assert 0 <= seed < 2**64, f"seed {seed} is no unsigned 64-bit number"
        self.samples = samples
        self.seed = seed
        self._epochs: dict[int, NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def sample(self, position: int) -> int:
        """The sample (0 … samples-1) at one position."""
        return int(self.samples_at(position, 1)[0])

    def samples_at(self, start: int, count: int) -> NDArray[np.int64]:
        """The samples at positions start … start+count-1, over as many epochs as that takes: [count] int64."""
        assert start >= 0, f"position {start} lies before the stream"
        assert count >= 0, f"{count} samples"
        out = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            epoch, rank = divmod(start + done, self.samples)
            piece = self._permutation(epoch)[rank : rank + count - done]
            out[done : done + len(piece)] = piece
            done += len(piece)
        return out

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        with self._lock:
            if epoch not in self._epochs:
                while len(self._epochs) >= _EPOCHS_KEPT:
                    self._epochs.pop(next(iter(self._epochs)))
                self._epochs[epoch] = epoch_permutation(self.samples, self.seed, epoch)
            return self._epochs[epoch]
