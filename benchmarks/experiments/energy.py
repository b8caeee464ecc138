"""Row 11: a critic that is its own generator."""

import shutil
from dataclasses import replace

import torch

from bigan.clock import Draws
from bigan.data.toy import Ring
from bigan.game import Context
from bigan.games.energy import Energy
from bigan.metrics.modes import mode_coverage
from experiments.points import covered
from experiments.row import Figure, Lab, row

FROM_NOISE = 2500  # ascents


@row("11", "The discriminator as generator: gradient ascent on D and a replay buffer")
def energy(lab: Lab) -> list[Figure]:
    trained = lab.run("configs/ring_energy.yaml")
    restored = trained.restored
    game, source = restored.run.game, restored.run.data["real"]
    assert isinstance(game, Energy)
    assert isinstance(source, Ring)
    draws = Draws((lab.seed, "from noise"), 0, FROM_NOISE, restored.device)
    ctx = Context(players=restored.players, batches={}, draws=draws, clock=restored.saved.clock, state=restored.game.state)
    start = (2 * torch.rand(FROM_NOISE, 2, generator=torch.Generator().manual_seed(lab.seed)) - 1) * game.span
    alone = mode_coverage(replace(game, steps=20 * game.steps).ascend(ctx, start), source.modes())
    shutil.copy(max((trained.home / "grids").glob("*.png")), lab.picture("energy_ring.png"))
    return [
        *covered(trained, modes=7, high_quality=0.8),
        Figure("modes of 8, ascents from noise, 20 times as long", alone.covered),
        Figure("HQ, ascents from noise, 20 times as long", alone.high_quality),
    ]
