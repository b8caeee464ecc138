"""The non-exact mode: shards without an index, streamed through webdataset itself in the order in which they come.

What it gives up: a resumed run does not go on where it stopped (it begins a new pass in another order), ranks see other samples
when their number changes, and a tar that was cut between two members is not noticed. `bigan index` makes the same shards exact.
"""

import hashlib
import itertools
import math
import os
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event, Lock
from typing import Annotated, Any, BinaryIO, Literal, Self, final

import numpy as np
import torch.distributed as dist
from annotated_types import Ge, Lt
from braceexpand import braceexpand

from bigan.batch import Batch, DataSpec
from bigan.data.augmentation import Augmentation
from bigan.data.decode import IMAGES, Decoder, empty
from bigan.data.faults import Faults, SampleError
from bigan.data.fetch import RETRIES, is_remote, persist, pour, shown
from bigan.data.order import permutation
from bigan.data.stream import to_batch
from bigan.settings import Count, CountFrom0, Fraction, Threads, settings

MAX_SHARDS = 10**6
MAX_SHARD_BYTES = 2**36

_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd

Raw = tuple[str, dict[str, bytes]]
"""Where a sample is from, and its members: extension → bytes."""


@settings
class Webdataset:
    """Webdataset shards without an index, streamed: not exact, does not resume; see the module.

    Attributes:
        urls: of the shards, with {000000..000123}; paths, or URLs (http, https, s3, gs, file). Commands (pipe:…) are refused.
        image_shape: (C, H, W) of every image.
        classes: how many classes the `cls` members number; 0: they are not read.
        samples: how many samples a pass has, for what counts epochs and bad samples.
        shuffle: samples in the shuffling buffer.
        flip: mirror a random half of the images left to right.
        jitter: shift each image by up to so many pixels each way; its border is repeated.
        workers: threads that decode.
        bad_samples: the fraction of samples that may be bad, and are left out.
    """

    kind: Literal["webdataset"] = "webdataset"
    urls: str
    image_shape: tuple[Count, Count, Count]
    classes: Annotated[int, Ge(0), Lt(2**20)] = 0
    samples: Count
    shuffle: Count = 5000
    flip: bool = False
    jitter: CountFrom0 = 0
    workers: Threads = 2
    bad_samples: Fraction = 0.001

    @property
    def where(self) -> str:
        """The shards, as an error names them."""
        return self.urls

    def open(self, seed: int) -> "WebdatasetStream":
        """Begin to stream; ValueError naming what is wrong."""
        return WebdatasetStream(self, seed)

    def shards(self) -> list[str]:
        """The URLs, each checked."""
        if not self.urls:
            raise ValueError("urls: is empty; name the shards, such as shards/{000000..000099}.tar")
        if _most(self.urls) > MAX_SHARDS:  # counted first, since they are all expanded at once
            raise ValueError(f"urls: more than {MAX_SHARDS} shards")
        urls = list(braceexpand(self.urls))
        for url in urls:
            if not is_remote(url) and not os.path.isfile(url):
                raise ValueError(f"urls: {url} is no file")
        return urls


@final
class WebdatasetStream:
    """An endless stream over shards in the order in which they come; of threads that share it, each gets what comes next.

    Attributes:
        spec: what every sample has.
        fingerprint: of the settings: there is no manifest.
        faults: the bad samples that were met, by a hash of shard and key.
        notes: what a run says when it starts.
    """

    spec: DataSpec
    fingerprint: str
    faults: Faults
    notes: tuple[str, ...] = (
        "streamed without an index: not exact, a resumed run begins a new pass in another order (`bigan index` makes it exact)",
    )

    def __init__(self, settings: Webdataset, seed: int) -> None:
        names = tuple(str(label) for label in range(settings.classes))
        # Through `of`, which checks what the config says.
        self.spec = DataSpec.of(DataSpec(samples=settings.samples, image_shape=settings.image_shape, classes=names).plain())
        self._augmentation = Augmentation(seed, settings.flip, settings.jitter).fits(self.spec.image_shapes, settings.urls)
        self.fingerprint = f"{settings.urls} {settings.samples}"
        self.faults = Faults([settings.samples], settings.bad_samples, seed)
        self._decoder = Decoder(self.spec)
        self._settings, self._seed = settings, seed
        self._urls = settings.shards()
        self._rank, self._ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if len(self._urls) < self._ranks:
            raise ValueError(f"urls: {len(self._urls)} shards for {self._ranks} ranks; each rank needs one of its own")
        self._wanted = {"cls"} if settings.classes else set()
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="bigan-decode")
        self._samples: Iterator[Raw] | None = None
        self._stopped = Event()
        self._lock = Lock()

    def read(self, start: int, count: int) -> Batch:
        """The next `count` samples; `start` numbers them, and where the first read starts shuffles the passes.

        Raises:
            ValueError: naming the shard and key of a bad sample, if there are more of them than `bad_samples` allows.
        """
        rows = empty(self.spec, count)
        left = list(range(count))
        while left:
            taken = self._take(start, len(left))
            failed = self._pool.map(lambda pair: self._decoded(pair[0], rows, pair[1]), zip(taken, left, strict=True))
            left = [row for row, bad in zip(left, list(failed), strict=True) if bad]
        return to_batch(self.spec, rows, start, self._augmentation)

    def close(self) -> None:
        """End the threads."""
        self.interrupt()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def interrupt(self) -> None:
        """End what waits for the network: reads that need it fail. Only to be closed afterwards."""
        self._stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, start: int, count: int) -> list[Raw]:
        with self._lock:
            if self._samples is None:
                self._samples = self._shuffled(start)
            try:
                return list(itertools.islice(self._samples, count))
            except BaseException:
                self._samples = None  # a generator that raised is at its end
                raise

    def _decoded(self, sample: Raw, rows: dict[str, Any], row: int) -> bool:
        """Whether it failed, which was counted."""
        where, members = sample
        try:
            self._decoder.decode(members, rows, row)
        except SampleError as error:
            self._count(where, SampleError(error.kind, f"{where}{error}"))
            return True
        return False

    def _count(self, where: str, error: SampleError) -> None:
        """Each but once, however often it is met and by whichever rank: there is no index to number it by."""
        number = int.from_bytes(hashlib.blake2b(where.encode(), digest_size=6).digest(), "little")
        if self.faults.known(number) is None:
            self.faults.add(number, error)

    def _shuffled(self, start: int) -> Iterator[Raw]:
        """Samples out of a buffer, each time a random one, which the next to come replaces."""
        words = np.random.Philox(key=np.array([self._seed, start], dtype=np.uint64))
        buffer: list[Raw] = []
        for sample in self._passes(start):
            if len(buffer) < self._settings.shuffle:
                buffer.append(sample)
                continue
            place = int(words.random_raw()) % len(buffer)
            buffer[place], sample = sample, buffer[place]
            yield sample

    def _passes(self, start: int) -> Iterator[Raw]:
        number = 0
        while True:
            order = permutation(len(self._urls), self._seed, start, number)
            found = 0
            for shard in order[self._rank :: self._ranks]:
                for sample in self._members(self._urls[shard]):
                    found += 1
                    yield sample
            if not found:
                raise ValueError(f"urls: {shown(self._settings.urls)} hold no samples")
            number += 1

    def _members(self, url: str) -> Iterator[Raw]:
        """The samples of one shard: name → bytes of the members that are read."""
        from webdataset.tariterators import group_by_keys, tar_file_expander  # takes a second to import

        file = self._opened(url)  # what cannot be had ends the run; what is had and broken is counted
        try:
            with closing(file):
                for sample in group_by_keys(tar_file_expander(iter([{"url": url, "stream": file}]))):
                    members = {kind: bytes(data) for kind, data in sample.items() if kind in IMAGES or kind in self._wanted}
                    yield f"{shown(url)}: {sample['__key__']}", members
        except Exception as error:  # tarfile, the network and webdataset raise all sorts
            self._count(url, SampleError("cut", f"{shown(url)}: is no whole tar file ({type(error).__name__})"))

    def _opened(self, url: str) -> BinaryIO:
        """A shard's content; never by webdataset's own opener, which runs commands. A remote one is fetched whole first."""
        file = self._fetched(url) if is_remote(url) else _local(url)
        packed = file.read(6).startswith(_PACKED)
        file.seek(0)
        if packed:
            file.close()
            raise ValueError(f"{shown(url)}: is compressed, and may unpack to anything; unpack it")
        return file

    def _fetched(self, url: str) -> BinaryIO:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by who reads it)

        def attempt() -> None:
            file.seek(0)
            file.truncate()
            pour(url, file.write, limit=MAX_SHARD_BYTES, stall_s=RETRIES.stall_s, stopped=self._stopped)

        try:
            persist(url, attempt, RETRIES, self._stopped)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file  # pyright: ignore[reportReturnType]


def _local(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


def _most(urls: str) -> float:
    """How many names braces stand for, at most."""
    counts = []
    for inner in re.findall(r"\{([^{}]*)\}", urls):
        ends = re.fullmatch(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?\d+)?", inner)
        counts.append(abs(int(ends[2]) - int(ends[1])) + 1 if ends else max(inner.count(",") + 1, 26))
    return math.prod(counts)
