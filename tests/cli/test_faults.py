"""What goes wrong in the middle of a run: it is said in a line, and what was saved before stands."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from bigan.build import build_game, stream_seed
from bigan.config import load
from bigan.distributed import checkpoint
from bigan.distributed.engine import WholeState
from bigan.folder import RunFolder
from bigan.optimizers import Adam

from .launch import bigan, kimg, refused, saved, tree, write_config

BROKEN = """
from dataclasses import dataclass

import torch
from torch import nn

from bigan.game import Game, Move


@dataclass(frozen=True, kw_only=True)
class Broken:
    how: str

    def build(self, data):
        state = nn.Module()
        state.register_buffer("seen", torch.zeros(2))
        return Game(
            players={"painter": nn.Linear(2, 1)},
            moves=(Move(player="painter", loss=self.loss, reads=("real",)),),
            sample=lambda ctx: {"images": torch.zeros(ctx.count, 1, 4, 4)},
            state=state,
        )

    def loss(self, ctx):
        out = ctx.players["painter"](ctx.normal("z", 2))
        if self.how == "nan" and ctx.clock.round >= 3:
            return {"a": (out * float("nan")).mean()}
        if self.how == "torch":
            return {"a": torch.nn.functional.cross_entropy(out, torch.zeros(3, dtype=torch.long))}
        return {"a": out.square().mean()}
"""


@pytest.fixture
def broken(here: Path, digits: Path) -> Path:
    (here / "game.py").write_text(BROKEN)
    return write_config(here / "broken.yaml", digits, game={"kind": "game.py:Broken", "how": "well"})


def test_weights_that_are_no_numbers_are_never_saved(broken: Path) -> None:
    """Also between two ticks, where no statistic is looked at."""
    said = bigan("train", broken, "game.how=nan", "length_kimg=1", "tick_kimg=0.5", f"checkpoint_kimg={kimg(1)}")
    assert said.status == 1
    assert said.err.startswith("bigan: runs/run: round 4, move painter: loss term a is NaN or infinite on rank 0; ")
    kept = checkpoint.candidates(Path("runs/run/checkpoints"))
    assert [path.name for path in kept] == ["round_00000003", "round_00000002"]
    assert all(tensor.isfinite().all() for tensor in saved(Path("runs/run")).tensors.values())


def test_an_error_in_a_users_loss_keeps_its_place(broken: Path) -> None:
    """One line would not say where: torch raised it, so the traceback stands."""
    with pytest.raises(ValueError, match="batch_size"):
        bigan("train", broken, "game.how=torch")


def test_two_processes_do_not_train_one_run(run: Path) -> None:
    whole = tree(run)
    with RunFolder(run).locked():
        refused(bigan("train", "run.yaml", f"length_kimg={kimg(9)}"), "runs/run: another process is training this run")
    assert tree(run) == whole
    assert bigan("train", "run.yaml", f"length_kimg={kimg(9)}").status == 0


def test_a_users_copy_of_a_checkpoint_is_theirs(run: Path) -> None:
    newest = checkpoint.candidates(run / "checkpoints")[0]
    copy = Path(shutil.copytree(newest, newest.with_name(newest.name + ".mine")))
    assert bigan("train", "run.yaml", f"length_kimg={kimg(15)}").status == 0
    assert copy.is_dir()
    assert copy not in checkpoint.candidates(run / "checkpoints")


def test_a_full_disk_costs_nothing_that_stood(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved(run)

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    said = bigan("train", "run.yaml", f"length_kimg={kimg(9)}")
    refused(said, "tensors.safetensors: cannot be written")
    assert saved(run).clock == before.clock
    assert not list((run / "checkpoints").glob("*.incomplete"))


def test_a_log_that_cannot_be_written(run: Path) -> None:
    (run / "events.jsonl").unlink()
    (run / "events.jsonl").mkdir()
    refused(bigan("train", "run.yaml", f"length_kimg={kimg(9)}"), "events.jsonl: cannot be written")


def test_an_evaluation_that_cannot_be_written(run: Path) -> None:
    (run / "evaluation.json").mkdir()
    refused(bigan("evaluate", run, "--count=20"), "evaluation.json: cannot be written")


def test_streams_over_one_data_set_are_not_paired(broken: Path, digits: Path) -> None:
    run = load(broken)
    orders = []
    for name in ("a", "b"):
        with run.data["real"].open(stream_seed(run, name)) as stream:
            orders.append(stream.read(0, 50).images)
    assert not torch.equal(*orders)


def test_what_is_restored_lies_on_the_device(broken: Path) -> None:
    """Without a GPU the meta device stands for one."""
    meta = torch.device("meta")
    run = load(broken)
    with run.data["real"].open(0) as stream:
        assert build_game(run, {"real": stream}, meta).state.get_buffer("seen").device == meta
    module = nn.Linear(2, 1).to(meta)
    optimizer = Adam().build(module.parameters())
    moments = {f"{name}/exp_avg": torch.ones(p.shape) for name, p in module.named_parameters()}
    steps = {f"{name}/step": torch.tensor(3.0) for name, _ in module.named_parameters()}
    WholeState(dict(module.named_parameters()), optimizer, None).load({**moments, **steps})
    for state in optimizer.state.values():
        assert state["exp_avg"].device == meta
        assert state["step"].item() == 3.0  # where torch keeps it, so that no step waits for the device
