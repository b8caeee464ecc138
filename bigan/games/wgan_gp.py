"""WGAN-GP: the Wasserstein game with a two-sided gradient penalty (Gulrajani et al., 2017, algorithm 1)."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from bigan.batch import DataSpec
from bigan.game import Game
from bigan.games.gan import GAN
from bigan.latents import Latent, Normal
from bigan.networks import Critic, Generator
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.objectives import Wasserstein
from bigan.penalties import GradientPenalty
from bigan.settings import Count, NonNegative, settings


@settings
class WGANGP:
    """Settings of the game, the paper's as defaults (its Adam, lr 1e-4 and betas 0 and 0.9, is the run's). Reads "real".

    Attributes:
        latent: what z is drawn from.
        weight: λ of the penalty.
        one_sided: only slopes above 1 are penalised.
        critic_steps: n_critic.
    """

    kind: Literal["wgan_gp"] = "wgan_gp"
    generator: Generator = field(default_factory=DCGANGenerator)
    critic: Critic = field(default_factory=DCGANCritic)
    latent: Latent = field(default_factory=Normal)
    weight: NonNegative = 10.0
    one_sided: bool = False
    critic_steps: Count = 5

    def __post_init__(self) -> None:
        self._game()  # which refuses what does not fit together

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The game of two under the Wasserstein objective and its penalty."""
        return self._game().build(data)

    def _game(self) -> GAN:
        return GAN(
            generator=self.generator,
            critic=self.critic,
            latent=self.latent,
            objective=Wasserstein(),
            penalties=(GradientPenalty(weight=self.weight, one_sided=self.one_sided),),
            critic_steps=self.critic_steps,
        )
