"""A run's folder: `runs/NAME/` with the resolved config, the environment, events, grids and checkpoints."""

import fcntl
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bigan.files import save

LOCK = ".lock"


class RunFolder:
    """Where things of a run lie; nothing is written before `begin`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "config.yaml"
        self.environment = home / "environment.json"
        self.events = home / "events.jsonl"
        self.grids = home / "grids"
        self.interpolation = home / "interpolation"
        self.animation = home / "animation.gif"
        self.checkpoints = home / "checkpoints"
        self.evaluation = home / "evaluation.json"
        self.status = home / "STATUS"
        self.attempts = home / "attempts.json"
        self.deepspeed = home / "deepspeed.json"
        self.diverged = home / "diverged"
        self.hangs = home / "hangs"
        self.features = home / "features"

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Within, no other process of this machine may train this run.

        Yields:
            whether that is sure: some file systems have no locks.

        Raises:
            ValueError: if one does, or the folder cannot be made.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            file = (self.home / LOCK).open("w")
        except OSError as error:
            raise ValueError(f"{self.home}: cannot be written ({error.strerror}); set name= or folder=") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{self.home}: another process is training this run; wait for it, or set name=") from None
            except OSError:
                yield False
                return
            yield True

    def other_game(self, game_file: Path | None) -> str:
        """That the run went by another file so far than by this, in words; "" where it did not. Before `begin`."""
        if game_file is None or not (copy := self.home / game_file.name).is_file():
            return ""
        try:
            same = copy.read_bytes() == game_file.read_bytes()
        except OSError:  # then it is said by what reads it next
            return ""
        return "" if same else f"{game_file} is not what this run was played by so far: {copy} differs, and is replaced by it"

    def begin(self, config: dict[str, Any], environment: dict[str, Any], game_file: Path | None) -> None:
        """Make the folder and write what the run is; a user's game file is kept beside the config, which then finds it there.

        Raises:
            ValueError: if the folder cannot be written.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            save(self.config, yaml.safe_dump(config, sort_keys=False).encode())  # first: by it a run folder is known
            if game_file is not None and game_file.parent.resolve() != self.home.resolve():
                save(self.home / game_file.name, game_file.read_bytes())
            save(self.environment, (json.dumps(environment, indent=1) + "\n").encode())
            self.grids.mkdir(exist_ok=True)
            self.interpolation.mkdir(exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise ValueError(f"{self.home}: cannot be written ({error.strerror}); set name= or folder=") from None

    def check(self) -> None:
        """Refuse a path at which no run folder can be, before anything else is done.

        Raises:
            ValueError: naming the path that stands in the way.
        """
        for path in (self.home, *self.home.parents):
            if path.exists() and not path.is_dir():
                raise ValueError(f"{path}: a file stands where the run folder belongs; move it, or set name= or folder=")
        if self.home.is_dir() and not self.config.is_file() and any(not _early(path) for path in self.home.iterdir()):
            raise ValueError(f"{self.home}: is no run folder (it has no config.yaml); set name= or folder=")


def _early(path: Path) -> bool:
    """Whether a run that was killed before its config was written has left this; an older one made empty folders first."""
    if path.name in ("grids", "checkpoints"):
        return path.is_dir() and not any(path.iterdir())
    return path.name.startswith(".") or path.name in ("lease.json", "hangs")


def environment(backend: str, device: str, ranks: int) -> dict[str, Any]:
    """What a figure of this run depends on: versions, commit, machine, kernels."""
    packages = ("bigan", "torch", "torchvision", "deepspeed", "webdataset", "numpy", "pillow")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "commit": _commit(),
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "device": device},
        "ranks": ranks,
        "kernels": backend,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
