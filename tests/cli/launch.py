"""Start bigan as a user does, in this process or in one of its own, and look at what it left."""

import contextlib
import hashlib
import io
import os
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml

from bigan.cli import main
from bigan.config import assign
from bigan.data.pack import pack
from bigan.data.sources import open_source
from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import Checkpoint

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
BIGAN = (sys.executable, "-m", "bigan")
BATCH = 8

GAMES: Mapping[str, Mapping[str, Any]] = {
    "gan": {
        "kind": "gan",
        "generator": {"kind": "dcgan", "latent": 4, "width": 4},
        "critic": {"kind": "dcgan", "width": 4},
        "penalties": [{"kind": "r1", "weight": 2.0, "every": 4}],
    },
    "wgan_gp": {
        "kind": "wgan_gp",
        "generator": {"kind": "dcgan", "latent": 4, "width": 4},
        "critic": {"kind": "dcgan", "width": 4},
        "critic_steps": 2,
    },
    "infogan": {
        "kind": "infogan",
        "generator": {"kind": "dcgan", "latent": 4, "width": 4},
        "critic": {"kind": "dcgan", "width": 4},
        "features": 8,
    },
    "cyclegan": {
        "kind": "cyclegan",
        "translator": {"kind": "resnet", "width": 4, "blocks": 1},
        "critic": {"kind": "patch", "width": 4, "layers": 1},
        "pool": 4,
    },
}
STREAMS: Mapping[str, tuple[str, ...]] = {"cyclegan": ("source", "real")}


@dataclass(frozen=True)
class Said:
    """What a command ended with."""

    status: int
    out: str
    err: str


def bigan(*arguments: object) -> Said:
    """`bigan …` in this process, on one thread."""
    out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    status: Any = 0
    torch.set_num_threads(1)
    try:
        with mock.patch.object(sys, "argv", ["bigan", *map(str, arguments)]):
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
    except SystemExit as end:
        status = end.code
    finally:
        torch.set_num_threads(threads)
    return Said(int(status or 0), out.getvalue(), err.getvalue())


def kimg(rounds: int) -> float:
    """The length of so many rounds."""
    return rounds * BATCH / 1000


def raw_config(digits: Path, kind: str = "gan", **changes: Any) -> dict[str, Any]:
    """A tiny run over packed digits, as YAML holds it: a tick a round, a checkpoint every three; `a__b=1` sets a.b."""
    raw = {
        "name": "run",
        "data": {stream: {"path": str(digits)} for stream in STREAMS.get(kind, ("real",))},
        "game": deepcopy(dict(GAMES[kind])),
        "optimizer": {"kind": "adam", "lr": 0.02, "betas": [0.5, 0.99]},
        "batch": BATCH,
        "length_kimg": kimg(6),
        "tick_kimg": kimg(1),
        "checkpoint_kimg": kimg(3),
    }
    for key, value in changes.items():
        assign(raw, f"{key.replace('__', '.')}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...')}")
    return raw


def write_config(path: Path, digits: Path, kind: str = "gan", **changes: Any) -> Path:
    """`raw_config` as a file."""
    path.write_text(yaml.safe_dump(raw_config(digits, kind, **changes)))
    return path


def pack_digits(folder: Path, size: int = 16, limit: int = 50) -> Path:
    """A few digits; so few that a run of a few rounds passes the end of an epoch."""
    pack(open_source("digits", limit=limit), folder, size=size)
    return folder


def saved(home: Path) -> Checkpoint:
    """A run's newest checkpoint, free of its file."""
    newest = checkpoint.newest(home / "checkpoints")
    assert newest is not None, f"{home} holds no checkpoint"
    found = checkpoint.load(newest)
    return replace(found, tensors={name: tensor.clone() for name, tensor in found.tensors.items()})


def differing(one: Checkpoint, other: Checkpoint) -> list[str]:
    """The names of the tensors that are not the same to the last bit."""
    names = one.tensors.keys() | other.tensors.keys()
    both = one.tensors.keys() & other.tensors.keys()
    return sorted(name for name in names if name not in both or not torch.equal(one.tensors[name], other.tensors[name]))


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder: path → digest, or what it is instead of a file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def refused(said: Said, *names: str) -> None:
    """One line that names what is wrong."""
    assert said.status == 2, said
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("bigan: ")
    assert "Traceback" not in said.err + said.out
    for name in names:
        assert name in lines[0]


def refused_and_untouched(place: Path, names: tuple[str, ...], *arguments: object) -> None:
    """As `refused`, and every file is what it was."""
    before = tree(place)
    refused(bigan(*arguments), *names)
    assert tree(place) == before
