"""Which column of a parquet file is the image, the label, the caption, and which are attributes."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

_IMAGES = ("image", "img", "jpg", "png")
_LABELS = ("label", "labels", "fine_label", "class")
_CAPTIONS = ("caption", "text")


class Columns(NamedTuple):
    """The names of the columns; `classes` are what Hugging Face's part of the schema calls the labels."""

    image: str
    label: str | None
    classes: tuple[str, ...]
    caption: str | None
    attributes: tuple[str, ...]


def imported_pyarrow() -> Any:
    """pyarrow with its parquet part; ValueError where it is not installed."""
    try:
        import pyarrow  # an extra: few sets are parquet, and it is large
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("parquet files are read with pyarrow, which is not installed; pip install 'bigan[parquet]'") from error
    return pyarrow


def columns_of(schema: Any) -> Columns:
    """The columns of an Arrow schema; ValueError where none, or no certain one, has images."""
    types = imported_pyarrow().types
    fields = {field.name: field.type for field in schema}
    images = [name for name, kind in fields.items() if _has_bytes(types, kind)]
    named = [name for name in _IMAGES if name in images] or images
    if not named:
        raise ValueError(f"it has no column of images, a struct with bytes or bytes, among {', '.join(fields)}")
    if len(images) > 1 and named == images:
        raise ValueError(f"it has several columns of images ({', '.join(images)}) and none is called image; rename one")
    features = _features(schema)
    texts = {name for name, kind in fields.items() if types.is_string(kind) or types.is_large_string(kind)}
    wholes = {name for name, kind in fields.items() if types.is_integer(kind)}
    label = next((name for name in (*_LABELS, *features) if name in texts | wholes), None)
    caption = next((name for name in _CAPTIONS if name in texts), None)
    numbers = [
        name for name, kind in fields.items()
        if (types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind))
        and name != label and not name.startswith("__index_level_")  # pandas' number of the row
    ]  # fmt: skip
    return Columns(named[0], label, features.get(label, ()) if label in wholes else (), caption, tuple(numbers))


def _has_bytes(types: Any, kind: Any) -> bool:
    if types.is_struct(kind):
        return any(field.name == "bytes" and _has_bytes(types, field.type) for field in kind)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _features(schema: Any) -> Mapping[str | None, tuple[str, ...]]:
    """Column → names of classes, as Hugging Face's `datasets` writes them; nothing where that part is not there or damaged."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        named = {name: it["names"] for name, it in features.items() if isinstance(it, dict) and it.get("_type") == "ClassLabel"}
        return {name: tuple(map(str, names)) for name, names in named.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
