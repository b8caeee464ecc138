"""Checkpoints: written whole or not at all, found although the newest is damaged, and enough to go on from."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigan.average import Average
from bigan.clock import Clock
from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import candidates, load, newest, save, sweep, verifies
from bigan.distributed.group import Alone
from bigan.distributed.player import Player, seat
from bigan.distributed.zero import Division
from bigan.optimizers import SGD, Adam, Optimizer

from .saved import FILES, made, truncate

CPU = torch.device("cpu")


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    odd = {
        "state.bf16": torch.randn(3).bfloat16(),
        "state.flag": torch.tensor(True),
        "state.count": torch.tensor(2**40),
        "state.nhwc": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "state.grad": torch.randn(2, requires_grad=True),
        "state.none": torch.zeros(0, 3),
    }
    written = made(7, **odd)
    path = save(tmp_path, written, keep=2)
    read = load(path)
    assert (read.clock, read.config, read.data) == (written.clock, written.config, written.data)
    assert read.tensors.keys() == written.tensors.keys()
    for name, tensor in written.tensors.items():
        assert torch.equal(read.tensors[name], tensor.detach()), name
        assert read.tensors[name].dtype == tensor.dtype, name
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    assert newest(tmp_path) == path


def test_tensors_that_share_memory_are_written_each(tmp_path: Path) -> None:
    """A tied weight stands under two names in a state dict; a slice of a buffer is a view of it."""
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    rows = torch.randn(4, 3)
    tensors = {**tied.state_dict(), "head": rows[:2], "tail": rows[2:], "wide": rows[0].expand(5, 3)}
    read = load(save(tmp_path, made(1, **tensors), keep=1))
    for name, tensor in tensors.items():
        assert torch.equal(read.tensors[name], tensor), name


def test_a_part_is_named_without_its_prefix() -> None:
    saved = made(1, **{"player.ab.module.w": torch.zeros(1), "player.a.module.player.a.x": torch.zeros(1)})
    assert set(saved.part("player.a.")) == {"module.w", "module.player.a.x"}
    assert set(saved.part("state.")) == {"n"}


def test_nothing_yet_is_no_error(tmp_path: Path) -> None:
    assert newest(tmp_path / "missing") is None
    assert newest(tmp_path) is None
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "round_00000009").write_text("a file")
    assert newest(tmp_path) is None


def test_what_is_incomplete_is_ignored_and_swept(tmp_path: Path) -> None:
    good = save(tmp_path, made(1), keep=3)
    for left in ("round_00000002.incomplete", "round_00000002.host-1-ab.incomplete", "round_00000001.x.replaced.incomplete"):
        shutil.copytree(good, tmp_path / left)
    mine = [Path(shutil.copytree(good, tmp_path / name)) for name in ("round_00000001.mine", "copy.incomplete")]
    (tmp_path / ".best.json.host-1-ab.tmp").write_text("{")
    assert candidates(tmp_path) == [good]
    assert newest(tmp_path) == good
    path = save(tmp_path, made(2), keep=3)
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    sweep(tmp_path)
    sweep(tmp_path / "missing")
    assert sorted(tmp_path.iterdir()) == sorted([good, path, *mine])


def test_rounds_are_sorted_by_number(tmp_path: Path) -> None:
    first, last = save(tmp_path, made(99_999_999), keep=2), save(tmp_path, made(100_000_000), keep=2)
    assert candidates(tmp_path) == [last, first]


def test_the_best_is_kept_beside_the_newest(tmp_path: Path) -> None:
    """Whichever that is: what is no longer the best goes its way; a round that was not measured cannot be."""
    told = {}
    for round, value in enumerate([3.0, 5.0, None, 2.0, 2.0, math.nan, -math.inf, 9.0, 8.0], start=1):
        metrics = {} if value is None else {"frechet": value, "recall": 0.5}
        save(tmp_path, replace(made(round), metrics=metrics), keep=2)
        told[round] = ([checkpoint.round_of(p) for p in candidates(tmp_path)], json.loads((tmp_path / "best.json").read_text()))
    assert told[3] == ([3, 2, 1], {"round": 1, "metric": "frechet", "value": 3.0})
    assert told[4][0] == [4, 3]
    assert told[9] == ([9, 8, 4], {"round": 4, "metric": "frechet", "value": 2.0})
    leading = checkpoint.best(tmp_path)
    assert leading is not None
    assert load(leading).metrics == {"frechet": 2.0, "recall": 0.5}
    (leading / "state.json").write_text((leading / "state.json").read_text().replace("2.0", "1.0"))
    best = checkpoint.best(tmp_path)
    assert best is not None
    assert checkpoint.round_of(best) == 9


def test_no_best_where_nothing_was_measured(tmp_path: Path) -> None:
    save(tmp_path, made(1), keep=1)
    assert checkpoint.best(tmp_path) is None
    assert not (tmp_path / "best.json").exists()


def test_a_fence_keeps_what_is_written_from_being_published(tmp_path: Path) -> None:
    good = save(tmp_path, made(1), keep=1)
    before = (good / "tensors.safetensors").read_bytes()

    def fenced() -> None:
        (half,) = tmp_path.glob("*.incomplete")
        assert sorted(p.name for p in half.iterdir()) == sorted(FILES)
        raise RuntimeError("another job has the run")

    for round in (1, 2):
        with pytest.raises(RuntimeError, match="another job"):
            save(tmp_path, made(round, x=torch.ones(1)), keep=1, fence=fenced)
    assert list(tmp_path.iterdir()) == [good]
    assert (good / "tensors.safetensors").read_bytes() == before


def test_a_rename_that_fails_leaves_the_one_of_the_same_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, rename = save(tmp_path, made(1), keep=1), Path.rename

    def fail(path: Path, target: Path) -> Path:
        if target == good and "replaced" not in path.name:
            raise OSError(5, "Input/output error", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        save(tmp_path, made(1, x=torch.ones(1)), keep=1)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [good]
    assert load(good).tensors.keys() == made(1).tensors.keys()


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for round in (8, 9, 10, 99, 100):
        save(tmp_path, made(round), keep)
    assert [int(p.name.removeprefix("round_")) for p in candidates(tmp_path)] == [100, 99, 10][:keep]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_one_of_a_later_round_does_not_push_out_what_was_just_written(tmp_path: Path, keep: int) -> None:
    """The run went back to the checkpoint before it, and saves before it is there again."""
    save(tmp_path, made(10), keep=2)
    truncate(save(tmp_path, made(20), keep=2) / "tensors.safetensors")
    for round in (12, 14):
        path = save(tmp_path, made(round), keep)
        assert path.is_dir()
        assert newest(tmp_path) == path
    if keep == 2:
        assert verifies(tmp_path / "round_00000012")
    again = save(tmp_path, made(20), keep)
    assert newest(tmp_path) == again


@pytest.mark.parametrize("step", ["save_file", "_flush", "_seal", "_sha256"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "interrupted"])
def test_a_failing_write_leaves_what_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    good = save(tmp_path, made(1), keep=1)

    def fail(*arguments: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(checkpoint, step, fail)
    with pytest.raises(type(error)):
        save(tmp_path, made(2), keep=1)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == [good.name]
    assert newest(tmp_path) == good


def player(optimizer: Optimizer, saved: dict[str, Tensor] | None = None) -> Player:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    return seat(module, optimizer, Average(half_life_kimg=0.02), Division(micro_batch=4, accumulation=1), Alone(), CPU, saved)


def steps(one: Player, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.sin(torch.arange(12.0).view(4, 3) + step)
        clock = Clock(batch=4, round=step + 10)
        one.update((one.module(x) - 1).square().mean(), clock, last=True)
        one.follow(clock)


@pytest.mark.parametrize("optimizer", [Adam(lr=0.05), SGD(lr=0.05), SGD(lr=0.05, momentum=0.9)], ids=repr)
def test_a_player_that_was_saved_goes_on_as_if_it_had_not_been(tmp_path: Path, optimizer: Optimizer) -> None:
    straight, broken = player(optimizer), None
    initial = {name: tensor.clone() for name, tensor in straight.tensors().items()}
    broken = player(optimizer, initial)
    steps(straight, 0, 6)
    steps(broken, 0, 3)
    path = save(tmp_path, replace(made(3), tensors={f"player.a.{k}": v for k, v in broken.tensors().items()}), keep=1)
    steps(broken, 3, 6)
    torch.manual_seed(99)
    resumed = player(optimizer, load(path).part("player.a."))
    steps(resumed, 3, 6)
    assert straight.tensors().keys() == resumed.tensors().keys()
    for name, tensor in straight.tensors().items():
        assert torch.equal(resumed.tensors()[name], tensor), name
        assert torch.equal(broken.tensors()[name], tensor), name
    assert resumed.average is not resumed.module
    assert not any(p.requires_grad for p in resumed.average.parameters())
