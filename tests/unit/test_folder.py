"""What a run's folder holds if its writer ends, or its disk fills up, at any call."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigan.folder import RunFolder

FILES = ("config.yaml", "environment.json", "game.py")


class KilledError(BaseException):
    """Nothing more is done."""


@pytest.fixture
def game(tmp_path: Path) -> Path:
    return tmp_path / "game.py"


def begin(folder: RunFolder, game: Path, version: int) -> None:
    game.write_text(f"VERSION = {version}\n")
    folder.begin({"seed": version}, {"ranks": version}, game)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, at: int, error: BaseException) -> None:
    """The k-th call of a function of `os` fails, and all after it do."""
    left, call = [at], getattr(os, name)

    def fail(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] <= 0:
            raise error
        return call(*arguments, **options)

    monkeypatch.setattr(os, name, fail)


def interrupted(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], name: str, at: int) -> bool:
    with monkeypatch.context() as patch:
        failing(patch, name, at, KilledError())
        try:
            act()
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("name", ["mkdir", "replace", "fsync"])
def test_a_kill_leaves_a_folder_in_which_the_run_begins_again(
    tmp_path: Path, game: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    at = 1
    while True:
        folder = RunFolder(tmp_path / f"{name}-{at}")
        if not interrupted(monkeypatch, lambda folder=folder: begin(folder, game, 1), name, at):
            break
        folder.check()
        begin(folder, game, 1)
        at += 1
    assert at > 2
    assert sorted(path.name for path in folder.home.iterdir()) == sorted(("checkpoints", "grids", "interpolation", *FILES))


@pytest.mark.parametrize("name", ["replace", "fsync"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_on_a_full_disk_every_file_is_the_old_or_the_new_one(
    tmp_path: Path, game: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    old, new, folder = RunFolder(tmp_path / "old"), RunFolder(tmp_path / "new"), RunFolder(tmp_path / "run")
    for place, version in ((old, 1), (folder, 1), (new, 2)):
        begin(place, game, version)
    with monkeypatch.context() as patch:
        failing(patch, name, at, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(ValueError, match=r"run: cannot be written \(No space left on device\); set name= or folder="):
            begin(folder, game, 2)
    for file in FILES:
        assert (folder.home / file).read_text() in [(place.home / file).read_text() for place in (old, new)]
    assert sorted(path.name for path in folder.home.iterdir()) == sorted(("checkpoints", "grids", "interpolation", *FILES))


def test_empty_folders_of_an_earlier_version_are_no_obstacle(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.grids.mkdir(parents=True)
    folder.checkpoints.mkdir()
    folder.check()
    (folder.grids / "mine.png").touch()
    with pytest.raises(ValueError, match="is no run folder"):
        folder.check()
