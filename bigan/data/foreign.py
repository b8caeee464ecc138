"""Index shards that others wrote: a manifest, and an index a shard, beside tars that stay as they are."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from bigan.data.check import per_shard
from bigan.data.decode import ARRAY, CAPTION, IMAGES, LABEL, attributes
from bigan.data.faults import SampleError
from bigan.data.index import ShardIndex
from bigan.data.manifest import MANIFEST, Manifest, ShardEntry, sha256_of
from bigan.data.publish import told
from bigan.data.sources.base import MAX_CLASSES
from bigan.files import save
from bigan.spec import DataSpec
from bigan.words import count_words, vocabulary

_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
_CHANNELS = {"L": 1, "RGB": 3}
Header = tuple[int, ...] | tuple[str, tuple[int, ...]] | None


@dataclass
class Survey:
    """What the samples of some shards have.

    Attributes:
        headers: field → what its samples look like: (C, H, W) of images, (dtype, shape) of arrays; None: not to be read.
        extensions: how many members have it.
        labels: those that occur, as far as they can be classes.
        no_labels: how many `cls` are no class numbers, and one of them.
        caption_bytes: of the longest.
        words: of the captions, and how often each comes.
    """

    headers: dict[str, Counter[Header]] = field(default_factory=dict)
    extensions: Counter[str] = field(default_factory=Counter)
    labels: set[int] = field(default_factory=set)
    no_labels: tuple[int, str] = (0, "")
    caption_bytes: int = 0
    words: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Survey") -> None:
        """Take another one in."""
        for name, counts in other.headers.items():
            self.headers.setdefault(name, Counter()).update(counts)
        self.extensions.update(other.extensions)
        self.labels |= other.labels
        self.no_labels = self.no_labels[0] + other.no_labels[0], self.no_labels[1] or other.no_labels[1]
        self.caption_bytes = max(self.caption_bytes, other.caption_bytes)
        self.words.update(other.words)


def index_shards(
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    attribute_names: Sequence[str] = (),
    ignore: Sequence[str] = (),
    shuffled: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Manifest, list[str]]:
    """Write manifest.json, and an index beside each *.tar of a folder, so that they can be streamed exactly.

    Args:
        folder: with webdataset shards, or tars that are like them.
        classes: names of the classes, in the order of the labels; the labels' numbers unless given.
        attribute_names: numbers that every `json` has; unless given, `json` is not read.
        ignore: extensions of members that are not to be read.
        shuffled: whether the samples lie in the shards at random.
        workers: processes.
        progress: called with (shards done, shards in all).

    Returns:
        the manifest, and a line for each kind of sample that will count as bad.

    Raises:
        ValueError: naming the shard and the member that cannot be indexed, or the kind of member that is not read.
    """
    if os.path.exists(folder / MANIFEST):
        raise ValueError(f"{folder}: has a {MANIFEST} already; delete it, and it is made anew")
    names = sorted(path.name for path in folder.glob("*.tar")) if os.path.isdir(folder) else []
    if not names:
        raise ValueError(f"{folder}: is no folder with *.tar files")
    survey, entries, indices = Survey(), [], []
    jobs = [(folder / name, tuple(attribute_names), frozenset(ignore)) for name in names]
    for done, (entry, index, found) in enumerate(per_shard(_survey, jobs, workers), 1):
        survey.add(found)
        entries.append(entry)
        indices.append(index)
        if progress is not None:
            progress(done, len(names))
    for entry in entries:
        if os.path.lexists(folder / entry.index_name):
            raise ValueError(f"{folder / entry.index_name}: is in the way; move it away")
    skipped = tuple(sorted({*ignore} | ({"json"} if not attribute_names and "json" in survey.extensions else set())))
    spec, notes = _spec(folder, survey, sum(entry.samples for entry in entries), classes, attribute_names)
    manifest = Manifest(
        spec=spec, source=f"shards {folder.resolve().name}", request="", skipped=0, shuffled=shuffled, ignored=skipped,
        shards=tuple(entries),
    )  # fmt: skip
    Manifest.parse(manifest.dump(), str(folder))  # names, sizes and counts as every reader will check them
    with told(folder):
        for entry, index in zip(entries, indices, strict=True):
            save(folder / entry.index_name, index)
        save(folder / MANIFEST, manifest.dump())
    return manifest, notes


def read_names(path: Path) -> list[str]:
    """Names, a line each; ValueError naming the file."""
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error


def _survey(job: tuple[Path, tuple[str, ...], frozenset[str]]) -> tuple[ShardEntry, bytes, Survey]:
    path, names, ignore = job
    index = ShardIndex.build(path)
    content = index.dump()
    survey = Survey()
    with path.open("rb") as file:
        for extension, table in index.members.items():
            present = table[table[:, 0] >= 0]
            survey.extensions[extension] += len(present)
            if extension in ignore or (extension == "json" and not names):
                continue
            ranks = np.flatnonzero(table[:, 0] >= 0).tolist()
            for rank, (offset, size, _) in zip(ranks, present.tolist(), strict=True):
                file.seek(offset)
                _look(survey, extension, file.read(size), names, f"{path}: {index.keys[rank]}.{extension}")
    entry = ShardEntry(
        name=path.name, samples=len(index.keys), bytes=path.stat().st_size, sha256=sha256_of(path),
        index_sha256=hashlib.sha256(content).hexdigest(),
    )  # fmt: skip
    return entry, content, survey


def _look(survey: Survey, extension: str, data: bytes, names: tuple[str, ...], where: str) -> None:
    name, _, kind = extension.rpartition(".")
    if kind in IMAGES:
        survey.headers.setdefault(name or "images", Counter())[_image_header(kind, data)] += 1
    elif kind == ARRAY and name:
        survey.headers.setdefault(name, Counter())[_array_header(data)] += 1
    elif extension == LABEL:
        digits = data[:20].strip()
        if digits.isdigit() and len(digits) < 10 and int(digits) < MAX_CLASSES:
            survey.labels.add(int(digits))
        else:
            survey.no_labels = survey.no_labels[0] + 1, survey.no_labels[1] or f"{where} {digits!r}"
    elif extension == CAPTION:
        survey.caption_bytes = max(survey.caption_bytes, len(data))
        count_words(survey.words, data.decode("utf-8", "replace"))
    elif extension == "json":
        try:
            attributes(data, names)
        except SampleError as error:
            raise ValueError(f"{where}: {error}; name the attributes that all samples have") from error
    else:
        raise ValueError(f"{where}: a member .{extension} is not read; name it with --ignore {extension}, if that is right")


def _image_header(kind: str, data: bytes) -> Header:
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[kind]]) as image:
            return (_CHANNELS[image.mode], image.height, image.width)
    except Exception:  # Pillow's decoders raise all sorts on broken bytes; the sample will count as bad
        return None


def _array_header(data: bytes) -> Header:
    try:
        file = io.BytesIO(data)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[np.lib.format.read_magic(file)](file)
        return (str(dtype), shape)
    except Exception:  # its header is parsed as a Python literal, which raises all sorts
        return None


def _spec(
    folder: Path, survey: Survey, samples: int, classes: Sequence[str] | None, attribute_names: Sequence[str]
) -> tuple[DataSpec, list[str]]:
    plain: dict[str, object] = {
        "samples": samples, "attributes": list(attribute_names), "caption_bytes": survey.caption_bytes,
        "words": list(vocabulary(survey.words)),
    }  # fmt: skip
    notes = []
    for name, counts in sorted(survey.headers.items()):
        (common, count), *_ = [*((pair) for pair in counts.most_common() if pair[0] is not None), (None, 0)]
        if common is None:
            raise ValueError(f"{folder}: none of its {name} is grey or RGB of 8 bits, or an array; pack them instead")
        if count < samples:
            notes.append(f"{samples - count} of {samples} samples have no {name} of {list(common)}, and will count as bad")
        if isinstance(common[0], str):
            plain.setdefault("arrays", []).append({"name": name, "shape": list(common[1]), "dtype": common[0]})  # pyright: ignore
        elif name == "images":
            plain["image_shape"] = list(common)
        else:
            plain.setdefault("more_images", []).append({"name": name, "shape": list(common)})  # pyright: ignore
    for extension, what in ((LABEL, "labels"), (CAPTION, "captions"), ("json", "attributes")):
        count = survey.extensions[extension]
        if 0 < count < samples and (extension != "json" or attribute_names):
            notes.append(f"{samples - count} of {samples} samples have no {what}, and will count as bad")
    bad, example = survey.no_labels
    if bad and not survey.labels:
        raise ValueError(f"{example}: is no class number; pack the shards (`bigan pack {folder} OUT`), or --ignore cls")
    if bad:
        notes.append(f"{bad} of {samples} samples have a .cls that is no class number, and will count as bad ({example})")
    if survey.labels:
        highest = max(survey.labels)
        plain["classes"] = list(classes or map(str, range(highest + 1)))
        if classes is not None and highest >= len(classes):
            notes.append(f"there is a label {highest}, but only {len(classes)} classes; such samples will count as bad")
        elif len(survey.labels) < (highest + 1) / 2:
            notes.append(f"the labels go up to {highest}, but only {len(survey.labels)} of them occur; name the --classes")
    try:
        return DataSpec.of(plain), notes
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
