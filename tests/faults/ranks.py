"""Two processes that are ranks of each other, with or without torchrun, and how they ended."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..cli.launch import ENVIRONMENT

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
LIMIT_S = 240


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def pair(*command: object, environment: Mapping[str, str] | None = None) -> list[subprocess.Popen[str]]:
    """The command as rank 0 and rank 1, without an agent: rank 0 keeps the store."""
    shared = {
        **ENVIRONMENT,
        **(environment or {}),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def workers(agent: int) -> dict[int, int]:
    """Rank → process id of the ranks that an agent has started."""
    found: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            entries = (process / "environ").read_text().split("\0") if parent == agent else []
        except OSError:
            continue  # it has ended meanwhile
        for entry in entries:
            if entry.startswith("RANK="):
                found[int(entry.removeprefix("RANK="))] = int(process.name)
    return found


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Status, output and errors of each."""
    told = []
    for process in processes:
        out, err = process.communicate(timeout=LIMIT_S)
        told.append((process.returncode, out, err))
    return told


def torchrun(*command: object, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        [*TORCHRUN, *map(str, command)],
        env={**os.environ, **ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
