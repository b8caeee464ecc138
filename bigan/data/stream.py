"""Read a packed data set by position: the settings (`Shards`) and the stream that they open."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal, Self, final

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray

from bigan.batch import Batch, DataSpec
from bigan.data.augmentation import Augmentation
from bigan.data.buffers import Buffers
from bigan.data.cache import ShardCache
from bigan.data.decode import empty
from bigan.data.faults import Faults, SampleError
from bigan.data.fetch import is_remote
from bigan.data.manifest import ShardEntry
from bigan.data.order import WINDOW, Order
from bigan.data.places import Folder, Place, Remote
from bigan.data.reader import ShardReader
from bigan.settings import Count, CountFrom0, Fraction, Positive, Threads, settings

# Sets up to this size stay decoded in memory: a set that small is read over and over (1,797 digits: an epoch is a few
# seconds), and decoding it each time would take the cores that train. Bytes, a process.
DECODED_BYTES = 256 * 2**20

UNSHUFFLED_BLOCK = 64

_CHUNK = 32  # samples that a thread reads at once


@settings
class Shards:
    """A data set that `bigan pack` made, or `bigan index` indexed.

    Attributes:
        path: the folder with its manifest.json, or the URL of one (http, https, s3, gs, file).
        flip: mirror a random half of the images left to right, decided by each image's position in the stream.
        jitter: shift each image by up to so many pixels each way, decided alike; its border is repeated.
        workers: threads that decode. Two keep up with a training loop that shares its cores; raise it for large images.
        classes: how many classes the data must have; not checked unless given.
        window: about how many samples are shuffled with each other; a set no larger is shuffled whole.
        block: samples of a shard that stay together when windows are formed. Unless given, a whole shard where the packing
            shuffled, and 64 where it did not, since such shards may be sorted by class.
        bad_samples: the fraction of samples that may be bad and are replaced; one more ends the run.
        cache: where shards of a URL are kept; $BIGAN_CACHE or ~/.cache/bigan unless given.
        cache_gb: how much the cache may hold, in GB (10^9 bytes), over all runs that share it.
    """

    kind: Literal["shards"] = "shards"
    path: str
    flip: bool = False
    jitter: CountFrom0 = 0
    workers: Threads = 2
    classes: Annotated[int, Ge(0)] | None = None
    window: Count = WINDOW
    block: Count | None = None
    bad_samples: Fraction = 0.001
    cache: str | None = None
    cache_gb: Positive = 50.0

    @property
    def where(self) -> str:
        """The folder or URL, as an error names it."""
        return self.path

    def open(self, seed: int) -> "ShardStream":
        """Check the folder and open the endless stream that this seed orders; ValueError naming what is wrong."""
        return ShardStream(self, seed)

    def place(self) -> Place:
        """Where the shards lie; nothing is read yet."""
        if is_remote(self.path):
            return Remote(self.path, ShardCache(cache_folder(self.cache), int(self.cache_gb * 1e9)))
        return Folder(Path(self.path))


@final
class ShardStream:
    """The endless stream over a packed data set; what it gives is a function of (settings, seed, position) alone.

    Threads may share it. Close it: what waits for the network keeps a process alive.

    Attributes:
        spec: what every sample has.
        fingerprint: of the data, for a checkpoint to know it again.
        faults: the bad samples that were met.
        entries: the shards.
        notes: what a run says when it starts.
    """

    spec: DataSpec
    fingerprint: str
    faults: Faults
    entries: tuple[ShardEntry, ...]
    notes: tuple[str, ...] = ()

    def __init__(self, settings: Shards, seed: int, *, decoded_bytes: int = DECODED_BYTES) -> None:
        self._place = settings.place()
        manifest = self._place.manifest()
        if settings.classes not in (None, len(manifest.spec.classes)):
            raise ValueError(f"classes: the config says {settings.classes}, {settings.path} has {len(manifest.spec.classes)}")
        self.spec, self.fingerprint = manifest.spec, manifest.sha256
        self._augmentation = Augmentation(seed, settings.flip, settings.jitter).fits(self.spec.image_shapes, settings.path)
        counts = [entry.samples for entry in manifest.shards]
        hint = "" if is_remote(settings.path) else f"; `bigan pack {settings.path} --check` lists them all"
        self.faults = Faults(counts, settings.bad_samples, seed, hint)
        self.entries = manifest.shards
        self._refuse_missing()
        self._order = Order(counts, seed, settings.window, settings.block or (None if manifest.shuffled else UNSHUFFLED_BLOCK))
        self._refuse_small_cache(settings)
        self._ends = np.cumsum(counts)
        self._starts = self._ends - np.array(counts)
        self._reader = ShardReader(self._place, manifest, kept=3 * self._order.blocks_per_window)
        self._announced = -1
        self._workers = settings.workers
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="bigan-decode")
        small = self.spec.samples * sum(row.nbytes for row in empty(self.spec, 1).values()) <= decoded_bytes
        # Pages that no row has touched stay the system's.
        self._decoded = empty(self.spec, self.spec.samples) if small else None
        self._is_decoded = np.zeros(self.spec.samples if small else 0, dtype=bool)
        self._bad_seen = 0
        self._buffers = Buffers()
        self._lock = Lock()

    def read(self, start: int, count: int) -> Batch:
        """The samples at positions start … start+count-1 of the endless stream.

        Returns:
            the fields that `spec` promises, on the CPU; "images" uint8 [count, C, H, W], channels_last.

        Raises:
            ValueError: naming the shard and the key of a bad sample, if there are more of them than `bad_samples` allows.
        """
        samples = self._order.samples_at(start, count)
        self._announce(start, count)
        rows = self._rows(samples)
        return to_batch(self.spec, rows, start, self._augmentation)

    def close(self) -> None:
        """End the threads and close the files."""
        self.interrupt()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._reader.close()

    def interrupt(self) -> None:
        """End what waits for the network: reads that need it fail. Only to be closed afterwards."""
        self._place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_missing(self) -> None:
        """Shards that are missing as a whole count as bad samples before the first is read."""
        gone = 0
        for entry in self.entries:
            if problem := self._place.missing(entry):
                gone += 1 if os.path.isfile(self._place.name(entry)) else entry.samples
                if gone > self.faults.allowed:
                    raise ValueError(problem)

    def _refuse_small_cache(self, settings: Shards) -> None:
        """Two windows must fit: the one that is read and the one that is fetched, or shards would be fetched over and over."""
        if is_remote(settings.path):
            shards = min(len(self.entries), 2 * self._order.blocks_per_window)
            need = sum(sorted((entry.bytes for entry in self.entries), reverse=True)[:shards])
            if need > settings.cache_gb * 1e9:
                raise ValueError(
                    f"cache_gb: {settings.cache_gb:g} cannot hold two windows of {settings.window} samples ({need / 1e9:.3g} "
                    f"GB, from {shards} shards); raise it, or lower window, or set block to the samples of a shard"
                )

    def _announce(self, start: int, count: int) -> None:
        """Tell the place which shards are needed next: those of this window and of the one after it, once a window."""
        samples, first = self._order.window_at(start + count - 1)
        if first != self._announced:
            self._announced = first
            following, _ = self._order.window_at(first + len(samples))
            shards = dict.fromkeys(np.searchsorted(self._ends, np.concatenate([samples, following]), side="right").tolist())
            self._place.ahead([self.entries[shard] for shard in shards])  # in the order in which they are needed

    def _rows(self, samples: NDArray[np.int64]) -> dict[str, NDArray]:
        if self._decoded is None:
            rows = empty(self.spec, len(samples), self._buffers.take)
            self._decode(samples, rows, range(len(samples)))
            return rows
        with self._lock:  # nobody copies a row while it is decoded, perhaps to something that is then replaced
            self._forget_bad()
            missing = np.unique(samples[~self._is_decoded[samples]])
            self._decode(missing, self._decoded, missing.tolist())
            self._is_decoded[missing] = True
            return {name: values[samples] for name, values in self._decoded.items()}

    def _forget_bad(self) -> None:
        """What other ranks found bad, this one may have decoded as it is; replacements depend on what else is bad."""
        bad = self.faults.numbers
        if len(bad) > self._bad_seen:
            self._is_decoded[bad] = False
            self._bad_seen = len(bad)

    def _decode(self, samples: NDArray[np.int64], into: dict[str, NDArray], rows: Sequence[int]) -> None:
        """Decode samples into the given rows, split over the threads (decoders and reads let go of the interpreter's lock)."""
        shards, ranks = self._located(samples)
        jobs = list(zip(samples.tolist(), shards, ranks, rows, strict=True))

        def piece(worker: int) -> None:
            mine = jobs[worker :: self._workers]
            for first in range(0, len(mine), _CHUNK):
                self._decode_chunk(mine[first : first + _CHUNK], into)

        if jobs:
            list(self._pool.map(piece, range(min(self._workers, len(jobs)))))

    def _decode_chunk(self, jobs: Sequence[tuple[int, int, int, int]], into: dict[str, NDArray]) -> None:
        """Decode (sample, shard, rank, row) each."""
        try:
            contents = self._reader.fetch([(shard, rank) for _, shard, rank, _ in jobs])
        except (SampleError, OSError):
            contents = [None] * len(jobs)  # one by one, to find which
        read, known = self._reader.read, self.faults.known
        for (sample, shard, rank, row), data in zip(jobs, contents, strict=True):
            try:
                if (fault := known(sample)) is not None:
                    raise fault
                read(shard, rank, into, row, data)
            except SampleError as error:
                self._replace(sample, error, into, row)

    def _located(self, samples: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """The samples' shards, and their ranks there."""
        shards = self._ends.searchsorted(samples, side="right")
        return shards.tolist(), (samples - self._starts[shards]).tolist()

    def _replace(self, sample: int, error: SampleError, into: dict[str, NDArray], row: int) -> None:
        self.faults.add(sample, error)
        for other in self.faults.replacements(sample):
            if self.faults.known(other) is None:
                ((shard,), (rank,)) = self._located(np.array([other]))
                try:
                    return self._reader.read(shard, rank, into, row)
                except SampleError as worse:
                    self.faults.add(other, worse)
        raise ValueError(f"{error} (and no other sample is good)") from error


def to_batch(spec: DataSpec, rows: dict[str, NDArray], start: int, augmentation: Augmentation | None = None) -> Batch:
    """Rows (from `empty`) as a batch at positions start, start + 1, …

    Args:
        spec: of the data set.
        rows: name → array; images [N, H, W, C] become [N, C, H, W], channels_last, without a copy.
        start: position of the first.
        augmentation: how images are seen; as they are unless given.
    """
    pictures = frozenset(spec.image_shapes)
    if augmentation is not None:
        rows = augmentation.augmented(rows, pictures, start)
    tensors = {name: torch.from_numpy(values) for name, values in rows.items()}
    fields = {name: tensor.permute(0, 3, 1, 2) if name in pictures else tensor for name, tensor in tensors.items()}
    count = len(next(iter(rows.values())))
    return Batch(torch.from_numpy(np.arange(start, start + count, dtype=np.int64)), fields, pictures)


def cache_folder(named: str | None) -> Path:
    """Where fetched shards are kept: the named folder, else $BIGAN_CACHE, else ~/.cache/bigan."""
    return Path(named or os.environ.get("BIGAN_CACHE") or Path.home() / ".cache" / "bigan")
