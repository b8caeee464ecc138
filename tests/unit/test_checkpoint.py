"""Checkpoints: written whole or not at all, found although the newest is damaged, and enough to go on from."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigan.average import Average
from bigan.clock import Clock
from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import Checkpoint, candidates, load, newest, save, verifies
from bigan.distributed.group import Alone
from bigan.distributed.player import Division, LocalPlayer, seat
from bigan.optimizers import SGD, Adam, Optimizer

CPU = torch.device("cpu")
FILES = ("tensors.safetensors", "state.json", "manifest.json")


def made(round: int, **tensors: Tensor) -> Checkpoint:
    named = {"player.a.module.w": torch.full((3, 2), float(round)), "state.n": torch.tensor(round), **tensors}
    clock = Clock(batch=4, round=round, attempt=1, steps={"a": round}, positions={"real": 4 * round})
    return Checkpoint(clock, {"name": "x", "optimizer": {"betas": [0.5, 0.9]}}, {"real": {"sha256": "0"}}, named)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [truncate, flip, empty, Path.unlink]


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


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_the_one_before_is_taken_where_the_newest_is_damaged(tmp_path: Path, file: str, damage: Callable[[Path], None]) -> None:
    good, bad = save(tmp_path, made(1), keep=3), save(tmp_path, made(2), keep=3)
    assert newest(tmp_path) == bad
    damage(bad / file)
    assert not verifies(bad)
    assert newest(tmp_path) == good
    damage(good / file)
    with pytest.raises(ValueError, match="all 2 checkpoints are damaged"):
        newest(tmp_path)


@pytest.mark.parametrize(
    "manifest",
    ["[]", "null", '{"schema": 1}', '{"schema": 1, "files": {}}', '{"schema": 2, "files": {}}', '{"schema":1,"files":3}'],
)
def test_a_manifest_that_vouches_for_nothing_does_not_verify(tmp_path: Path, manifest: str) -> None:
    path = save(tmp_path, made(1), keep=1)
    (path / "manifest.json").write_text(manifest)
    assert not verifies(path)


def test_a_manifest_that_leaves_a_file_out_does_not_verify(tmp_path: Path) -> None:
    path = save(tmp_path, made(1), keep=1)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["tensors.safetensors"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert not verifies(path)


def test_nothing_yet_is_no_error(tmp_path: Path) -> None:
    assert newest(tmp_path / "missing") is None
    assert newest(tmp_path) is None
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "round_00000009").write_text("a file")
    assert newest(tmp_path) is None


def test_what_is_incomplete_is_ignored_and_written_over(tmp_path: Path) -> None:
    good = save(tmp_path, made(1), keep=3)
    shutil.copytree(good, tmp_path / "round_00000002.incomplete")
    assert candidates(tmp_path) == [good]
    assert newest(tmp_path) == good
    (tmp_path / "round_00000002.incomplete" / "stray").write_text("")
    path = save(tmp_path, made(2), keep=3)
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    assert not list(tmp_path.glob("*.incomplete"))


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for round in (8, 9, 10, 99, 100):
        save(tmp_path, made(round), keep)
    assert [int(p.name.removeprefix("round_")) for p in candidates(tmp_path)] == [100, 99, 10][:keep]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_one_of_a_later_round_does_not_push_out_what_was_just_written(tmp_path: Path, keep: int) -> None:
    """The run went back to the checkpoint before it, and saves before it is there again."""
    save(tmp_path, made(10), keep=2)
    flip(save(tmp_path, made(20), keep=2) / "tensors.safetensors")
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


def test_every_prefix_of_a_write_that_was_killed_leaves_what_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill runs no handler: whatever lies there then, a run resumes from a whole checkpoint."""
    good, reached = save(tmp_path, made(1), keep=1), 0
    flush, remove = checkpoint._flush, shutil.rmtree

    class KilledError(BaseException):
        pass

    for limit in range(10):
        count = 0

        def dying(path: Path, limit: int = limit) -> None:
            nonlocal count
            count += 1
            if count > limit:
                monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None)
                raise KilledError
            flush(path)

        monkeypatch.setattr(checkpoint, "_flush", dying)
        try:
            save(tmp_path, made(2), keep=1)
        except KilledError:
            reached += 1
        monkeypatch.setattr(shutil, "rmtree", remove)
        found = newest(tmp_path)
        assert found is not None
        assert load(found).clock.round in (1, 2)
        if found != good:
            break
    assert reached >= 3


def player(optimizer: Optimizer, saved: dict[str, Tensor] | None = None) -> LocalPlayer:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    made = seat(module, optimizer, Average(half_life_kimg=0.02), Division(micro_batch=4, accumulation=1), Alone(), CPU, saved)
    assert isinstance(made, LocalPlayer)
    return made


def steps(one: LocalPlayer, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.sin(torch.arange(12.0).view(4, 3) + step)
        one.update((one.module(x) - 1).square().mean(), last=True)
        one.follow(Clock(batch=4, round=step + 10))


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
