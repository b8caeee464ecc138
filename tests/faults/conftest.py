"""Data for the fault tests, and a game that breaks when it is told to."""

from pathlib import Path
from typing import Any

import pytest

from ..cli.launch import pack_digits, write_config

FRAGILE = '''
"""A game of two players that breaks in one way, in one round, in the attempts up to `attempts`."""

import weakref
from dataclasses import dataclass

import torch
from torch import nn

from bigan.game import Game, Move

ALIVE = weakref.WeakSet()


@dataclass(frozen=True, kw_only=True)
class Fragile:
    how: str = "well"
    round: int = 5
    attempts: int = 1

    def build(self, data):
        notes = (f"{len(ALIVE)} networks of earlier attempts",)
        players = {"painter": nn.Linear(2, 1), "judge": nn.Linear(2, 1)}
        ALIVE.update(players.values())
        return Game(
            players=players,
            notes=notes,
            moves=(
                Move(player="painter", loss=self.paint, reads=("real",)),
                Move(player="judge", loss=self.judge, reads=("real",), repeat=2),
            ),
            sample=lambda ctx: {"images": torch.zeros(ctx.count, 1, 4, 4)},
        )

    def breaks(self, ctx):
        return ctx.clock.round == self.round - 1 and ctx.clock.attempt < self.attempts

    def paint(self, ctx):
        return {"fit": ctx.players["painter"](ctx.normal("z", 2)).square().mean()}

    def judge(self, ctx):
        judge = ctx.players["judge"]
        fit = judge(ctx.normal("z", 2)).square().mean()
        none = (judge.bias * 0).sum()
        if self.how == "weight":  # such a slope is no problem, but at such a rate the step is
            return {"fit": fit * 0, "rest": none + 1e18 * self.breaks(ctx) * (ctx.step % 2) * judge.bias.sum()}
        if not self.breaks(ctx):
            return {"fit": fit, "rest": none}
        if self.how == "loss":
            return {"fit": fit, "rest": none + float("inf")}
        if self.how == "gradient" and ctx.step % 2:  # 0 at 0, where its slope is infinite; in the second of the two steps
            return {"fit": fit, "rest": none.square().sqrt()}
        return {"fit": fit, "rest": none}
'''


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("faults") / "digits")


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Path) -> Path:
    """The config of a run of that game, beside it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "game.py").write_text(FRAGILE)
    game: dict[str, Any] = {"kind": "game.py:Fragile"}
    return write_config(tmp_path / "run.yaml", digits, game=game, optimizer={"kind": "sgd", "lr": 0.01})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
