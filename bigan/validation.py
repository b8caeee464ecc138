"""Plain values made into settings, and what is wrong with them in one line."""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError


def validate(kind: Any, raw: Any, source: Path, prefix: str) -> Any:
    """Make settings of plain values, such as YAML gives.

    Args:
        kind: the settings class, or a union of several.
        raw: the values.
        source: the file that they are from.
        prefix: of their keys in it.

    Raises:
        ValueError: one line that names the key and what is wrong with it.
    """
    try:
        return TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        raise ValueError(f"{source}: {_first(error, raw, prefix)}") from None


def _first(error: ValidationError, raw: Any, prefix: str) -> str:
    """The first complaint as `key: what to do`; how many more there are."""
    details = error.errors()
    detail = details[0]
    key = (prefix + ".".join(_keys(detail["loc"], raw))).removesuffix(".")
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        message = f"is no key of {_member(detail['loc'], raw) or 'this config'}"
    elif detail["type"] in ("missing", "missing_argument"):
        message = "is missing"
    elif detail["type"] == "union_tag_invalid":
        context = detail.get("ctx", {})
        key = f"{key}.kind".removeprefix(".")
        message = f"{context.get('tag')!r} is none; there are {context.get('expected_tags', '').replace(chr(39), '')}"
    elif detail["type"] == "union_tag_not_found":
        key, message = f"{key}.kind".removeprefix("."), "is missing; say which kind is meant"
    elif detail["type"] in ("model_attributes_type", "dataclass_type"):
        message = f"must be {{key: value, …}} (got {detail['input']!r})"
    else:
        message = detail["msg"].removeprefix("Value error, ")
        if not isinstance(detail["input"], dict | list) and not is_dataclass(detail["input"]):
            message += f" (got {detail['input']!r})"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{key}: {message}{more}" if key else message + more


def _member(location: Sequence[str | int], raw: Any) -> str:
    """The kind of the union's member in which a key stands directly; "" if that is none."""
    *before, last = location[:-1] or ("",)
    return str(last) if _keys(location[:-1], raw) == _keys(before, raw) else ""


def _keys(location: Sequence[str | int], raw: Any) -> list[str]:
    """The keys that lead to a place in a config: pydantic also names the member of a union, which is no key."""
    keys: list[str] = []
    for part in location:
        if isinstance(raw, Mapping) and part not in raw and raw.get("kind") == part:
            continue
        keys.append(str(part))
        if isinstance(raw, Mapping):
            raw = raw.get(part)
        else:
            raw = raw[part] if isinstance(raw, list) and isinstance(part, int) and part < len(raw) else None
    return keys
