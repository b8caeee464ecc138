"""How two ways of computing the same thing are compared: alternated pairs of times, and peaks of live bytes."""

import statistics
import subprocess
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SLOPE = 0.2
MEASURED = ("csrc", "bigan/ops", "bigan/pullback", "bigan/penalties.py", "bigan/networks", "setup.py", "benchmarks")
Thunk = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One measurement; it `holds` where the value is on the right side of the target.

    `lowest` and `highest` are over separate processes: where memory happens to lie moves a small row by a third.
    `theirs` and `ours` are what the value is the ratio of: milliseconds, or MiB.
    """

    name: str
    value: float
    unit: str
    target: float
    holds: bool
    theirs: float
    ours: float
    lowest: float
    highest: float


def milliseconds(thunk: Thunk, repeat: int) -> float:
    # The thread's own time: what other processes take of the core is not counted.
    start = time.thread_time()
    for _ in range(repeat):
        thunk()
    return (time.thread_time() - start) * 1e3 / repeat


def compare(
    name: str, theirs: Thunk, ours: Thunk, at_least: float, *, pairs: int = 20, unit: str = "times eager's speed"
) -> Row:
    """Time alternated pairs, each side long enough (10 ms) for the clock, and take the median of (their time / our time)."""
    found, medians = _ratios(theirs, ours, pairs)
    speed = round(found, 2)
    return Row(name, speed, unit, at_least, speed >= at_least, *medians, lowest=speed, highest=speed)


def price(name: str, theirs: Thunk, ours: Thunk, at_most: float, *, pairs: int = 20, unit: str) -> Row:
    """As `compare`, the other way round: our time over theirs."""
    found, medians = _ratios(theirs, ours, pairs)
    ratio = round(1 / found, 2)
    return Row(name, ratio, unit, at_most, ratio <= at_most, *medians, lowest=ratio, highest=ratio)


def _ratios(theirs: Thunk, ours: Thunk, pairs: int) -> tuple[float, list[float]]:
    for thunk in (theirs, ours):
        milliseconds(thunk, 3)
    repeat = max(1, round(10 / max(milliseconds(theirs, 3), 1e-3)))
    sides = [], []
    for index in range(pairs):
        for side in (0, 1) if index % 2 == 0 else (1, 0):
            sides[side].append(milliseconds((theirs, ours)[side], repeat))
    return statistics.median(a / b for a, b in zip(*sides, strict=True)), [round(statistics.median(s), 3) for s in sides]


def memory(name: str, theirs: Thunk, ours: Thunk, at_most: float) -> Row:
    """Our peak of live bytes over theirs."""
    peaks = []
    for thunk in (theirs, ours):
        with Live() as live:
            thunk()
        peaks.append(live.peak / 2**20)
    ratio = round(peaks[1] / peaks[0], 2)
    sides = [round(peak, 1) for peak in peaks]
    return Row(name, ratio, "of eager's peak live MiB", at_most, ratio <= at_most, *sides, lowest=ratio, highest=ratio)


class Live(TorchDispatchMode):
    """Counts the storage that operators allocate within, while it lives; what an operator frees itself is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in args if isinstance(tensor, Tensor)}  # of a view, it is not new
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in given:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.live -= size
        self._seen.discard(key)


def median_row(rows: Sequence[Row]) -> Row:
    """The middle one of the same row from several processes."""
    values = sorted(row.value for row in rows)
    middle = next(row for row in rows if row.value == values[len(values) // 2])
    return replace(middle, lowest=values[0], highest=values[-1])


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    error = float((found.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-30))
    assert error <= tolerance, f"outputs differ by {error:.1e}: not timed"


def commit() -> str:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if git.returncode != 0:
        return "none yet"
    command = ["git", "status", "--porcelain", "--untracked-files=no", "--", *MEASURED, ":!benchmarks/results"]
    changed = subprocess.run(command, capture_output=True, text=True, check=True)
    return git.stdout.strip() + (" and uncommitted changes" if changed.stdout else "")
