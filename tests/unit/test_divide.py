"""How a global batch falls to ranks and micro-batches, and which settings and games forbid micro-batches."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from bigan.build import divide
from bigan.config import Run, parse
from bigan.distributed.zero import Division
from bigan.game import Game, Move


def run(**settings: Any) -> Run:
    base = {"name": "run", "game": "gan", "data": {"real": {"path": "data"}}, "length_kimg": 1, "batch": 16}
    return parse(base | settings, Path("run.yaml"))


def game(module: nn.Module, *, coupled: bool = False) -> Game:
    moves = (Move(player="critic", loss=lambda ctx: {}, coupled=coupled),)
    return Game(players={"critic": module}, moves=moves, sample=lambda ctx: {})


def test_a_ranks_share_falls_to_micro_batches() -> None:
    plain = game(nn.Linear(1, 1))
    assert divide(run(), plain, 2) == Division(micro_batch=8, accumulation=1)
    assert divide(run(micro_batch=4, compile="default"), plain, 2) == Division(micro_batch=4, accumulation=2)
    assert divide(run(micro_batch=4, compile="reduce-overhead"), plain, 4) == Division(micro_batch=4, accumulation=1)


@pytest.mark.parametrize(
    ("settings", "rules", "message"),
    [
        ({"compile": "reduce-overhead"}, game(nn.Linear(1, 1)), r"compile: reduce-overhead.*2 micro-batches; set default"),
        ({}, game(nn.BatchNorm2d(1)), r"batch norm sees; leave micro_batch out, or .* norm: none"),
        ({}, game(nn.Linear(1, 1), coupled=True), r"move 'critic' couples; leave micro_batch out$"),
        ({}, game(nn.BatchNorm2d(1), coupled=True), r"move 'critic' couples; leave micro_batch out$"),
    ],
    ids=["graphs", "batch norm", "coupled", "coupled, and batch norm"],
)
def test_what_forbids_micro_batches_is_named_with_a_way_out_that_is_one(
    settings: dict[str, Any], rules: Game, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        divide(run(micro_batch=4, **settings), rules, 2)
