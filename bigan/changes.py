"""What of a config may differ when a run is resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bigan.config import Run, dump, game_file, parse

MAY_CHANGE = frozenset(
    {
        "name",
        "folder",
        "length_kimg",
        "tick_kimg",
        "checkpoint_kimg",
        "keep_checkpoints",
        "micro_batch",
        "zero_stage",
        "compile",
        "rollbacks",
        "hang_timeout_s",
        "evaluation.every_kimg",
        "evaluation.samples",
        "data.*.path",
        "data.*.workers",
        "data.*.bad_samples",
        "data.*.cache",
        "data.*.cache_gb",
    }
)
"""Keys that may differ when a run is resumed; `*` stands for any one part. Every other difference is refused by name."""


def refuse_changes(old: Mapping[str, Any], new: Mapping[str, Any], where: Path) -> None:
    """Refuse to resume where a key differs that may not.

    Raises:
        ValueError: naming the first such keys with both values.
    """
    was, now = dict(_flat(old)), dict(_flat(new))
    changed = [k for k in sorted(was.keys() | now.keys()) if was.get(k) != now.get(k) and not _may_change(k)]
    if changed:
        shown = ", ".join(f"{key} ({was.get(key, 'absent')} → {now.get(key, 'absent')})" for key in changed[:3])
        raise ValueError(f"{where}: was begun with another config: {shown}; set them back, or give the run another name")


def completed(old: Mapping[str, Any], run: Run, where: Path) -> Mapping[str, Any]:
    """The config of a checkpoint, with a default for whatever an older bigan did not know yet.

    Args:
        old: the config.
        run: the run that is to go on.
        where: what was begun with it.
    """
    ours = game_file(run) is None
    try:
        whole = dump(parse({**old, "game": old.get("game") if ours else {"kind": "gan"}}, where))
    except ValueError:  # a key that is no more, which the comparison then names
        return old
    return whole if ours else {**whole, "game": old.get("game")}


def _may_change(key: str) -> bool:
    parts = key.split(".")
    return any(
        len(parts) == len(pattern) and all(p in ("*", part) for p, part in zip(pattern, parts, strict=True))
        for pattern in (k.split(".") for k in MAY_CHANGE)
    )


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in _flat(item, f"{prefix}{key}.")]
    if isinstance(value, list) and value:
        return [pair for i, item in enumerate(value) for pair in _flat(item, f"{prefix}{i}.")]
    return [(prefix.removesuffix("."), value)]
