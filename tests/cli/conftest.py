"""Data and a run that the tests of the commands share; they copy what they change."""

import shutil
from pathlib import Path

import pytest

from .launch import bigan, pack_digits, write_config


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty digits of 16x16."""
    return pack_digits(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A folder with run.yaml and the finished run runs/run of six rounds; not to be changed."""
    place = tmp_path_factory.mktemp("trained")
    config = write_config(place / "run.yaml", digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        said = bigan("train", config)
    assert said.status == 0, said
    return place


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path, trained: Path) -> Path:
    """A copy of the finished run, at runs/run of the current folder, beside its run.yaml."""
    shutil.copytree(trained, here, dirs_exist_ok=True)
    return Path("runs/run")
