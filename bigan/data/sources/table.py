"""A list of images in a CSV or TSV file: a path, and what is known of each image."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from bigan.data.sources.base import Item, Source, fingerprint, leads_out, numbered, open_image
from bigan.data.sources.tree import file_size

SUFFIXES = (".csv", ".tsv")

_PATHS = ("path", "file", "filename", "file_name")
_LABELS = ("label", "class")
_CAPTIONS = ("caption", "text")


def open_table(path: Path) -> Source:
    """The images that a table lists, in its order; their paths are relative to its folder.

    Its first row names the columns: `path` (or file, filename, file_name), `label` (or class), `caption` (or text);
    every other column is an attribute, and a number in every row.

    Raises:
        ValueError: naming the row; the table is no table of images.
    """
    header, rows = _read(path)
    columns: dict[str, Sequence[str]] = dict(zip(header, zip(*rows, strict=True), strict=True))
    files = _column(path, columns, _PATHS)
    if files is None:
        raise ValueError(f"{path}: has no column {' or '.join(_PATHS)} in its first row ({', '.join(header)})")
    for number, file in enumerate(files, 2):
        if not file or leads_out(file):
            raise ValueError(f"{path}: row {number}: {file!r} leads out of the table's folder; put it above its images")
    labels, captions = _column(path, columns, _LABELS), _column(path, columns, _CAPTIONS)
    if labels is not None and "" in labels:
        raise ValueError(f"{path}: row {labels.index('') + 2}: has no label")
    classes, numbers = numbered(path, labels) if labels is not None else ((), [None] * len(files))
    values = [_numbers(path, name, column) for name, column in columns.items()]
    sizes = [file_size(path.parent / file) for file in files]
    if not any(sizes):
        raise ValueError(f"{path}: none of its {len(files)} images is there (first {files[0]}); paths count from its folder")
    attributes = list(zip(*values, strict=True)) if values else [None] * len(files)
    loads = [partial(open_image, os.path.abspath(path.parent / file)) for file in files]
    captions = captions or [None] * len(files)
    return Source(
        description=f"table {path.resolve().name}",
        items=[Item(*row) for row in zip(files, loads, numbers, attributes, captions, strict=True)],
        classes=classes,
        attributes=tuple(columns),
        fingerprint=fingerprint([*header, *(cell for row in rows for cell in row), *map(str, sizes)]),
    )


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, in lower case for those that have a meaning, and at least one row of as many cells."""
    known = {*_PATHS, *_LABELS, *_CAPTIONS}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            rows = [[cell.strip() for cell in row] for row in lines if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table in UTF-8 ({error})") from error
    if len(rows) < 2:
        raise ValueError(f"{path}: needs a row of column names, and a row for each image")
    header = [name.lower() if name.lower() in known else name for name in rows[0]]
    double = next((name for name in header if not name or header.count(name) > 1), None)
    if double is not None:
        raise ValueError(f"{path}: its first row names no column, or one twice ({double!r})")
    ragged = next((number for number, row in enumerate(rows, 1) if len(row) != len(header)), None)
    if ragged is not None:
        raise ValueError(f"{path}: row {ragged} has {len(rows[ragged - 1])} cells, the first row {len(header)}")
    return header, rows[1:]


def _column(path: Path, columns: dict[str, Sequence[str]], names: Sequence[str]) -> Sequence[str] | None:
    """Take the column of one of these names out of the table; None where there is none."""
    present = [name for name in names if name in columns]
    if len(present) > 1:
        raise ValueError(f"{path}: has the columns {' and '.join(present)}, which mean the same; leave one")
    return columns.pop(present[0]) if present else None


def _numbers(path: Path, name: str, column: Sequence[str]) -> list[float]:
    """The cells of an attribute; ValueError where one is no finite number."""
    known: Mapping[str, float] = {cell: _number(cell) for cell in set(column)}  # one object for equal cells
    for number, cell in enumerate(column, 2):
        if not math.isfinite(known[cell]):
            raise ValueError(
                f"{path}: row {number}: {name} is {cell!r}; a column other than path, label, caption is an attribute: numbers"
            )
    return [known[cell] for cell in column]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
