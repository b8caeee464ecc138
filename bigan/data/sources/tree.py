"""A folder of images, and what a folder and an archive have in common: classes from the names."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bigan.data.publish import without_ours
from bigan.data.sources.base import IMAGE_SUFFIXES, Item, Load, Source, counts, fingerprint, is_image, open_image

_SPLIT_NAMES = frozenset({"train", "val", "valid", "validation", "test"})


class Listing(NamedTuple):
    """The images of a folder or archive, sorted (names, a size or checksum each, how to load them), and its other files."""

    names: Sequence[str]
    sums: Sequence[str]
    loads: Sequence[Load]
    others: Sequence[str]


def open_folder(root: Path) -> Source:
    """A folder of images; ValueError where it has none, or cannot be read."""
    return tree(root, "folder", list_folder(root))


def list_folder(root: Path) -> Listing:
    """The images below a folder; ValueError where it cannot be read."""
    try:
        files = sorted(_walk(root), key=PurePosixPath)
        names = [name for name in files if is_image(name)]
        others = [name for name in files if not is_image(name) and os.path.isfile(root / name)]
        sums = [str(file_size(root / name)) for name in names]
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return Listing(names, sums, [partial(open_image, os.path.abspath(root / name)) for name in names], others)


def file_size(path: Path) -> int:
    """In bytes; 0 for a link into nowhere, which stays listed: loading it fails, and the report says so."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def _walk(root: Path) -> Iterator[str]:
    """The files below a folder, as relative posix paths; links are followed, each folder once.

    Hidden files, what operating systems add, and what `bigan pack` made (`bigan pack . packed`) are left out.
    """

    def fail(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders.sort()
        relative = Path(folder).relative_to(root)
        yield from filter(counts, ((relative / name).as_posix() for name in without_ours(files, subfolders)))


def tree(root: Path, kind: str, listing: Listing, inner: Sequence[str] | None = None) -> Source:
    """The source of a listing: classes from the first folder of each name, below folders that hold everything.

    Args:
        root: what it is a listing of.
        kind: the first word of the description.
        listing: of images.
        inner: the names that tell the class, where they are not those of the listing.

    Raises:
        ValueError: there are no images, or their folders are no classes.
    """
    names, sums, loads, others = listing
    if not names:
        raise ValueError(f"{root}: has no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    paths = [PurePosixPath(name).parts for name in inner or names]
    while len(paths[0]) > 1 and all(len(path) > 1 and path[0] == paths[0][0] for path in paths):
        paths = [path[1:] for path in paths]
    loose = next((name for name, path in zip(names, paths, strict=True) if len(path) == 1), None)
    classes = tuple(sorted({path[0] for path in paths if len(path) > 1}))
    if classes and loose is not None:
        raise ValueError(f"{root}: {loose} lies beside class folders ({classes[0]}, …); move it into one of them, or away")
    if len(classes) > 1 and _SPLIT_NAMES.issuperset(classes):
        raise ValueError(f"{root}: {' and '.join(classes)} are splits, not classes; give one of these folders")
    number = {name: label for label, name in enumerate(classes)}
    labels = [number[path[0]] if classes else None for path in paths]
    return Source(
        description=f"{kind} {root.resolve().name}",
        items=[Item(*row) for row in zip(names, loads, labels, strict=True)],
        classes=classes,
        fingerprint=fingerprint([*names, *sums, *map(str, labels), *others]),
        others=tuple(others),
    )
