"""Checkpoints of nothing much, and the ways in which a disk damages one."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bigan.clock import Clock
from bigan.distributed.checkpoint import Checkpoint

FILES = ("tensors.safetensors", "state.json", "manifest.json")


def made(round: int, **tensors: Tensor) -> Checkpoint:
    named = {"player.a.module.w": torch.full((3, 2), float(round)), "state.n": torch.tensor(round), **tensors}
    clock = Clock(batch=4, round=round, attempt=1, steps={"a": round}, positions={"real": 4 * round})
    return Checkpoint(clock, {"name": "x", "optimizer": {"betas": [0.5, 0.9]}}, {"real": {"sha256": "0"}}, named)


def truncate(path: Path, keep: float = 1.0) -> None:
    """All but the last byte, or a part of it."""
    content = path.read_bytes()
    path.write_bytes(content[: min(int(len(content) * keep), len(content) - 1)])


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[min(int(len(content) * place), len(content) - 1)] ^= 1
    path.write_bytes(content)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "empty": lambda path: truncate(path, 0.0),
    "a tenth": lambda path: truncate(path, 0.1),
    "half": lambda path: truncate(path, 0.5),
    "all but a byte": truncate,
    "a bit at its head": lambda path: flip(path, 0.0),
    "a bit in the middle": flip,
    "a bit at its end": lambda path: flip(path, 1.0),
    "a byte more": lengthen,
    "deleted": Path.unlink,
}
