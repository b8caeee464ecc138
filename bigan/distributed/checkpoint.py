"""Checkpoints: named tensors and a little JSON, independent of the number of ranks, written whole or not at all.

`checkpoints/round_00000320/` holds `tensors.safetensors`, `state.json` and `manifest.json` (size and sha256 of the other two).
It is written under a name that ends in `.incomplete`, flushed to the disk, and renamed. Nothing in it is ever unpickled.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bigan.clock import Clock

SCHEMA = 1
INCOMPLETE = ".incomplete"
NAME = re.compile(r"round_\d{8}")
SEALED = ("state.json", "tensors.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A run at the end of a round.

    Attributes:
        clock: progress, positions in the data included.
        config: the resolved config, as `bigan.config.dump` gives it.
        data: stream → {"spec": …, "sha256": of its manifest}.
        tensors: "player.NAME.…" and "state.…" → tensor on the CPU.
    """

    clock: Clock
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint into `folder` and delete all but the newest `keep` up to it. For one rank alone.

    One of a later round is damaged, or the run would have resumed from it: it counts for nothing until it is overwritten.

    Raises:
        OSError: if it cannot be written; what stood before still stands.
    """
    final = folder / f"round_{checkpoint.clock.round:08d}"
    building = final.with_name(final.name + INCOMPLETE)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        _write_tensors(_separate(checkpoint.tensors), building / "tensors.safetensors")
        state = {"schema": SCHEMA, "clock": asdict(checkpoint.clock), "config": checkpoint.config, "data": checkpoint.data}
        (building / "state.json").write_text(json.dumps(state, indent=1))
        files = {name: _seal(building / name) for name in SEALED}
        (building / "manifest.json").write_text(json.dumps({"schema": SCHEMA, "files": files}, indent=1))
        _flush(building / "manifest.json")
        _flush(building)
        shutil.rmtree(final, ignore_errors=True)
        building.rename(final)
        _flush(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    for old in [path for path in candidates(folder) if path.name <= final.name][keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def candidates(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, newest first; a copy that a user made under another name is none."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.is_dir() and NAME.fullmatch(p.name)), reverse=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose manifest verifies, or None where none was ever written.

    Raises:
        ValueError: if there are checkpoints and every one is damaged: a run never begins again in silence.
    """
    found = candidates(folder)
    for path in found:
        if verifies(path):
            return path
    if found:
        raise ValueError(f"{folder}: all {len(found)} checkpoints are damaged; restore one, or remove it to begin again")
    return None


def verifies(path: Path) -> bool:
    """Whether every file has the size and the sha256 that the manifest gives."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        seals = [(path / name, manifest["files"][name]) for name in SEALED]
        return manifest["schema"] == SCHEMA and all(
            file.stat().st_size == seal["bytes"] and _sha256(file) == seal["sha256"] for file, seal in seals
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def load(path: Path) -> Checkpoint:
    """Read a checkpoint that verifies."""
    state = json.loads((path / "state.json").read_text())
    return Checkpoint(Clock(**state["clock"]), state["config"], state["data"], load_file(path / "tensors.safetensors"))


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(errno.EIO, str(error), str(path)) from None


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
