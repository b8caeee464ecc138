"""Verify a packed set: every byte is read, every sample decoded, and all that is wrong is listed."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from bigan.data.faults import SampleError
from bigan.data.index import ShardIndex
from bigan.data.manifest import Manifest, missing, sha256_of
from bigan.data.publish import OURS

J = TypeVar("J")
R = TypeVar("R")

MOST = 20  # samples named of one shard; a damaged shard may have thousands


@dataclass(frozen=True)
class Finding:
    """Something wrong: its kind (those of `SampleError`, and missing, length, sha256, index, foreign), and one line."""

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


def check(
    folder: Path, *, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> tuple[Manifest, list[Finding]]:
    """Read and decode a packed set.

    Args:
        folder: with its manifest.json.
        workers: processes.
        progress: called with (shards done, shards in all).

    Returns:
        the manifest, and all that is wrong, in the order of the shards.

    Raises:
        ValueError: if there is no manifest, or it is broken.
    """
    manifest = Manifest.load(folder)
    findings = [Finding("foreign", f"{folder / name}: is not in the manifest") for name in _foreign(folder, manifest)]
    jobs = [(folder, manifest.sha256, number) for number in range(len(manifest.shards))]
    for done, found in enumerate(per_shard(_shard, jobs, workers), 1):
        findings += found
        if progress is not None:
            progress(done, len(manifest.shards))
    return manifest, findings


def per_shard(work: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[R]:
    """Do one job a shard on some processes; what came of them, in the order of the jobs."""
    if workers < 1:
        raise ValueError(f"workers: {workers}; at least 1")
    if min(workers, len(jobs)) == 1:
        yield from map(work, jobs)
        return
    # Spawned: a fork of a process whose threads hold locks may wait for ever.
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs)


@lru_cache(maxsize=1)
def _loaded(folder: Path, _sha256: str) -> Manifest:
    """The manifest, once in each process."""
    return Manifest.load(folder)


def _shard(job: tuple[Path, str, int]) -> list[Finding]:
    folder, sha256, number = job
    manifest = _loaded(folder, sha256)
    entry = manifest.shards[number]
    path = folder / entry.name
    problem = missing(folder, entry)
    if problem and not os.path.isfile(path):
        return [Finding("missing", problem)]
    findings = [Finding("length", problem)] if problem else []
    try:
        if not problem and sha256_of(path) != entry.sha256:
            findings.append(Finding("sha256", f"{path}: its SHA-256 is not the manifest's; copy or pack it again"))
        index = ShardIndex.load(folder, entry)
    except ValueError as error:
        return [*findings, Finding("index", str(error))]
    if not findings:
        findings += _headers(path, index)
    samples = list(_samples(folder, number, manifest))
    if len(samples) > MOST:
        samples[MOST:] = [Finding(samples[MOST].kind, f"{path}: and {len(samples) - MOST} samples more")]
    return findings + samples


def _headers(path: Path, index: ShardIndex) -> list[Finding]:
    """Whether the index says what the shard's own headers say, which is what plain webdataset reads."""
    try:
        same = ShardIndex.build(path).dump() == index.dump()
    except ValueError as error:
        return [Finding("index", str(error))]
    return [] if same else [Finding("index", f"{path}: its index does not describe it; pack it again")]


def _samples(folder: Path, shard: int, manifest: Manifest) -> Iterator[Finding]:
    from bigan.data.decode import empty  # its decoders take a while to import, which the packing need not wait for
    from bigan.data.places import Folder
    from bigan.data.reader import ShardReader

    reader = ShardReader(Folder(folder), manifest)
    row = empty(manifest.spec, 1)
    for rank in range(manifest.shards[shard].samples):
        try:
            reader.read(shard, rank, row, 0)
        except SampleError as error:
            yield Finding(error.kind, str(error))
    reader.close()


def _foreign(folder: Path, manifest: Manifest) -> Sequence[str]:
    named = {name for entry in manifest.shards for name in (entry.name, entry.index_name)}
    return [
        name for name in sorted(os.listdir(folder)) if name.startswith("shard-") and OURS.fullmatch(name) and name not in named
    ]
