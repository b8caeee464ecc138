"""The moving average: its half-life in images, its ramp, and the buffers."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bigan.average import Average, blend
from bigan.clock import Clock
from bigan.game import Context, Game, Move
from bigan.play import Meter, Table, play


def test_after_the_half_life_the_old_weight_counts_half() -> None:
    settings, batch = Average(half_life_kimg=1.6, ramp=1.0), 16
    mean, live = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(mean.weight, 1.0)
    nn.init.zeros_(live.weight)
    for step in range(100):
        blend(mean, live, settings.decay(Clock(batch=batch, round=1000 + step)))
    assert mean.weight.item() == pytest.approx(0.5, rel=1e-4)


@given(batch=st.integers(1, 4096), half_life=st.floats(0.01, 1000), times=st.integers(2, 16))
def test_the_batch_does_not_change_the_memory(batch: int, half_life: float, times: int) -> None:
    settings = Average(half_life_kimg=half_life, ramp=1e9)
    many, one = Clock(batch=batch, round=times * 100), Clock(batch=batch * times, round=100)
    assert settings.decay(many) ** times == pytest.approx(settings.decay(one), rel=1e-9, abs=1e-300)


@given(batch=st.integers(1, 512), rounds=st.integers(0, 10**6), half_life=st.floats(0, 100), ramp=st.floats(0.001, 10))
def test_the_ramp_bounds_the_half_life_by_a_share_of_the_progress(
    batch: int, rounds: int, half_life: float, ramp: float
) -> None:
    clock = Clock(batch=batch, round=rounds)
    decay = Average(half_life_kimg=half_life, ramp=ramp).decay(clock)
    assert 0.0 <= decay < 1.0
    reach = min(half_life * 1000, ramp * clock.images)
    assert decay == (pytest.approx(0.5 ** (batch / reach)) if reach else 0.0)


def test_the_first_round_and_no_half_life_keep_the_live_weights() -> None:
    assert Average(half_life_kimg=10).decay(Clock(batch=8)) == 0.0
    assert Average(half_life_kimg=0).decay(Clock(batch=8, round=1000)) == 0.0
    mean, live = nn.Linear(3, 3), nn.Linear(3, 3)
    blend(mean, live, 0.0)
    assert torch.equal(mean.weight, live.weight)


def test_moments_are_averaged_and_counters_are_copied() -> None:
    mean = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    live = copy.deepcopy(mean)
    for tensor in live.state_dict().values():
        tensor.add_(1.0 if tensor.is_floating_point() else 7)
    before = copy.deepcopy(mean.state_dict())
    blend(mean, live, 0.75)
    for name, tensor in mean.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, before[name] + 0.25, msg=name)
        else:
            assert tensor.item() == 7, name
    for name, tensor in live.state_dict().items():
        torch.testing.assert_close(tensor, before[name] + (1 if tensor.is_floating_point() else 7), msg=name)


def test_a_tied_weight_is_averaged_once() -> None:
    first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    second.weight = first.weight
    mean = nn.Sequential(first, second)
    live = copy.deepcopy(mean)
    nn.init.constant_(first.weight, 1.0)
    for parameter in live.parameters():
        nn.init.zeros_(parameter)
    blend(mean, live, 0.5)
    assert first.weight.item() == second.weight.item() == 0.5


def test_modules_of_unlike_shape_are_no_pair() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        blend(nn.Linear(1, 1), nn.Linear(1, 1, bias=False), 0.5)


@pytest.mark.parametrize("repeat", [1, 3])
def test_a_round_is_one_step_of_the_average_however_often_a_player_moves(table: Callable[..., Table], repeat: int) -> None:
    """The memory is counted in images, as progress is: rounds times batch."""
    settings = Average(half_life_kimg=0.08, ramp=1.0)

    def pull(ctx: Context) -> dict[str, Tensor]:
        return {"pull": (ctx.players["a"](torch.ones(1, 1)) - 1).square().sum()}

    a = nn.Linear(1, 1, bias=False)
    seats = table(
        Game(
            players={"a": a},
            moves=(Move(player="a", loss=pull, repeat=repeat),),
            sample=lambda ctx: {},
            averaged=frozenset({"a"}),
        ),
        average=settings,
    )
    clock = Clock(batch=8, round=1000)
    before = seats.players["a"].average.state_dict()["weight"].clone()
    play(seats, clock, Meter())
    after, live = seats.players["a"].average.state_dict()["weight"], seats.players["a"].module.state_dict()["weight"]
    decay = settings.decay(clock)
    torch.testing.assert_close(after, decay * before + (1 - decay) * live)
    assert not torch.equal(after, live)
    assert not torch.equal(after, before)
