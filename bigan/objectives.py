"""Adversarial losses. `real` and `fake` are the critic's logits, [N]; every loss is a mean over N."""

from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor

from bigan.settings import BY_KIND, settings


@settings
class NonSaturating:
    """The game in which the generator maximises log D(G(z)) (Goodfellow et al., 2014, section 3)."""

    kind: Literal["non_saturating"] = "non_saturating"

    def score(self, logits: Tensor) -> Tensor:
        """D(x): the probability, by the critic, that x is real."""
        return logits.sigmoid()

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """-E log D(x) - E log(1 - D(G(z)))."""
        return cross_entropy(real, fake)

    def generator(self, fake: Tensor) -> Tensor:
        """-E log D(G(z))."""
        return F.softplus(-fake).mean()


@settings
class Minimax:
    """The zero-sum game, whose generator loses its gradient to a critic that wins (Goodfellow et al., 2014, equation 1)."""

    kind: Literal["minimax"] = "minimax"

    def score(self, logits: Tensor) -> Tensor:
        """D(x): the probability, by the critic, that x is real."""
        return logits.sigmoid()

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """-E log D(x) - E log(1 - D(G(z)))."""
        return cross_entropy(real, fake)

    def generator(self, fake: Tensor) -> Tensor:
        """E log(1 - D(G(z)))."""
        return -F.softplus(fake).mean()


@settings
class Wasserstein:
    """The dual of the Wasserstein-1 distance; the critic must be held 1-Lipschitz (Arjovsky et al., 2017, equation 3)."""

    kind: Literal["wasserstein"] = "wasserstein"

    def score(self, logits: Tensor) -> Tensor:
        """D(x): the critic's value itself, which is no probability."""
        return logits

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """E D(G(z)) - E D(x)."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        """-E D(G(z))."""
        return -fake.mean()


Objective = Annotated[NonSaturating | Minimax | Wasserstein, BY_KIND]


def cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross-entropy of a critic whose D is the logistic function of its logit, from logits: it cannot overflow."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()
