"""Optimizers as settings: torch's own, with their defaults where a GAN has no better one."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import field
from typing import Annotated, Literal

import torch
from torch import nn

from bigan.clock import Clock
from bigan.schedule import Schedule
from bigan.settings import BY_KIND, Fraction, NonNegative, Positive, settings


@settings
class Stepper(ABC):
    """What every optimizer has.

    Attributes:
        lr: the whole learning rate.
        clip_norm: the most that the norm of the whole gradient may be, over all parameters of the player and all ranks; a
            longer one is scaled down to it (Pascanu et al., 2013).
        clip_weights: c; after each step every parameter of the player, a norm's scale too, is clamped to [-c, c] (Arjovsky et
            al., WGAN, 2017, algorithm 1, line 7).
        schedule: a factor of lr.
        implementation: torch's; "fused" does a step in one pass over memory.
    """

    lr: Positive
    clip_norm: Positive | None = None
    clip_weights: Positive | None = None
    schedule: Schedule = field(default_factory=Schedule)
    implementation: Literal["foreach", "fused"] = "foreach"

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Torch's optimizer over these parameters, at the whole rate; it neither clips nor schedules."""

    def made(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer that engines step: after each step it clips the weights that it then has.

        Those are the whole ones, or under ZeRO 1 and 2 the part of a rank, which is gathered from there.
        """
        optimizer = self.build(parameters)
        if (bound := self.clip_weights) is not None:
            optimizer.register_step_post_hook(lambda stepped, *_: _clamp(stepped, bound))
        return optimizer

    def rate(self, clock: Clock) -> float:
        """The learning rate of the round that begins at the clock."""
        return self.lr * self.schedule.factor(clock)

    @property
    def foreach(self) -> bool:
        """Torch's name of an implementation."""
        return self.implementation == "foreach"

    @property
    def fused(self) -> bool:
        """Torch's name of the other."""
        return self.implementation == "fused"


@settings
class Adam(Stepper):
    """Adam (Kingma & Ba, 2015) with DCGAN's learning rate and momentum (Radford et al., 2016)."""

    kind: Literal["adam"] = "adam"
    lr: Positive = 2e-4
    betas: tuple[Fraction, Fraction] = (0.5, 0.999)
    eps: Positive = 1e-8

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """See `Stepper.build`."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, eps=self.eps, foreach=self.foreach, fused=self.fused)


@settings
class AdamW(Stepper):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive = 2e-4
    betas: tuple[Fraction, Fraction] = (0.5, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 1e-2

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """See `Stepper.build`."""
        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay,
            foreach=self.foreach, fused=self.fused,
        )  # fmt: skip


@settings
class RMSprop(Stepper):
    """RMSprop (Tieleman & Hinton, 2012) at WGAN's learning rate (Arjovsky et al., 2017); torch has no fused one."""

    kind: Literal["rmsprop"] = "rmsprop"
    lr: Positive = 5e-5
    alpha: Fraction = 0.99
    eps: Positive = 1e-8
    momentum: Fraction = 0.0

    def __post_init__(self) -> None:
        if self.fused:
            raise ValueError("implementation: torch has no fused RMSprop; set foreach")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """See `Stepper.build`."""
        return torch.optim.RMSprop(
            parameters, lr=self.lr, alpha=self.alpha, eps=self.eps, momentum=self.momentum, foreach=self.foreach
        )


@settings
class SGD(Stepper):
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 1e-2
    momentum: Fraction = 0.0

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """See `Stepper.build`."""
        return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, foreach=self.foreach, fused=self.fused)


Optimizer = Annotated[Adam | AdamW | RMSprop | SGD, BY_KIND]


@torch.no_grad()
def _clamp(optimizer: torch.optim.Optimizer, bound: float) -> None:
    for group in optimizer.param_groups:
        torch._foreach_clamp_min_(group["params"], -bound)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_clamp_max_(group["params"], bound)  # pyright: ignore[reportPrivateImportUsage]
