"""Reading ahead: in order, only so far, and gone without a trace when it ends."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigan.batch import Batch
from bigan.data import ahead as ahead_module
from bigan.data.ahead import Prefetcher


class Numbers:
    """A stream whose k-th sample is k; it may be slow, fail once or block."""

    def __init__(self, delay_s: float = 0.0, failing: int | None = None) -> None:
        self.delay_s = delay_s
        self.failing = failing
        self.reads: list[int] = []

    def read(self, start: int, count: int) -> Batch:
        self.reads.append(start)
        time.sleep(self.delay_s)
        if self.failing is not None and start == self.failing:
            self.failing = None
            raise ValueError(f"sample {start}")
        index = torch.arange(start, start + count)
        return Batch(index, {"x": index})


def prefetch_threads() -> int:
    return sum(thread.name.startswith("bigan-prefetch") for thread in threading.enumerate())


@given(start=st.integers(0, 100), count=st.integers(1, 8), ranks=st.integers(1, 4), depth=st.integers(1, 6))
def test_batches_come_in_order(start: int, count: int, ranks: int, depth: int) -> None:
    stream = Numbers()
    stride = ranks * count
    with Prefetcher(stream, start, count, stride, depth) as ahead:
        for step in range(10):
            at = start + step * stride
            assert ahead.get(at, count)["x"].tolist() == list(range(at, at + count))
    assert sorted(stream.reads) == [start + step * stride for step in range(len(stream.reads))]
    assert len(stream.reads) <= 10 + depth


def test_it_reads_ahead_only_so_far() -> None:
    stream = Numbers()
    with Prefetcher(stream, 0, 2, 2, depth=3) as ahead:
        ahead.get(0, 2)
        deadline = time.monotonic() + 5
        while len(stream.reads) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)
        assert sorted(stream.reads) == [0, 2, 4, 6]


def test_any_other_start_is_served_too() -> None:
    with Prefetcher(Numbers(), 0, 2, 6) as ahead:
        for start in (0, 6, 12, 3, 9, 0):
            assert ahead.get(start, 2)["x"].tolist() == [start, start + 1]


def test_a_readers_exception_reaches_the_caller_and_may_be_tried_again() -> None:
    with Prefetcher(Numbers(failing=8), 0, 4, 4) as ahead:
        ahead.get(0, 4)
        ahead.get(4, 4)
        with pytest.raises(ValueError, match="sample 8"):
            ahead.get(8, 4)
        assert ahead.get(8, 4)["x"].tolist() == [8, 9, 10, 11]
        assert ahead.get(12, 4)["x"].tolist() == [12, 13, 14, 15]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_it_ends_its_threads_on_any_exception(error: type[BaseException]) -> None:
    before = prefetch_threads()
    stream = Numbers(delay_s=0.05)

    def interrupted() -> None:
        with Prefetcher(stream, 0, 1, 1, depth=6) as ahead:
            ahead.get(0, 1)
            assert prefetch_threads() == before + 2
            raise error

    with pytest.raises(error):
        interrupted()
    assert prefetch_threads() == before
    assert len(stream.reads) <= 4  # it waited for the reads under way, not for all six


def test_it_counts_the_time_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 13.5, 20.0, 20.25])
    with Prefetcher(Numbers(), 0, 1, 1, depth=2) as ahead:
        monkeypatch.setattr(ahead_module.time, "perf_counter", lambda: next(ticks))
        ahead.get(0, 1)
        assert ahead.waited_s == 3.5
        ahead.get(1, 1)
        assert ahead.waited_s == 3.75
