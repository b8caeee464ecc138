"""Optimizers as settings: torch's own, with their defaults where a GAN has no better one."""

from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from torch import nn

from bigan.settings import BY_KIND, Fraction, Positive, settings


@settings
class Adam:
    """Adam (Kingma & Ba, 2015) with DCGAN's learning rate and momentum (Radford et al., 2016)."""

    kind: Literal["adam"] = "adam"
    lr: Positive = 2e-4
    betas: tuple[Fraction, Fraction] = (0.5, 0.999)
    eps: Positive = 1e-8

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over these parameters."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, eps=self.eps, foreach=True)


@settings
class SGD:
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 1e-2
    momentum: Fraction = 0.0

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over these parameters."""
        return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, foreach=True)


Optimizer = Annotated[Adam | SGD, BY_KIND]
