"""Play every case of `test_parity.py` on the ranks that this was started on: `-m tests.distributed.worker OUT DIGITS [OTHER]`.

OUT/NAME is the run of a case, with its checkpoints; OTHER is the OUT of a worker on another number of ranks.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from bigan.batch import Batch
from bigan.build import prepared
from bigan.clock import Clock
from bigan.config import Run
from bigan.distributed import checkpoint
from bigan.distributed.group import Alone, World, joined
from bigan.distributed.player import seat
from bigan.distributed.zero import Division
from bigan.game import Context, Game, Move, Terms
from bigan.optimizers import SGD
from bigan.play import Meter, Table, play

from .cases import BATCH, BEGUN, CASES, ROUNDS, gan, settings

CPU = torch.device("cpu")


def run_to(run: Run, rounds: int, group: Alone | World) -> dict[str, float]:
    """Play a run on from where it stands, and save it. Returns the means of what was measured."""
    meter = Meter()
    with prepared(run, group, CPU) as setup:
        clock = setup.clock
        while clock.round < rounds:
            clock = play(setup.table, clock, meter)
        setup.folder.home.mkdir(parents=True, exist_ok=True)
        setup.folder.config.touch()
        whole = setup.checkpoint(clock)
        if group.rank == 0:
            checkpoint.save(setup.folder.checkpoints, whole, keep=9)
        means = meter.means(group)
        means["apart"] = max(_apart(tensor, group) for player in setup.players.values() for tensor in _held(player))
    group.agree("")  # no rank reads what rank 0 has not written
    return means


def _held(player: Any) -> list[Tensor]:
    """What every rank holds whole."""
    return [tensor for module in (player.module, player.average) for tensor in module.state_dict().values()]


def _apart(tensor: Tensor, group: Alone | World) -> float:
    """How far the ranks are apart."""
    rows = group.gather(tensor.detach().double().reshape(1, -1))
    return float((rows - rows[:1]).abs().max())


class Digits:
    """A stream of noise, the same at a position for whoever asks."""

    def read(self, start: int, count: int) -> Batch:
        index = torch.arange(start, start + count)
        return Batch(index, {"images": torch.sin(index[:, None].float() * torch.tensor([1.0, 2.0, 5.0]))})


def frozen_players(group: Alone | World, stage: int) -> dict[str, Any]:
    """A move of one player through the other; what the other one shows of it, on this rank."""
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {
        name: nn.Sequential(spectral_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4), nn.Linear(4, 3)) for name in ("mover", "other")
    }
    asked: list[bool] = []

    def loss(ctx: Context) -> Terms:
        asked.append(any(parameter.requires_grad for parameter in ctx.players["other"].parameters()))
        return {"loss": ctx.players["other"](ctx.players["mover"](ctx.batch("real").images)).square().mean()}

    game = Game(
        players=modules,
        moves=(Move(player="mover", loss=loss, reads=("real",)),),
        sample=lambda ctx: {},
    )
    share = BATCH // group.size
    division = Division(micro_batch=share, accumulation=1, zero_stage=stage)
    players = {name: seat(module, SGD(lr=0.1), None, division, group, CPU) for name, module in modules.items()}
    table = Table(game=game, players=players, feeds={"real": Digits()}, group=group, micro_batch=share, seed=0, device=CPU)
    before = {name: {k: v.clone() for k, v in player.module.state_dict().items()} for name, player in players.items()}
    clock = Clock(batch=BATCH)
    for _ in range(2):
        clock = play(table, clock, Meter())
    moved = {
        name: [k for k, v in player.module.state_dict().items() if not torch.equal(v, before[name][k])]
        for name, player in players.items()
    }
    return {
        "other asked for gradients": any(asked),
        "other got gradients": any(parameter.grad is not None for parameter in players["other"].module.parameters()),
        "other moved": moved["other"],
        "mover moved": moved["mover"],
        "mover's batches": int(players["mover"].module.state_dict()["1.num_batches_tracked"]),
        "frozen at the end": [n for n, p in players["other"].module.named_parameters() if not p.requires_grad],
    }


def main(out: Path, digits: Path, other: Path | None) -> None:
    """Play all."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with joined(CPU) as group:
        if other is not None and group.rank == 0:
            for name in BEGUN:  # resumed here, begun on another number of ranks
                shutil.copytree(other / name.replace(", ", " "), out / f"{name} elsewhere".replace(", ", " "))
        told: dict[str, Any] = {"ranks": group.size}
        group.agree("")
        for name in CASES:
            told[name] = run_to(settings(out, digits, name, group.size), ROUNDS // 2 if name in BEGUN else ROUNDS, group)
        # At rate 1 a step is the gradient. Its norm is above 1, where DeepSpeed would clip it unless told not to.
        told["gradient"] = [
            run_to(
                settings(
                    out, digits, f"gradient {stage}", group.size,
                    game=gan(weight=4.0, every=1), optimizer={"kind": "sgd", "lr": 1.0}, zero_stage=stage,
                ),
                1, group,
            )
            for stage in (0, 1)
        ]  # fmt: skip
        for stage in (0, 1):
            through = settings(out, digits, f"through {stage}", group.size, zero_stage=stage)
            run_to(through, ROUNDS, group)
            halved = settings(out, digits, f"halved {stage}", group.size, zero_stage=stage)
            run_to(halved, ROUNDS // 2, group)
            run_to(halved, ROUNDS, group)
        if other is not None:
            for name in BEGUN:
                game, optimizer, stage, _ = CASES[name]
                resumed = settings(
                    out, digits, f"{name} elsewhere", group.size, game=game, optimizer=optimizer, zero_stage=stage
                )
                told[resumed.name] = run_to(resumed, ROUNDS, group)
        told["frozen"] = [frozen_players(group, stage) for stage in (0, 1)]
        told["deepspeed"] = "deepspeed" in sys.modules
        (out / f"told {group.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
