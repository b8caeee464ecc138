"""Parquet files of images as Hugging Face's `datasets` writes them: one file, or a folder of them.

A listing reads the small columns alone; images are read a row group at a time, in each process for itself.
"""

import io
import math
import os
import re
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from bigan.data.sources.base import Item, Source, checked_size, complete, counts, fingerprint, numbered, one_line, open_image
from bigan.data.sources.opened import PerProcess, file_identity
from bigan.data.sources.parquet_columns import Columns, columns_of, imported_pyarrow

_SPLIT_FILE = re.compile(r"(?P<split>[A-Za-z_]+)-\d+-of-\d+.*\.parquet")
_SPLIT_NAMES = frozenset({"train", "test", "validation", "val", "valid"})


def is_parquet(path: Path, names: frozenset[str]) -> bool:
    """Whether a file is a parquet file, or a folder with these `names` has some, there or in `data`."""
    below = os.listdir(path / "data") if "data" in names and os.path.isdir(path / "data") else ()
    return any(name.endswith(".parquet") for name in chain(names or (path.name,), below))


def open_parquet(path: Path, split: str | None) -> Source:
    """The images of a file, or of a split of a folder's files ("train" unless given, where there are splits).

    The image is a struct with `bytes`, or bytes; the label a column `label` (or the first with names of classes); the
    caption a column `caption` or `text`; attributes are the other columns of numbers or truth values.

    Raises:
        ValueError: pyarrow is not installed; a file is damaged, or its columns have no image.
    """
    files = _files(path, split) if os.path.isdir(path) else _one(path, split)
    tables = [_read(file, name) for name, file in files.items()]
    columns = tables[0].columns
    unlike = next((table.path for table in tables if table.columns != columns), None)
    if unlike is not None:
        raise ValueError(f"{unlike}: has other columns than {tables[0].path}; give one of the sets")
    places = [place for table in tables for place in table.places]
    if not places:
        raise ValueError(f"{path}: has no rows")
    values = {name: [value for table in tables for value in table.values[name]] for name in tables[0].values}
    classes, labels = _labels(path, columns, values) if columns.label is not None else ((), [None] * len(places))
    captions = values[columns.caption] if columns.caption is not None else [None] * len(places)
    numbers = [[_number(value) for value in values[name]] for name in columns.attributes]
    items: list[Item] = []
    for row, place in enumerate(places):
        load = partial(_row_image, columns.image, *place[1:])
        attributes = tuple(column[row] for column in numbers) or None
        item = Item(place.key, load, labels[row], attributes, captions[row])
        items.append(complete(item, labels=bool(classes), attributes=columns.attributes, captions=columns.caption is not None))
    return Source(
        description=f"parquet {path.resolve().name}" + (f" {split}" if split else ""),
        items=items,
        classes=classes,
        attributes=columns.attributes,
        run=sum(place.group == 0 for place in tables[0].places),  # a row group is read whole
        fingerprint=fingerprint(
            [
                *map(str, columns),
                *(table.sizes for table in tables),
                *(str((item.key, item.label, item.attributes, item.caption)) for item in items),
            ]
        ),
    )


def _one(path: Path, split: str | None) -> dict[str, Path]:
    if split is not None:
        raise ValueError(f"{path}: is one file; give its folder to choose split {split!r}")
    return {path.name: path}


def _files(root: Path, split: str | None) -> dict[str, Path]:
    """The files of a split in the order of their names; ValueError where there are none, or of several sets."""
    files = {file.relative_to(root).as_posix(): file for file in sorted(root.rglob("*.parquet"))}
    of = {name: _split(name) for name in files if counts(name)}
    splits = sorted(set(of.values()))
    wanted = split or ("train" if len(splits) > 1 else splits[0])
    fitting = [name for name in splits if name == wanted] or [name for name in splits if name.startswith(wanted)]
    if len(fitting) != 1:
        raise ValueError(f"{root}: split {wanted!r} is not among its parquet files; it has {', '.join(filter(None, splits))}")
    chosen = {name: file for name, file in files.items() if of.get(name) == fitting[0]}
    folders = sorted({file.parent for file in chosen.values()})
    if len(folders) > 1:
        raise ValueError(f"{root}: has parquet files in {folders[0].name} and {folders[1].name}; give one of these folders")
    return chosen


def _split(name: str) -> str:
    """The split of which a file is, by its name (train-00000-of-00002.parquet, train.parquet) or its folder's; or nothing."""
    path = Path(name)
    match = _SPLIT_FILE.fullmatch(path.name)
    if match:
        return match["split"]
    return next((word for word in (path.stem, path.parent.name) if word in _SPLIT_NAMES), "")


class _Place(NamedTuple):
    """Where a row is: its name, the file, the row group and the row in that."""

    key: str
    file: str
    group: int
    row: int


class _Table(NamedTuple):
    """What a file has beside its images: values by column, the places of its rows, and the sizes of its row groups."""

    path: Path
    columns: Columns
    values: Mapping[str, list[Any]]
    places: Sequence[_Place]
    sizes: str


def _read(path: Path, name: str) -> _Table:
    pyarrow = imported_pyarrow()
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = columns_of(file.schema_arrow)
            small = [column for column in (columns.label, columns.caption, *columns.attributes) if column is not None]
            table = file.read(columns=small, use_threads=False)
            groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
            values = {column: table.column(column).to_pylist() for column in small}
    except (OSError, pyarrow.ArrowException, ValueError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path}: cannot be read as parquet with images ({one_line(error)})") from error
    rows = [(group, row) for group, head in enumerate(groups) for row in range(head.num_rows)]
    if table.num_rows != len(rows):
        raise ValueError(f"{path}: has {table.num_rows} rows, and {len(rows)} in its row groups; get it anew")
    absolute = os.path.abspath(path)  # one object for all: it is pickled once
    places = [_Place(f"{name}/{number:06d}", absolute, *row) for number, row in enumerate(rows)]
    sizes = [os.path.getsize(path), *(head.total_byte_size for head in groups)]
    return _Table(path, columns, values, places, str(sizes))


def _labels(path: Path, columns: Columns, values: Mapping[str, list[Any]]) -> tuple[tuple[str, ...], Sequence[int | None]]:
    """(classes, labels); a label is None where there is none, or none of the classes."""
    assert columns.label is not None
    given = values[columns.label]
    if all(value is None or value == -1 for value in given):  # -1: how Hugging Face says unknown
        return (), [None] * len(given)
    if columns.classes:
        most = len(columns.classes)
        return columns.classes, [value if isinstance(value, int) and 0 <= value < most else None for value in given]
    present = sorted({str(value) for value in given if value is not None and value != -1})
    classes, numbers = numbered(path, present)
    number = dict(zip(present, numbers, strict=True))
    return classes, [number.get(str(value)) for value in given]


def _number(value: float | None) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.nan


class _Reader:
    """An open file of one process, for its threads."""

    def __init__(self, path: str) -> None:
        self._file = imported_pyarrow().parquet.ParquetFile(path)
        self._lock = threading.Lock()

    def column(self, group: int, column: str) -> Any:
        """A column of a row group; raises what pyarrow raises."""
        with self._lock:
            return self._file.read_row_group(group, columns=[column], use_threads=False).column(0)


_opened = PerProcess(_Reader)


@lru_cache(maxsize=2)  # a row group can have hundreds of megabytes
def _group(path: str, _identity: object, group: int, column: str) -> Any:
    return _opened(path).column(group, column)


def _row_image(column: str, path: str, group: int, row: int) -> Image.Image:
    value = _group(path, file_identity(path), group, column)[row].as_py()
    content = value["bytes"] if isinstance(value, dict) else value
    if content is None:
        raise ValueError("has no bytes")
    checked_size(len(content))
    return open_image(io.BytesIO(content))
