"""A game that is played round by round, by the product's loop, to look at its players on the way; nothing is written."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bigan.build import Setup, prepared
from bigan.config import load
from bigan.distributed.group import Alone
from bigan.objectives import Adversarial
from bigan.play import Meter, play
from bigan.precision import wide
from experiments.row import ROOT, Lab

ALONE = "game.pretrain_kimg=1.0e9"
"""Makes the critic of a game of two move alone, for ever."""

_FRESH = 2**40  # a position in the endless stream that no run gets to
_CPU = torch.device("cpu")


class Match:
    """The game as it stands."""

    def __init__(self, setup: Setup, seed: int) -> None:
        self._setup, self._clock, self._position = setup, setup.clock, _FRESH
        self._random = torch.Generator().manual_seed(seed)

    def __getitem__(self, player: str) -> nn.Module:
        """The live network."""
        return self._setup.players[player].module

    def play(self, rounds: int) -> dict[str, float]:
        """Play on. Returns the means of what was observed."""
        meter = Meter()
        for _ in range(rounds):
            self._clock = play(self._setup.table, self._clock, meter)
        return meter.means(Alone())

    def real(self, count: int) -> Tensor:
        """Samples of the data, others each time."""
        self._position += count
        return self._setup.streams["real"].read(self._position, count).to(_CPU).modelled

    def latents(self, count: int, size: int) -> Tensor:
        """Normal latents [count, size], others each time."""
        return torch.randn(count, size, generator=self._random)

    def accuracy(self, size: int, count: int = 4096) -> float:
        """The share of fresh real and generated samples that a critic of logits judges rightly."""
        with torch.no_grad():
            real, fake = self["critic"](self.real(count)), self["critic"](self["generator"](self.latents(count, size)))
        return (float((real > 0).float().mean()) + float((fake < 0).float().mean())) / 2

    def slope(self, objective: Adversarial, latents: Tensor) -> Tensor:
        """The gradient of the generator's loss by all its weights, one vector."""
        loss = objective.generator(wide(self["critic"](self["generator"](latents))))
        gradients = torch.autograd.grad(loss, [p for p in self["generator"].parameters() if p.requires_grad])
        return torch.cat([gradient.flatten() for gradient in gradients])


@contextmanager
def match(lab: Lab, config: str, *assignments: str) -> Iterator[Match]:
    """A game of a config of the repository, under the lab's seed, before its first round."""
    own = [f"seed={lab.seed}", "name=match", f"folder={lab.folder}"]
    with prepared(load(ROOT / config, [*assignments, *lab.changes, *own]), Alone(), _CPU, resume="none") as setup:
        yield Match(setup, lab.seed)
