"""Read a stream ahead of the loop that trains, and bring each batch to the device while the one before is played."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol, Self, final

import torch

from bigan.batch import Batch

PATIENCE_S = 10.0
_POLL_S = 0.5


class StoppedWaitingError(ValueError):
    """The run was asked to stop while it waited for data."""


class Readable(Protocol):
    """What a Prefetcher reads: any stream that is addressed by position."""

    def read(self, start: int, count: int) -> Batch:
        """The samples at positions start … start+count-1."""
        ...


class _Carrier(Protocol):
    """Brings a batch to where it is used: `send` in the reader's thread, `receive` in the loop's."""

    def send(self, batch: Batch) -> Batch: ...

    def receive(self, batch: Batch) -> Batch: ...


@final
class _Stay:
    """Nothing is to be done for the CPU."""

    def send(self, batch: Batch) -> Batch:
        return batch

    def receive(self, batch: Batch) -> Batch:
        return batch


@final
class _Copy:
    """Copies from pinned memory on a stream of its own, so that the copy runs beside the kernels of the loop's stream.

    uint8 images travel as they are, a quarter of their floats.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def send(self, batch: Batch) -> Batch:
        pinned = batch.map(lambda tensor: tensor.pin_memory())
        with torch.cuda.stream(self._stream):
            moved = pinned.map(lambda tensor: tensor.to(self._device, non_blocking=True))
        self._stream.synchronize()  # of this thread alone; the loop then needs no event of each batch
        return moved

    def receive(self, batch: Batch) -> Batch:
        # The memory was allocated on the other stream: without this it could be given away before the loop's kernels ran.
        batch.map(lambda tensor: (tensor.record_stream(torch.cuda.current_stream(self._device)), tensor)[1])
        return batch


@final
class Prefetcher:
    """Reads a stream ahead in threads of its own: the k-th batch is `stream.read(start + k * stride, count)`.

    For rank r of R: start = position + r * count, stride = R * count. Use it as a context manager: leaving it, also by an
    exception or Ctrl-C, drops what was not begun, waits for the reads under way and ends the threads. The stream
    stays the caller's, and may be read beside it.

    Args:
        stream: what is read.
        start: position of the first batch.
        count: samples of a batch.
        stride: from one batch to the next.
        depth: how many batches are read ahead.
        device: where batches are wanted.

    Attributes:
        waited_s: seconds that `get` has waited for data so far; over the run's time it is the loader's share.
        stopping: whether the run was asked to stop, which ends a wait of more than PATIENCE_S.
    """

    waited_s: float
    stopping: Callable[[], bool]

    def __init__(
        self, stream: Readable, start: int, count: int, stride: int, depth: int = 4, device: torch.device | None = None
    ) -> None:
        assert count > 0, "a batch has samples"
        assert depth > 0, "reading ahead needs a depth"
        self.waited_s = 0.0
        self.stopping = lambda: False
        self._stream = stream
        self._next = start
        self._count = count
        self._stride = stride
        self._depth = depth
        self._carrier: _Carrier = _Stay() if device is None or device.type != "cuda" else _Copy(device)
        self._ahead: deque[Future[Batch]] = deque()
        # The stream spreads each batch over its own workers; of two batches at once, the second keeps those busy that are done
        # with the first.
        self._pool = ThreadPoolExecutor(min(2, depth), thread_name_prefix="bigan-prefetch")

    def __enter__(self) -> Self:
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def get(self, start: int, count: int) -> Batch:
        """The batch at `start`, normally the next one; any other start drops what was read ahead and goes on from there.

        Raises:
            Exception: whatever `stream.read` raised for this batch. The same batch may then be asked for again.
        """
        assert count == self._count, f"{count} samples asked of a prefetcher of {self._count}"
        if start != self._next:
            self._drop()
            self._next = start
        self._fill()
        began = time.perf_counter()
        try:
            batch = self._waited_for(self._ahead[0])
        except BaseException:
            self._drop()
            raise
        finally:
            self.waited_s += time.perf_counter() - began
        self._ahead.popleft()
        self._next += self._stride
        self._fill()
        return self._carrier.receive(batch)

    def _waited_for(self, ahead: "Future[Batch]") -> Batch:
        """A batch that is being read; while it is, a signal is heard."""
        began = time.monotonic()
        while not wait([ahead], timeout=_POLL_S).done:
            if self.stopping() and time.monotonic() - began > PATIENCE_S:
                raise StoppedWaitingError(
                    f"was asked to stop, and has waited {PATIENCE_S:g} s for data in vain; what was saved before stands"
                )
        return ahead.result()

    def _read(self, start: int) -> Batch:
        return self._carrier.send(self._stream.read(start, self._count))

    def _fill(self) -> None:
        while len(self._ahead) < self._depth:
            start = self._next + len(self._ahead) * self._stride
            self._ahead.append(self._pool.submit(self._read, start))

    def _drop(self) -> None:
        while self._ahead:
            self._ahead.pop().cancel()
