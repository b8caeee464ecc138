"""The engine of one process: norms, clipping, rates, every optimizer; and the JSON that DeepSpeed is given."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from bigan.clock import Clock
from bigan.distributed.engine import TorchEngine
from bigan.distributed.group import Alone
from bigan.distributed.player import Player, seat
from bigan.distributed.zero import Division, deepspeed_config
from bigan.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from bigan.schedule import Schedule

CPU = torch.device("cpu")
X = torch.sin(torch.arange(24.0)).view(8, 3)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))


def loss(module: nn.Module, x: Tensor = X) -> Tensor:
    return (module(x) - 3).square().mean()


def player(module: nn.Module, optimizer: Optimizer, accumulation: int = 1) -> Player:
    return seat(module, optimizer, None, Division(micro_batch=8, accumulation=accumulation), Alone(), CPU)


@pytest.mark.parametrize("clip_norm", [None, 0.5, 100.0])
def test_the_norm_before_clipping_and_the_step_after(clip_norm: float | None) -> None:
    module = network()
    twin = copy.deepcopy(module)
    one = player(module, SGD(lr=0.1, clip_norm=clip_norm), accumulation=2)
    assert one.gradient_norms() == {}
    assert one.update(loss(module, X[:4]) / 2, Clock(batch=8), last=False) is None
    norm = one.update(loss(module, X[4:]) / 2, Clock(batch=8), last=True)
    loss(twin).backward()
    gradients = {name: p.grad.clone() for name, p in twin.named_parameters() if p.grad is not None}
    wanted = nn.utils.clip_grad_norm_(twin.parameters(), clip_norm or torch.inf)
    assert norm is not None
    assert norm.shape == ()
    assert 0.5 < float(wanted) < 100
    torch.testing.assert_close(norm, wanted, rtol=1e-6, atol=0)
    assert one.gradient_norms() == pytest.approx({name: float(g.norm()) for name, g in gradients.items()}, rel=1e-6)
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    for mine, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
        assert mine.grad is None


def test_the_rate_is_the_clocks() -> None:
    optimizer = SGD(lr=1.0, schedule=Schedule(decay="linear", to_kimg=0.08))
    moved = []
    for round in range(12):
        module = network()
        before = copy.deepcopy(module)
        player(module, optimizer).update(sum(p.sum() for p in module.parameters()), Clock(batch=8, round=round), last=True)  # pyright: ignore[reportArgumentType]
        pairs = zip(before.parameters(), module.parameters(), strict=True)
        moved.append(max(float((p - q).detach().abs().max()) for p, q in pairs))
    assert moved == pytest.approx([max(0.0, 1 - round / 10) for round in range(12)], abs=1e-6)


KINDS = [
    (Adam(lr=0.1, betas=(0.3, 0.8), eps=1e-3), torch.optim.Adam, {"betas": (0.3, 0.8), "eps": 1e-3}),
    (AdamW(lr=0.1, weight_decay=0.3), torch.optim.AdamW, {"betas": (0.5, 0.999), "weight_decay": 0.3}),
    (RMSprop(lr=0.1, alpha=0.7, momentum=0.4), torch.optim.RMSprop, {"alpha": 0.7, "momentum": 0.4}),
    (SGD(lr=0.1, momentum=0.4), torch.optim.SGD, {"momentum": 0.4}),
    (Adam(lr=0.1, implementation="fused"), torch.optim.Adam, {"betas": (0.5, 0.999)}),
    (AdamW(lr=0.1, implementation="fused"), torch.optim.AdamW, {"betas": (0.5, 0.999), "weight_decay": 0.01}),
    (SGD(lr=0.1, implementation="fused"), torch.optim.SGD, {}),
]


@pytest.mark.parametrize(("settings", "kind", "options"), KINDS, ids=[repr(entry[0])[:40] for entry in KINDS])
def test_an_optimizer_is_torchs(settings: Optimizer, kind: type[torch.optim.Optimizer], options: dict[str, float]) -> None:
    module = network().double()
    twin = copy.deepcopy(module)
    one, other = player(module, settings), kind(twin.parameters(), lr=0.1, foreach=False, **options)  # pyright: ignore[reportCallIssue]
    for _ in range(3):
        one.update(loss(module, X.double()), Clock(batch=8), last=True)
        other.zero_grad()
        loss(twin, X.double()).backward()
        other.step()
    for mine, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("settings", [RMSprop(clip_weights=0.25), SGD(clip_weights=0.25, implementation="fused")])
def test_weights_are_clipped_after_every_step(settings: Optimizer) -> None:
    module = network()
    with torch.no_grad():
        module.get_parameter("0.bias").copy_(torch.tensor([-9.0, -0.1, 0.1, 9.0]))
    twin = copy.deepcopy(module)
    kind = torch.optim.RMSprop if isinstance(settings, RMSprop) else torch.optim.SGD
    one, other = player(module, settings), kind(twin.parameters(), lr=settings.lr)
    for _ in range(3):
        one.update(loss(module), Clock(batch=8), last=True)
        other.zero_grad()
        loss(twin).backward()
        other.step()
        for mine, theirs in zip(module.parameters(), twin.parameters(), strict=True):
            theirs.data.clamp_(-0.25, 0.25)
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    assert max(float(p.detach().abs().max()) for p in module.parameters()) == 0.25


def test_there_is_no_fused_rmsprop() -> None:
    with pytest.raises(ValueError, match="implementation: torch has no fused RMSprop; set foreach"):
        RMSprop(implementation="fused")


def test_what_no_term_reaches_is_stepped_and_what_is_frozen_is_not() -> None:
    """As under DeepSpeed: momentum carries a parameter on that this step's loss does not know."""
    module = network()
    frozen = module.get_parameter("0.bias").requires_grad_(False)
    engine = TorchEngine(module, SGD(lr=0.1, momentum=0.5))
    engine.update(loss(module), 0.1, last=True)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    engine.update(module.get_parameter("2.bias").sum(), 0.1, last=True)
    assert {name for name, p in module.named_parameters() if not torch.equal(p, before[name])} == {
        "0.weight",
        "2.weight",
        "2.bias",
    }
    assert frozen.grad is None
    assert "0.bias/momentum_buffer" not in engine.state.tensors()


@pytest.mark.parametrize(("stage", "clipping"), [(0, 0.0), (1, 2.5), (2, 2.5)])
def test_deepspeeds_json(stage: int, clipping: float) -> None:
    config = deepspeed_config(SGD(clip_norm=2.5), Division(micro_batch=4, accumulation=3, zero_stage=stage), 2)
    assert config["train_batch_size"] == 24
    assert config["train_micro_batch_size_per_gpu"] == 4
    assert config["gradient_accumulation_steps"] == 3
    assert config["zero_optimization"]["stage"] == stage
    assert config["gradient_clipping"] == clipping
    assert deepspeed_config(SGD(), Division(micro_batch=4, accumulation=3, zero_stage=stage), 2)["gradient_clipping"] == 0.0


QUIET = """
import torch
from torch import nn

from bigan.clock import Clock
from bigan.distributed.group import Alone
from bigan.distributed.player import seat
from bigan.distributed.zero import Division
from bigan.optimizers import SGD

division = Division(micro_batch=1, accumulation=1, zero_stage=1)
player = seat(nn.Linear(1, 1), SGD(), None, division, Alone(), torch.device("cpu"), deepspeed=True)
player.update(player.module(torch.full((1, 1), torch.inf)).sum(), Clock(batch=1), last=True)
from deepspeed.utils import logger

logger.warning("something else")
"""


def test_deepspeed_says_nothing_of_what_bigan_names() -> None:
    command = [sys.executable, "-c", QUIET]
    ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    warnings = [line for line in ended.stdout.splitlines() if "[WARNING]" in line]
    assert len(warnings) == 1, warnings
    assert warnings[0].endswith("something else")
