"""One launch on one rank and one on two, which play all cases."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..cli.launch import ENVIRONMENT, pack_digits

ROOT = Path(__file__).parents[2]
WORKER = ("-m", "tests.distributed.worker")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@dataclass(frozen=True)
class Played:
    """What the workers left: their folders, and what each rank told."""

    digits: Path
    one: Path
    two: Path
    told: dict[str, dict[str, Any]]


def launch(command: Sequence[object], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run([*map(str, command)], env=ENVIRONMENT, capture_output=True, text=True, timeout=600, cwd=cwd)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("distributed") / "digits")


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Played:
    place = tmp_path_factory.mktemp("played")
    one, two = place / "one", place / "two"
    for command in ([sys.executable, *WORKER, one, digits], [*TORCHRUN, *WORKER, two, digits, one]):
        ended = launch(command, cwd=ROOT)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    files = {"one": one / "told 0.json", "two": two / "told 0.json", "second": two / "told 1.json"}
    return Played(digits, one, two, {name: json.loads(file.read_text()) for name, file in files.items()})
