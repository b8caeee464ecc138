"""Write a source's images, brought to one size, into webdataset shards with an index. The same request gives the same bytes."""

import contextlib
import hashlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bigan.data.index import MANIFEST, MAX_SIDE, VERSION, Manifest, ShardEntry, ShardIndex, index_path, sha256_of, verify
from bigan.data.publish import OURS, SKIPPED, locked, replacing
from bigan.data.source import Item, Source

_AUTO_IMAGES = 16  # readable images that decide between grey and colour
_GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L"})


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """What came of a packing.

    Attributes:
        folder: where the data set lies.
        manifest: what it holds.
        skipped: (name in the source, reason) of the images that could not be read, then of the files whose
            suffix is not read; `skipped.txt` says the same.
        up_to_date: it was there already, made from the same source with the same settings, and nothing was written.
    """

    folder: Path
    manifest: Manifest
    skipped: tuple[tuple[str, str], ...] = ()
    up_to_date: bool = False


def pack(
    source: Source,
    out: str | Path,
    *,
    size: int | tuple[int, int],
    channels: int | None = None,
    samples_per_shard: int = 1000,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PackReport:
    """Pack a source into the folder `out`, which appears whole or not at all (it is written as OUT.incomplete).

    One packing at a time: OUT.lock keeps a second one out.

    Images are cropped about their centre to the target's aspect, then resized (Lanczos down, bicubic up). Samples keep
    the source's order: reading permutes them anyway, and a sorted set can be looked through.

    Args:
        source: from `open_source`.
        out: the folder to make.
        size: (height, width) in pixels, or the side of a square.
        channels: 1 (grey), 3 (RGB), or None: 1 if the first readable images are all grey, else 3.
        samples_per_shard: fixed, the last shard takes the rest.
        overwrite: replace a data set at `out`; a folder with anything else in it is never touched.
        progress: called with (images done, images in all).

    Raises:
        ValueError: settings, source or `out` do not allow it; nothing is left behind.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"size: {height}x{width}; both sides must be 1 to {MAX_SIDE} pixels")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels: {channels}; give 1 (grey) or 3 (RGB)")
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard: {samples_per_shard}; at least 1")
    settings = [VERSION, source.fingerprint, source.description, source.classes, height, width, channels, samples_per_shard]
    request = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    out = Path(out)
    present = _present(out, request, overwrite)
    if present is None:
        with locked(out):
            present = _present(out, request, overwrite)  # again: another packing may have ended in between
            if present is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow's, on odd metadata
                    warnings.simplefilter("error", Image.DecompressionBombWarning)
                    images = _Images(source, (height, width), channels, progress)
                    with replacing(out) as folder:
                        return _write(images, folder, out, request, samples_per_shard)
    return PackReport(folder=out, manifest=present, skipped=_read_skipped(out), up_to_date=True)


def _write(images: "_Images", folder: Path, out: Path, request: str, samples_per_shard: int) -> PackReport:
    from webdataset.writer import ShardWriter  # it imports torch: here, so that `bigan pack` starts, and refuses, at once

    entries: list[ShardEntry] = []
    opened: list[BinaryIO] = []

    def begin(name: str) -> BinaryIO:
        # Opened here, since webdataset would take a path such as pipe:… for a command.
        opened.append((folder / name).open("wb"))
        return opened[-1]

    def end(name: str) -> None:
        _close(opened.pop())
        if writer.count > 0:
            entries.append(_index(folder / name))

    writer = ShardWriter(
        "shard-%06d.tar", maxcount=samples_per_shard, maxsize=float("inf"), post=end, opener=begin, verbose=0,
        encoder=False, mtime=0.0, user="bigan", group="bigan",
    )  # fmt: skip
    try:
        for number, png, label in images:
            sample = {"__key__": f"{number:08d}", "png": png}
            writer.write(sample if label is None else {**sample, "cls": str(label).encode()})
        writer.close()
    except BaseException:
        writer.post = None  # closing would call `end`, perhaps again, and an error there would hide this one
        for it in (writer, *opened):
            with contextlib.suppress(Exception):
                it.close()
        raise
    if not entries:
        key, reason = images.skipped[0]
        raise ValueError(
            f"{images.source.description}: none of its {len(images.source)} images can be read (first {key}: {reason})"
        )
    images.skipped += [(_printable(name), "suffix not read") for name in images.source.others]
    manifest = Manifest(
        samples=sum(entry.samples for entry in entries), image_shape=(images.channels, *images.size),
        classes=images.source.classes, source=images.source.description, request=request,
        skipped=len(images.skipped), shards=tuple(entries),
    )  # fmt: skip
    if images.skipped:
        _save(folder / SKIPPED, "".join(f"{key}\t{reason}\n" for key, reason in images.skipped).encode())
    _save(folder / MANIFEST, manifest.dump())
    return PackReport(folder=out, manifest=manifest, skipped=tuple(images.skipped))


def _index(shard: Path) -> ShardEntry:
    index = ShardIndex.build(shard)
    _save(index_path(shard), index.dump())
    return ShardEntry(name=shard.name, samples=len(index.keys), bytes=shard.stat().st_size, sha256=sha256_of(shard))


def _save(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        _close(file)


def _close(file: BinaryIO) -> None:
    with file:
        file.flush()
        os.fsync(file.fileno())  # the rename that publishes the folder must not overtake its content


@final
class _Images:
    """The readable images of a source as (number in the source, PNG bytes, label). The others gather in `skipped`."""

    def __init__(
        self, source: Source, size: tuple[int, int], channels: int | None, progress: Callable[[int, int], None] | None
    ) -> None:
        self.source = source
        self.size = size
        self.skipped: list[tuple[str, str]] = []
        self._progress = progress
        self._guessed_grey = channels is None and self._all_grey()
        self.channels = channels or (1 if self._guessed_grey else 3)

    def __iter__(self) -> Iterator[tuple[int, bytes, int | None]]:
        for number, item in enumerate(self.source):
            png = self._png(item)
            if png is not None:
                yield number, png, item.label
            if self._progress is not None:
                self._progress(number + 1, len(self.source))

    def _all_grey(self) -> bool:
        modes: list[str] = []
        for item in self.source:
            try:
                modes.append(item.load().mode)
            except Exception:  # the packing proper counts it
                continue
            if len(modes) == _AUTO_IMAGES:
                break
        return _GREY_MODES.issuperset(modes)

    def _png(self, item: Item) -> bytes | None:
        try:
            image = item.load()
            colour = image.mode not in _GREY_MODES
            image = _fitted(_converted(image, self.channels), self.size)
        except Exception as error:  # Pillow's decoders raise all sorts on broken files
            self.skipped.append((_printable(item.key), _reason(error)))
            return None
        if colour and self._guessed_grey:
            raise ValueError(
                f"{item.key}: is in colour, the first images are grey; say which is meant: --grey or --rgb (channels=1 or 3)"
            )
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(image)).save(buffer, "PNG")  # fresh, so that no profile or comment is copied
        return buffer.getvalue()


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """Upright, 8 bits, grey or RGB; what is transparent lies on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # convert("L") would clip at 255
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cropped about its centre to the aspect of (height, width), then resized to it."""
    height, width = size
    crop_width = min(image.width, max(1, round(image.height * width / height)))
    crop_height = min(image.height, max(1, round(image.width * height / width)))
    left, top = (image.width - crop_width) // 2, (image.height - crop_height) // 2
    image = image.crop((left, top, left + crop_width, top + crop_height))
    shrinks = crop_width > width or crop_height > height
    return image.resize((width, height), Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC)


def _reason(error: Exception) -> str:
    """One line without paths or addresses, so that skipped.txt is the same each time."""
    if isinstance(error, UnidentifiedImageError):
        return "is no image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return _printable(str(error) or type(error).__name__)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _present(out: Path, request: str, overwrite: bool) -> Manifest | None:
    """The manifest at `out` if it answers the request; None where it is to be written; ValueError where it must not be."""
    try:
        names = sorted(os.listdir(out)) if os.path.lexists(out) else []
    except NotADirectoryError as error:
        raise ValueError(f"{out}: is no folder; choose another place") from error
    except OSError as error:
        raise ValueError(f"{out}: cannot be read ({error.strerror})") from error
    if not names:
        return None
    foreign = [name for name in names if not OURS.fullmatch(name)]
    if MANIFEST not in names or (overwrite and foreign):
        raise ValueError(f"{out}: holds more than a packed data set ({[*foreign, *names][0]}); choose another folder")
    if overwrite:
        return None
    try:
        manifest = verify(out)
    except ValueError as error:
        raise ValueError(f"{out}: holds a damaged data set, overwrite it or choose another folder ({error})") from error
    if manifest.request != request:
        raise ValueError(f"{out}: was packed from another source or with other settings; overwrite it or choose another folder")
    return manifest


def _read_skipped(out: Path) -> tuple[tuple[str, str], ...]:
    path = out / SKIPPED
    rows = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return tuple((key, reason) for key, _, reason in (row.partition("\t") for row in rows))
