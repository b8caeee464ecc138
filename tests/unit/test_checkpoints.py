"""A run's checkpoints are looked at while it trains, and prunes what was just listed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigan import checkpoints
from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import candidates, save
from bigan.folder import RunFolder

from .saved import made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunFolder(tmp_path)
    folder.config.touch()
    save(folder.checkpoints, made(1), keep=1)
    return tmp_path


def saving_before(run: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The run saves its second round, and prunes its first, before this is done for the first time."""
    act: Callable[..., Any] = getattr(checkpoint, name)

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(checkpoint, name, act)
        save(run / "checkpoints", made(2), keep=1)
        return act(*arguments)

    monkeypatch.setattr(checkpoint, name, late)


@pytest.mark.parametrize("step", ["problem", "load"])
def test_what_is_pruned_while_it_is_read_is_not_damaged(run: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    saving_before(run, monkeypatch, step)
    assert checkpoints.loaded(run)[1].clock.round == 2


def test_the_one_of_a_round_that_is_pruned_is_not_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving_before(run, monkeypatch, "problem")
    with pytest.raises(ValueError, match=r"has no checkpoint 1; it has 2$"):
        checkpoints.chosen(run, "1")


@pytest.mark.parametrize("step", ["best", "about"])
def test_what_is_pruned_is_not_listed(run: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    saving_before(run, monkeypatch, step)
    (line,) = checkpoints.listing(run)
    assert line.startswith("round_00000002")
    assert line.endswith("newest")


def test_what_is_pruned_is_not_told_to_be_damaged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving_before(run, monkeypatch, "problem")
    assert checkpoints.verify(run) == [(run / "checkpoints" / "round_00000002", None)]


def test_what_is_damaged_is_told_all_the_same(run: Path) -> None:
    (run / "checkpoints" / "round_00000001" / "tensors.safetensors").unlink()
    for at in (None, "1"):
        with pytest.raises(ValueError, match=r"damaged.*tensors.safetensors"):
            checkpoints.loaded(run, at)
    ((_, wrong),) = checkpoints.verify(run)
    assert wrong is not None


def test_a_checkpoint_is_whole_until_it_is_gone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are deleted under another name."""
    seen: list[list[Path]] = []
    remove = checkpoint._remove

    def watched(path: Path) -> None:
        seen.append(candidates(run / "checkpoints"))
        remove(path)

    monkeypatch.setattr(checkpoint, "_remove", watched)
    new = save(run / "checkpoints", made(2), keep=1)
    assert seen == [[new]]
    assert [path.name for path in (run / "checkpoints").iterdir()] == [new.name]


def test_tensors_that_cannot_be_opened_are_no_traceback(run: Path) -> None:
    """Which safetensors tells by a RuntimeError or an OSError, by what is in the way."""
    path = run / "checkpoints" / "round_00000001"
    (path / "tensors.safetensors").unlink()
    with pytest.raises(ValueError, match="is no checkpoint that bigan wrote"):
        checkpoint.load(path)
