"""Bad samples: counted by kind, replaced by others in a repeatable way, and too many of them end the run."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, final

import numpy as np

from bigan.data.hashing import GOLDEN, mixed

Kind = Literal["cut", "changed", "unreadable", "index", "member", "image", "shape", "label", "attributes", "caption", "array"]


class SampleError(ValueError):
    """One sample cannot be used.

    Attributes:
        kind: cut (the shard ends within it), changed (its CRC-32 is not the index's), unreadable (the file system), index
            (its shard's index cannot be used), member (a kind that is not read, or one that is missing), image (cannot be
            decoded), shape (size or channels are not the manifest's), label, attributes, caption, array (not what the
            manifest says).
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind


@final
class Faults:
    """The bad samples of a stream that this process has met. Threads may share it.

    Args:
        counts: samples of each shard.
        budget: the fraction of them that may be bad; 0.001 of 999 samples is none.
        seed: of the replacements.
        hint: what the error over the budget adds.

    Attributes:
        allowed: how many samples may be bad.
    """

    allowed: int

    def __init__(self, counts: Sequence[int], budget: float, seed: int, hint: str = "") -> None:
        self._ends = np.cumsum(counts)
        self._samples, self._seed = int(self._ends[-1]), seed
        self.allowed = int(self._samples * budget)
        self._hint = hint
        self._bad: dict[int, SampleError] = {}
        self._lock = threading.Lock()

    def add(self, sample: int, error: SampleError) -> None:
        """Note a bad sample.

        Raises:
            ValueError: naming it, if it is one too many.
        """
        with self._lock:
            self._bad.setdefault(sample, error)
            if len(self._bad) > self.allowed:
                counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self._counts().items()))
                raise ValueError(
                    f"{error} (bad samples so far: {counts}; `bad_samples` allows {self.allowed} of {self._samples}"
                    f"{self._hint})"
                ) from error

    def learn(self, records: Mapping[int, tuple[Kind, str]]) -> None:
        """Note what other ranks, or this run before it was stopped, have met; ValueError if it is too many."""
        for sample, (kind, message) in records.items():
            if sample not in self._bad:
                self.add(sample, SampleError(kind, message))

    @property
    def records(self) -> dict[int, tuple[Kind, str]]:
        """The bad samples: number → (kind, one line), in the order in which they were met."""
        with self._lock:
            return {sample: (error.kind, str(error)) for sample, error in self._bad.items()}

    @property
    def numbers(self) -> list[int]:
        """The bad samples' numbers, in the order in which they were met."""
        with self._lock:
            return list(self._bad)

    def known(self, sample: int) -> SampleError | None:
        """Why a sample is bad, if that is known: an error to raise (a new one, or its traceback would grow with each)."""
        error = self._bad.get(sample)
        return None if error is None else SampleError(error.kind, str(error))

    def replacements(self, sample: int) -> Iterator[int]:
        """Which samples to take instead of a bad one, the first that is good: a function of (seed, sample) alone.

        Eight of the same shard, which is at hand, then eight of all, then all, one after the other.
        """
        shard = int(self._ends.searchsorted(sample, side="right"))
        first = int(self._ends[shard - 1]) if shard else 0
        key = mixed(np.array([self._seed], dtype=np.uint64)) + np.uint64(sample)
        words = mixed(mixed(key) + np.arange(1, 17, dtype=np.uint64) * GOLDEN).tolist()
        yield from (first + word % (int(self._ends[shard]) - first) for word in words[:8])
        yield from (word % self._samples for word in words[8:])
        yield from ((sample + step) % self._samples for step in range(1, self._samples))

    @property
    def kinds(self) -> Counter[Kind]:
        """How many samples are bad, by kind."""
        with self._lock:
            return self._counts()

    def _counts(self) -> Counter[Kind]:
        return Counter(error.kind for error in self._bad.values())
