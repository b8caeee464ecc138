"""Dirac-GAN (Mescheder et al., "Which training methods for GANs do actually converge?", 2018, definition 2.1)."""

from collections.abc import Mapping

import torch
from torch import nn

from bigan.batch import DataSpec
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.objectives import Minimax
from bigan.settings import NonNegative, settings


@settings
class Dirac:
    """The data are the point 0 (stream "real"), the generator is the point θ, and the critic is D(x) = ψx; both begin at 1.

    They are one player, so that they move at once, each down its own loss: simultaneous descent.

    Attributes:
        r1: γ, the weight of R1, which here is γ/2 · ψ².
    """

    r1: NonNegative = 0.0

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The game."""
        move = Move(player="both", loss=self.losses, reads=("real",))
        return Game(players={"both": Both()}, moves=(move,), sample=self.sample)

    def losses(self, ctx: Context) -> Terms:
        """The critic's loss, of ψ alone, and the generator's, of θ alone."""
        theta, psi = ctx.players["both"].parameters()
        ctx.observe("theta", theta)
        ctx.observe("psi", psi)
        return {
            "critic": Minimax().critic(psi * ctx.batch("real").modelled, psi * theta.detach()),
            "generator": Minimax().generator(psi.detach() * theta),
            "r1": self.r1 / 2 * psi.square().sum(),
        }

    def sample(self, ctx: Context) -> Samples:
        """The point, as often as is asked."""
        theta, _ = ctx.players["both"].parameters()
        return {"points": theta.expand(ctx.count, 1)}


class Both(nn.Module):
    """θ and ψ."""

    def __init__(self) -> None:
        super().__init__()
        self.theta, self.psi = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
