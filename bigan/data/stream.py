"""Read a packed data set by position: the settings (`Shards`), the stream they open, and reading ahead (`Prefetcher`)."""

import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self, final

import numpy as np
import torch
from numpy.typing import NDArray

from bigan.batch import Batch, DataSpec
from bigan.data.decode import decode_sample
from bigan.data.index import ShardIndex, verify
from bigan.data.order import Order
from bigan.settings import settings

# Sets up to this size stay decoded in memory: a set that small is read over and over (1,797 digits: an epoch is a few
# seconds), and decoding it each time would take the cores that train. Bytes of uint8 pixels, a process.
CACHE_BYTES = 256 * 2**20
OPEN_SHARDS = 256  # files a stream keeps open; the usual limit of a process is 1024


@settings
class Shards:
    """A data set that `bigan pack` made.

    Attributes:
        path: the folder with its manifest.json.
        flip: mirror a random half of the images left to right, decided by each image's position in the stream.
        workers: threads that decode. Two keep up with a training loop that shares its cores; raise it for large images.
        classes: how many classes the data must have; not checked unless given.
    """

    kind: Literal["shards"] = "shards"
    path: str
    flip: bool = False
    workers: int = 2
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers: {self.workers}; at least 1 thread must decode")

    def open(self, seed: int) -> "ShardStream":
        """Check the folder and open the endless stream that this seed orders; ValueError naming what is wrong."""
        return ShardStream(self, seed)


@final
class ShardStream:
    """The endless stream over a packed data set; what it gives is a function of (settings, seed, position) alone.

    Threads may share it. Close it, or leave it to the garbage collector.
    """

    spec: DataSpec

    def __init__(self, settings: Shards, seed: int, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._folder = Path(settings.path)
        self._manifest = verify(self._folder)
        if settings.classes not in (None, len(self._manifest.classes)):
            raise ValueError(f"classes: the config says {settings.classes}, {self._folder} has {len(self._manifest.classes)}")
        self._flip = settings.flip
        self._order = Order(self._manifest.samples, seed)
        manifest = self._manifest
        self.spec = DataSpec(samples=manifest.samples, image_shape=manifest.image_shape, classes=manifest.classes)
        self._ends = np.cumsum([shard.samples for shard in self._manifest.shards])
        self._indices: dict[int, ShardIndex] = {}
        self._files = _Files()
        self._workers = settings.workers
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="bigan-decode")
        small = self.spec.samples * int(np.prod(self._manifest.image_shape)) <= cache_bytes
        self._cache = _Rows.empty(self.spec.samples, self._manifest.image_shape) if small else None
        self._cached = np.zeros(self.spec.samples if small else 0, dtype=bool)

    def read(self, start: int, count: int) -> Batch:
        """The samples at positions start … start+count-1 of the endless stream.

        Returns:
            "images" uint8 [count, C, H, W] and, where the data has classes, "labels" int64 [count].

        Raises:
            ValueError: naming the shard and the key that cannot be read or is not what the manifest says.
        """
        samples = self._order.samples_at(start, count)
        rows = self._decoded(samples)
        if self._flip:
            mirrored = flips(self._order.seed, start, count)
            rows.images[mirrored] = rows.images[mirrored][..., ::-1]
        fields = {"images": torch.from_numpy(rows.images)}
        if self.spec.classes:
            fields["labels"] = torch.from_numpy(rows.labels)
        return Batch(torch.from_numpy(np.arange(start, start + count, dtype=np.int64)), fields)

    def close(self) -> None:
        """End the threads and close the files."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decoded(self, samples: NDArray[np.int64]) -> "_Rows":
        if self._cache is None:
            rows = _Rows.empty(len(samples), self._manifest.image_shape)
            self._decode(samples, rows, range(len(samples)))
            return rows
        # Two threads may decode the same sample at once: both write the same bytes, and the mark comes after them.
        missing = np.unique(samples[~self._cached[samples]])
        self._decode(missing, self._cache, missing)
        self._cached[missing] = True
        return _Rows(self._cache.images[samples], self._cache.labels[samples])

    def _decode(
        self, samples: Sequence[int] | NDArray[np.int64], into: "_Rows", rows: Sequence[int] | NDArray[np.int64]
    ) -> None:
        """Decode samples into the given rows, split over the threads (Pillow and pread let go of the interpreter's lock)."""

        def piece(worker: int) -> None:
            for sample, row in zip(samples[worker :: self._workers], rows[worker :: self._workers], strict=True):
                self._decode_one(int(sample), into, int(row))

        if len(samples) > 0:
            list(self._pool.map(piece, range(min(self._workers, len(samples)))))

    def _decode_one(self, sample: int, into: "_Rows", row: int) -> None:
        shard = int(np.searchsorted(self._ends, sample, side="right"))
        entry = self._manifest.shards[shard]
        index = self._indices.get(shard)
        if index is None:  # read when first needed; two threads that do so at once read the same
            index = self._indices[shard] = ShardIndex.load(self._folder, entry)
        rank = sample - (int(self._ends[shard]) - entry.samples)
        path = self._folder / entry.name
        where = f"{path}: {index.keys[rank]}"
        members = {kind: self._files.read(path, *place, where) for kind, place in index.locate(rank).items()}
        image, label = decode_sample(members, self.spec, where)
        into.images[row] = image.numpy()
        into.labels[row] = 0 if label is None else label


@dataclass(frozen=True)
class _Rows:
    """Decoded samples: images uint8 [N, C, H, W], labels int64 [N] (zeros where the data has no classes).

    In numpy: a torch operator in a reader's thread would start an OpenMP team beside the one that trains.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @classmethod
    def empty(cls, count: int, shape: tuple[int, int, int]) -> "_Rows":
        """Room for `count` samples; pages that no row has touched stay the system's."""
        return cls(np.empty((count, *shape), dtype=np.uint8), np.empty(count, dtype=np.int64))


@final
class _File:
    """An open file that closes when its last user lets go of it: eviction cannot close it under a thread that reads."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


@final
class _Files:
    """Open shards, the least recently read ones closed beyond OPEN_SHARDS."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _File] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: Path, offset: int, size: int, where: str) -> bytes:
        try:
            file = self._file(path)  # held by name: it closes with its last reference
            data = os.pread(file.descriptor, size, offset)
        except OSError as error:
            raise ValueError(f"{where}: cannot be read ({error.strerror})") from error
        if len(data) != size:
            raise ValueError(f"{where}: the shard ends within this member; copy or pack it again")
        return data

    def close(self) -> None:
        with self._lock:
            self._open.clear()

    def _file(self, path: Path) -> _File:
        with self._lock:
            file = self._open.pop(path, None) or _File(path)
            self._open[path] = file
            while len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
            return file


def flips(seed: int, start: int, count: int) -> NDArray[np.bool_]:
    """Which of the positions start … start+count-1 are mirrored: [count] bool, a hash of (seed, position).

    SplitMix64's finalizer (Steele, Lea, Flood 2014) over the position, offset by the hashed seed.
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    offset = _mixed(np.array([seed], dtype=np.uint64) + golden)
    positions = np.arange(start, start + count, dtype=np.uint64)
    return (_mixed((positions + offset) * golden) >> np.uint64(63)).astype(np.bool_)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Readable(Protocol):
    """What a Prefetcher reads: any stream that is addressed by position."""

    def read(self, start: int, count: int) -> Batch:
        """The samples at positions start … start+count-1."""
        ...


@final
class Prefetcher:
    """Reads a stream ahead in a thread of its own: the k-th batch is `stream.read(start + k * stride, count)`.

    For rank r of R: start = position + r * count, stride = R * count. Use it as a context manager: leaving it, also by an
    exception or Ctrl-C, drops what was not begun, waits for the one read under way and ends the thread. The stream
    stays the caller's, and may be read beside it.

    Attributes:
        waited_s: seconds that `get` has waited for data so far; over the run's time it is the loader's share.
    """

    waited_s: float

    def __init__(self, stream: Readable, start: int, count: int, stride: int, depth: int = 4) -> None:
        assert count > 0, "a batch has samples"
        assert depth > 0, "reading ahead needs a depth"
        self.waited_s = 0.0
        self._stream = stream
        self._next = start
        self._count = count
        self._stride = stride
        self._depth = depth
        self._ahead: deque[Future[Batch]] = deque()
        # One thread is enough: the stream spreads a batch over its own workers.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="bigan-prefetch")

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
            batch = self._ahead[0].result()
        except BaseException:
            self._drop()
            raise
        finally:
            self.waited_s += time.perf_counter() - began
        self._ahead.popleft()
        self._next += self._stride
        self._fill()
        return batch

    def _fill(self) -> None:
        while len(self._ahead) < self._depth:
            start = self._next + len(self._ahead) * self._stride
            self._ahead.append(self._pool.submit(self._stream.read, start, self._count))

    def _drop(self) -> None:
        while self._ahead:
            self._ahead.pop().cancel()
