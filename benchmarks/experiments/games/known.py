"""Games whose generator's distribution is known in closed form: the game of two with another generator in its place."""

from collections.abc import Mapping
from dataclasses import field, replace

import torch
from torch import Tensor, nn

from bigan.batch import DataSpec
from bigan.game import Game
from bigan.games.gan import GAN
from bigan.latents import Uniform
from bigan.networks.mlp import MLPGenerator
from bigan.settings import Positive, settings


@settings
class Affine:
    """The generator is N(mean, std²), on the line.

    Attributes:
        mean, std: where it begins.
        rules: the game of two, whose own generator and latent are not used.
    """

    mean: float = 0.0
    std: Positive = 1.0
    rules: GAN = field(default_factory=GAN)

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The game with this generator."""
        return _with(Scaled(self.mean, self.std), self.rules, data)


@settings
class Line:
    """The generator is the line x = offset, y uniform in [0, 1], of which it may move the offset.

    Attributes:
        offset: where it begins.
        rules: as Affine's.
    """

    offset: float = 1.0
    rules: GAN = field(default_factory=GAN)

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The game with this generator."""
        return _with(Upright(self.offset), replace(self.rules, latent=Uniform()), data)


def _with(generator: nn.Module, rules: GAN, data: Mapping[str, DataSpec]) -> Game:
    game = replace(rules, generator=MLPGenerator(latent=1)).build(data)
    return replace(game, players={**game.players, "generator": generator})


class Scaled(nn.Module):
    """z [N, 1] → mean + std · z."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(std))

    def forward(self, z: Tensor) -> Tensor:
        """Points [N, 1]."""
        return self.mean + self.std * z


class Upright(nn.Module):
    """z [N, 1] in [-1, 1] → (offset, (z + 1)/2)."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(self, z: Tensor) -> Tensor:
        """Points [N, 2]."""
        return torch.cat([self.offset.expand_as(z), (z + 1) / 2], 1)
