"""Write a source's images, brought to one size, into webdataset shards with an index. The same request gives the same bytes.

Shard k holds the k-th `samples_per_shard` items of the listing, less those that cannot be read: each is a job of its own, so
that neither the number of processes nor a kill changes a byte.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bigan.data.fit import GREY_MODES, Encoding, encoders, only_bombs_are_heard
from bigan.data.manifest import Manifest
from bigan.data.plan import Plan
from bigan.data.publish import SKIPPED, beside, discard, locked, present, put_in_place, refuse_foreign, told
from bigan.data.shard_writer import ColourError, ReadError, Writer, printable
from bigan.data.sources import Source
from bigan.data.unfinished import Unfinished
from bigan.data.workers import run

_AUTO_IMAGES = 16  # readable samples that decide between grey and colour

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """What came of a packing.

    Attributes:
        folder: where the data set lies, or will.
        shards: how many there are to be, those without a readable image among them.
        finished: how many of them are; fewer than all only where other parts are still at work.
        published: what the data set holds; None until all shards are finished.
        skipped: (name in the source, reason) of the images that could not be read, then of the files whose
            suffix is not read; `skipped.txt` says the same. Until all shards are finished: this part's images.
        up_to_date: it was there already, made from the same source with the same settings, and nothing was written.
    """

    folder: Path
    shards: int
    finished: int
    published: Manifest | None
    skipped: tuple[tuple[str, str], ...] = ()
    up_to_date: bool = False

    @property
    def manifest(self) -> Manifest:
        """What the data set holds, where all shards are finished."""
        assert self.published is not None, f"{self.shards - self.finished} shards are missing yet"
        return self.published


def pack(
    source: Source,
    out: str | Path,
    *,
    size: int | tuple[int, int],
    channels: int | None = None,
    format: str = "png",
    quality: int | None = None,
    samples_per_shard: int = 1000,
    keep_order: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    part: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack a source into the folder `out`, which appears whole or not at all: it is written as OUT.incomplete.

    A packing that was ended, by whatever, keeps its finished shards there, and the same call goes on with it. One packing at
    a time: OUT.lock keeps a second one out. Parts of one packing run at the same time, on all machines that share the folder.

    Args:
        source: from `open_source`.
        out: the folder to make.
        size: (height, width) in pixels, or the side of a square. Images are cropped about their centre to its aspect, then
            resized (Lanczos down, bicubic up).
        channels: 1 (grey), 3 (RGB), or None: 1 if the first readable images are all grey, else 3.
        format: how images are stored: "png", "jpg" or "webp".
        quality: 1 … 100; without it a jpg has 95, and a webp loses nothing.
        samples_per_shard: fixed, the last shard takes the rest.
        keep_order: leave the samples in the source's order, instead of dealing them out to the shards at random. A set that
            is sorted by class is then also read so where only a few of its shards can be open at a time.
        overwrite: replace a data set at `out`, and discard an unfinished one of another request; a folder with anything else
            in it is never touched.
        workers: processes; with several, the source's items must pickle.
        part: (i, n): write only shards i, i+n, i+2n, …, with i from 0. Whichever part finds all shards finished publishes the
            data set; so does a call without `part`, which first writes what is missing.
        progress: called with (images done, images in all) of this part.

    Raises:
        ValueError: settings, source or `out` do not allow it, and nothing is left behind; or the machine failed, and what is
            finished stays.
    """
    out = Path(out)
    size = (size, size) if isinstance(size, int) else size
    if workers < 1:
        raise ValueError(f"workers: {workers}; at least 1")
    plan = Plan(
        source=source, encoding=Encoding(size=size, channels=channels, format=format, quality=quality),
        samples_per_shard=samples_per_shard, keep_order=keep_order, part=part or (0, 1),
    )  # fmt: skip
    if part is not None and channels is None:
        raise ValueError("part: needs --grey or --rgb (channels=1 or 3), for all parts must agree")
    if part is not None and overwrite:
        raise ValueError(f"part: cannot overwrite, for parts do not wait for each other; delete {out} and start them again")
    packing = _Packing(plan, out, plan.request, overwrite)
    if (found := packing.found()) is not None:
        return replace(found, up_to_date=True)
    with locked(out) if part is None else contextlib.nullcontext():
        if (found := packing.found()) is not None:  # another packing may have ended in between
            return replace(found, up_to_date=True)
        with told(out):
            return packing.packed(workers, progress or (lambda _done, _total: None))


@dataclass(frozen=True)
class _Packing:
    """A packing under way."""

    plan: Plan
    out: Path
    request: str
    overwrite: bool

    def found(self) -> PackReport | None:
        """What is published at `out`, if it is what is asked for; ValueError if something else is in the way."""
        manifest = present(self.out, self.request, overwrite=self.overwrite)
        if manifest is None:
            return None
        path = self.out / SKIPPED
        rows = path.read_text(errors="replace").splitlines() if path.is_file() else []
        skipped = tuple((name, reason) for name, _, reason in (row.partition("\t") for row in rows))
        shards = self.plan.shards
        return PackReport(folder=self.out, shards=shards, finished=shards, published=manifest, skipped=skipped)

    def packed(self, workers: int, progress: Progress) -> PackReport:
        """Write the shards of this part, and publish the data set if all are there."""
        plan, spec = self.plan, self.plan.spec()
        refuse_foreign(beside(self.out, ".replaced"))
        guessed_grey = plan.encoding.channels is None and _all_grey(plan.source)
        encoding = replace(plan.encoding, channels=plan.encoding.channels or (1 if guessed_grey else 3))
        work = Unfinished(beside(self.out, ".incomplete"), self.request)
        created = work.begin(plan.shards, encoders(), overwrite=self.overwrite)
        writer = Writer(work=work, spec=spec, encoding=encoding, grey_only=guessed_grey)
        try:
            if (found := self.found()) is not None:  # published just before the folder was made
                discard(work.folder)
                return found
            self._write(writer, workers, progress)
            return self._published(writer)
        except FileNotFoundError:
            if (found := self.found()) is not None:  # another process has published, these shards or its own of the same bytes
                return found
            raise
        except BaseException as error:
            # What was refused for good is no use to anyone, and neither is an empty folder. That of parts is theirs together.
            if isinstance(error, ColourError) or (created and plan.part == (0, 1) and not work.finished()):
                discard(work.folder)
            raise

    def _write(self, writer: Writer, workers: int, progress: Progress) -> None:
        plan, done = self.plan, 0
        each, items = plan.samples_per_shard, len(plan.source)
        total = sum(min(each, items - shard * each) for shard in plan.mine)

        def tick(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        try:
            run(writer, plan.jobs(), min(workers, max(1, len(plan.mine))), tick)
        except (ColourError, ReadError) as error:
            raise type(error)(str(error)) from error  # here: one that a worker raised would not look like ours

    def _published(self, writer: Writer) -> PackReport:
        """Publish the data set, if all its shards are there."""
        plan, work = self.plan, writer.work
        named = sum(shard < plan.shards for shard in work.finished())
        done = {shard: work.read(shard) for shard in (range(plan.shards) if named == plan.shards else plan.mine)}
        rows = {shard: row for shard, row in done.items() if row is not None}
        skipped = tuple((each.name, each.reason) for each in sorted(each for row in rows.values() for each in row.skipped))
        if len(rows) < plan.shards:
            if (found := self.found()) is not None:
                return found
            if (lost := next((shard for shard in plan.mine if shard not in rows), None)) is not None:
                raise ValueError(f"{work.folder}: shard {lost} was written and is gone; run the same command again")
            finished = named - (len(done) - len(rows))
            return PackReport(folder=self.out, shards=plan.shards, finished=finished, published=None, skipped=skipped)
        shards = tuple(row.entry for row in rows.values() if row.entry is not None)
        if not shards:
            discard(work.folder)
            name, reason = skipped[0]
            raise ValueError(
                f"{plan.source.description}: none of its {len(plan.source)} images can be read (first {name}: {reason})"
            )
        skipped += tuple((printable(name), "suffix not read") for name in plan.source.others)
        shape = (writer.encoding.channels, *writer.encoding.size)
        spec = replace(
            writer.spec, samples=sum(entry.samples for entry in shards), image_shape=shape,
            more_images=tuple(replace(image, shape=shape) for image in writer.spec.more_images),
        )  # fmt: skip
        manifest = Manifest(
            spec=spec, source=plan.source.description, request=self.request, skipped=len(skipped), shuffled=plan.shuffled,
            shards=shards,
        )  # fmt: skip
        report = PackReport(
            folder=self.out, shards=plan.shards, finished=plan.shards, published=manifest, skipped=skipped
        )  # fmt: skip
        listing = "".join(f"{name}\t{reason}\n" for name, reason in skipped).encode()
        try:
            put_in_place(work.folder, self.out, manifest, listing, overwrite=self.overwrite)
        except OSError:
            if (found := self.found()) is None:
                raise
            discard(work.folder)
            return found
        return report


def _all_grey(source: Source) -> bool:
    modes, read = list[str](), 0
    with only_bombs_are_heard():
        for item in source:
            with contextlib.suppress(Exception):  # the packing proper counts it
                modes += [load().mode for load in (item.load, *item.more)]
                read += 1
            if read == _AUTO_IMAGES:
                break
    return GREY_MODES.issuperset(modes)
