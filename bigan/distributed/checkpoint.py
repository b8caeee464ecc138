"""Checkpoints: named tensors and a little JSON, independent of the number of ranks, written whole or not at all.

`checkpoints/round_00000320/` holds `tensors.safetensors`, `state.json` and `manifest.json` (size and sha256 of the other two).
It is written under a name that ends in `.incomplete`, flushed to the disk, and renamed. Nothing in it is ever unpickled.
docs/checkpoints.md describes the format.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bigan import files
from bigan.clock import Clock

SCHEMA = 1
"""Rises when an older bigan could no longer read what is written; what is only added leaves it as it is."""

METRICS = ("frechet", "miss")
"""Metrics whose least value is the best: of a checkpoint, the first that it has."""

INCOMPLETE = ".incomplete"
MANIFEST = "manifest.json"
BEST = "best.json"
SEALED = ("state.json", "tensors.safetensors")
_NAME = re.compile(r"round_(\d{8,})")
_LEFT = re.compile(rf"round_\d{{8,}}.*{re.escape(INCOMPLETE)}|\.{re.escape(BEST)}\..+\.tmp")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@dataclass(frozen=True)
class Checkpoint:
    """A run at the end of a round.

    Attributes:
        clock: progress, positions in the data included.
        config: the resolved config, as `bigan.config.dump` gives it.
        data: stream → {"spec": …, "sha256": of its manifest}.
        tensors: "player.NAME.…" and "state.…" → tensor.
        metrics: what was measured of it, name → value; infinite and NaN values are not kept.
    """

    clock: Clock
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    metrics: Mapping[str, float] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def save(folder: Path, checkpoint: Checkpoint, keep: int, fence: Callable[[], None] = lambda: None) -> Path:
    """Write a checkpoint into `folder` and delete all but the newest `keep` up to it and the best. For one rank alone.

    One of the same or a later round is damaged, or the run would have resumed from it: it counts for nothing, and is
    replaced when its round comes.

    Args:
        fence: called when all is written and nothing published; what it raises ends the save.

    Raises:
        OSError: if it cannot be written; what stood before still stands.
    """
    final = folder / f"round_{checkpoint.clock.round:08d}"
    mark = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"  # a forgotten job must not write into this folder
    building, replaced = (final.with_name(f"{final.name}.{mark}{end}{INCOMPLETE}") for end in ("", ".replaced"))
    building.mkdir(parents=True)
    try:
        _write(checkpoint, building)
        fence()
        if final.exists():
            final.rename(replaced)
        building.rename(final)
        _flush(folder)
    except BaseException:
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        shutil.rmtree(building, ignore_errors=True)
        raise
    if replaced.exists():
        _remove(replaced)
    _prune(folder, final, keep)
    return final


def sweep(folder: Path) -> None:
    """Delete what saves that were killed left behind. Only for the one process that may write there."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if _LEFT.fullmatch(path.name):
            _remove(path)


def candidates(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, newest first; a copy that a user made under another name is none."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.is_dir() and _NAME.fullmatch(p.name)), key=round_of, reverse=True)


def round_of(path: Path) -> int:
    """The round that a checkpoint's name tells."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose manifest verifies, or None where none was ever written.

    Raises:
        ValueError: if there are checkpoints and every one is damaged: a run never begins again in silence.
    """
    while True:  # list again what the run, if it is training, has pruned meanwhile
        found = candidates(folder)
        for path in found:
            if verifies(path):
                return path
        if all(path.is_dir() for path in found):
            break
    if found:
        raise ValueError(
            f"{folder}: all {len(found)} checkpoints are damaged ({found[0].name}/{problem(found[0])}); "
            "restore one, or remove it to begin again"
        )
    return None


def best(folder: Path) -> Path | None:
    """The checkpoint whose metric of `METRICS` is the least, among those of which it was measured."""
    values = [(metric[1], path) for path in candidates(folder) if (metric := _metric(path)) is not None]
    return min(values)[1] if values else None


def verifies(path: Path) -> bool:
    """Whether every file has the size and the sha256 that the manifest gives; raises as `problem` does."""
    return problem(path) is None


def problem(path: Path) -> str | None:
    """What is wrong with a checkpoint, the name of the file first, or None. Reads every byte.

    Raises:
        ValueError: if nothing is wrong but that a newer bigan wrote it.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        schema = manifest["schema"]
        seals = {name: (seal["bytes"], seal["sha256"]) for name, seal in manifest["files"].items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    if type(schema) is not int or any(Path(name).name != name for name in seals):
        return f"{MANIFEST} cannot be read"
    for name in SEALED if schema <= SCHEMA else SEALED[:1]:
        if name not in seals:
            return f"{MANIFEST} vouches for no {name}"
    for name, seal in seals.items():
        if wrong := _mismatch(path / name, *seal):
            return wrong
    try:
        told = json.loads((path / "state.json").read_text())["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        return "state.json cannot be read"
    if told != schema:  # so that a flipped bit is not taken for a newer schema
        return f"{MANIFEST} tells schema {schema}, state.json {told}"
    if schema > SCHEMA:
        raise ValueError(f"{path}: was written by a newer bigan (schema {schema}; this one reads {SCHEMA}); update bigan")
    return None


def load(path: Path) -> Checkpoint:
    """Read a checkpoint that verifies.

    Raises:
        ValueError: if it holds something else all the same.
    """
    try:
        state = json.loads((path / "state.json").read_text())
        tensors = load_file(path / "tensors.safetensors")
        return Checkpoint(Clock(**state["clock"]), state["config"], state["data"], tensors, state.get("metrics", {}))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path}: is no checkpoint that bigan wrote ({type(error).__name__}: {error})") from error


def about(path: Path) -> dict[str, Any] | None:
    """What state.json tells, or None where it is not what was written; the tensors are not looked at."""
    try:
        seal = json.loads((path / MANIFEST).read_text())["files"]["state.json"]
        if _mismatch(path / "state.json", seal["bytes"], seal["sha256"]):
            return None
        return json.loads((path / "state.json").read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(checkpoint: Checkpoint, building: Path) -> None:
    _write_tensors(_separate(checkpoint.tensors), building / "tensors.safetensors")
    state = {
        "schema": SCHEMA, "clock": asdict(checkpoint.clock), "config": checkpoint.config, "data": checkpoint.data,
        "metrics": {name: value for name, value in checkpoint.metrics.items() if math.isfinite(value)},
    }  # fmt: skip
    (building / "state.json").write_text(json.dumps(state, indent=1))
    seals = {name: _seal(building / name) for name in SEALED}
    (building / MANIFEST).write_text(json.dumps({"schema": SCHEMA, "files": seals}, indent=1))
    _flush(building / MANIFEST)
    _flush(building)


def _prune(folder: Path, final: Path, keep: int) -> None:
    """Only what was published is deleted for; what cannot be deleted costs room, not the run."""
    if (leading := best(folder)) is not None and (metric := _metric(leading)) is not None:
        told = {"round": round_of(leading), "metric": metric[0], "value": metric[1]}
        with contextlib.suppress(OSError):
            files.save(folder / BEST, (json.dumps(told) + "\n").encode())
    for old in [path for path in candidates(folder) if round_of(path) <= round_of(final)][keep:]:
        if old != leading:
            with contextlib.suppress(OSError):  # renamed first: whoever reads it sees it whole, or gone
                _remove(old.rename(old.with_name(f"{old.name}.pruned{INCOMPLETE}")))


def _metric(path: Path) -> tuple[str, float] | None:
    """By what a checkpoint is chosen, and its value."""
    metrics = (about(path) or {}).get("metrics") or {}
    return next(((name, metrics[name]) for name in METRICS if isinstance(metrics.get(name), float | int)), None)


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # what it makes of a full disk
        found = _OS_ERROR.search(str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number) if found else str(error), str(path)) from None


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each with memory of its own, which safetensors asks for: a tied weight has two names."""
    apart: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if (storage := tensor.untyped_storage().data_ptr()) in storages:
            tensor = tensor.clone()
        storages.add(storage)
        apart[name] = tensor
    return apart


def _seal(path: Path) -> dict[str, Any]:
    _flush(path)
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _mismatch(path: Path, size: Any, sha256: Any) -> str | None:
    try:
        found = path.stat().st_size
        if found != size:
            return f"{path.name} has {found} bytes and not {size}"
        return None if _sha256(path) == sha256 else f"{path.name} is not what was written (its SHA-256 differs)"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
