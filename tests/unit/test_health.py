"""What comes first of what is no number, in the order of play, on whichever rank."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigan.clock import Clock
from bigan.distributed.group import Alone
from bigan.game import Context, Game, Move
from bigan.health import Witness
from bigan.play import Table, play_moves

START = Clock(batch=8, round=11)


def broken(a: Callable[[Context], Tensor], b: Callable[[Context], Tensor], repeat: int = 1) -> Game:
    def loss(player: str, term: Callable[[Context], Tensor]) -> Callable[[Context], dict[str, Tensor]]:
        return lambda ctx: {
            "fit": ctx.players[player](ctx.batch("real").images).square().mean(),
            "rest": ctx.players[player].get_parameter("bias").sum() * 0 + term(ctx),
        }

    return Game(
        players={name: nn.Linear(3, 1).double() for name in "ab"},
        moves=(
            Move(player="a", loss=loss("a", a), reads=("real",), repeat=repeat),
            Move(player="b", loss=loss("b", b), reads=("real",), name="second"),
        ),
        sample=lambda ctx: {},
    )


def well(_: Context) -> Tensor:
    return torch.zeros(())


def infinite(_: Context) -> Tensor:
    return torch.tensor(float("-inf"))


def steep(player: str) -> Callable[[Context], Tensor]:
    """0, whose slope is none."""
    return lambda ctx: (ctx.players[player].get_parameter("weight") * 0).sum().square().sqrt()


def at(step: int, term: Callable[[Context], Tensor]) -> Callable[[Context], Tensor]:
    return lambda ctx: term(ctx) if ctx.step == step else well(ctx)


@pytest.mark.parametrize(
    ("a", "b", "repeat", "expected"),
    [
        (well, well, 1, None),
        (infinite, well, 1, ("a", 0, "loss", ("rest",))),
        (infinite, infinite, 1, ("a", 0, "loss", ("rest",))),
        (well, infinite, 1, ("second", 0, "loss", ("rest",))),
        (well, steep("b"), 1, ("second", 0, "gradient", ("b.weight",))),
        (at(0, steep("a")), well, 2, ("a", 0, "gradient", ())),  # the second step has spread it to all parameters
        (at(1, steep("a")), well, 2, ("a", 1, "gradient", ("a.weight",))),
        (at(1, infinite), infinite, 3, ("a", 1, "loss", ("rest",))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("micro_batch", [8, 2])
def test_the_first_fault_is_found(
    table: Callable[..., Table], a: Any, b: Any, repeat: int, expected: tuple[Any, ...] | None, micro_batch: int
) -> None:
    seats = table(broken(a, b, repeat), micro_batch=micro_batch)
    witness: Witness = play_moves(seats, START).witness
    flags = Alone().highest([7], witness.flags(0))
    assert flags[0] == 7
    fault = witness.find(flags[1:], seats.players)
    if expected is None:
        assert fault is None
    else:
        assert fault is not None
        assert (fault.move, fault.repetition, fault.what, fault.names) == expected
        assert (fault.round, fault.repeat) == (12, repeat if fault.move == "a" else 1)


def test_another_ranks_fault_is_found_too(table: Callable[..., Table]) -> None:
    """The flags are the highest over the ranks: here rank 2's."""
    seats = table(broken(well, infinite))
    theirs = play_moves(seats, START).witness.flags(2).tolist()
    healthy = table(broken(well, well))
    witness = play_moves(healthy, START).witness
    assert witness.flags(0).tolist() == [0] * len(theirs)
    fault = witness.find(theirs, healthy.players)
    assert fault is not None
    assert (fault.move, fault.what, fault.names, fault.rank) == ("second", "loss", ("rest",), 2)


def test_a_weight_that_a_step_breaks_is_told_apart(table: Callable[..., Table]) -> None:
    seats = table(broken(well, well), lr=1e308)
    witness = play_moves(seats, START).witness
    fault = witness.find(witness.flags(0).tolist(), seats.players)
    assert fault is not None
    assert (fault.move, fault.what) == ("a", "weight")
    assert set(fault.names) <= {"a.weight", "a.bias"} != set()
    assert "though its gradient is finite" in str(fault)
