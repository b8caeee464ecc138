"""The cells of the conformance test: who steps how, in bigan's words and in plain torch's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

import torch
from torch import nn

from bigan.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from bigan.schedule import Schedule

from . import reference
from .reference import BATCH, PENALTIES, Trace

WAYS = ("autograd", "recorded")
PLAYERS = ("critic", "generator")
MOMENTUM = {penalty: SGD(lr=0.02 if penalty == "WGAN-GP" else 0.1, momentum=0.5) for penalty in PENALTIES}
WARMUP, FROM, TO, FLOOR = 2 * BATCH, 2 * BATCH, 4 * BATCH, 0.25
CLIP = 0.05
WIDEST = 0.1
FALLING = Schedule(warmup_kimg=WARMUP / 1000, decay="linear", from_kimg=FROM / 1000, to_kimg=TO / 1000, floor=FLOOR)
# Rounding in the division by √v + eps is not blown up where eps is not far below the gradients.
EPS = 1e-2


def factor(images: int) -> float:
    """What FALLING says, written out."""
    warm = min(1.0, (images + BATCH) / WARMUP)
    return warm * (1 - (1 - FLOOR) * min(1.0, max(0.0, (images - FROM) / (TO - FROM))))


def _constant(images: int) -> float:
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A way to play the game.

    Attributes:
        stage: DeepSpeed's; None without DeepSpeed.
        optimizers: "" is everybody's.
    """

    stage: int | None
    accumulation: int = 1
    penalty: str = "R1"
    way: str = "recorded"
    optimizers: str = "sgd"
    clipped: bool = False
    bounded: bool = False

    @property
    def name(self) -> str:
        """For the table."""
        engine = "torch" if self.stage is None else f"ZeRO {self.stage}"
        clipped = ("clip, schedule" if self.clipped else "", "weights clipped" if self.bounded else "")
        rest = (f"×{self.accumulation}", self.penalty, self.way, self.optimizers, *clipped)
        return ", ".join(filter(None, (engine, *rest)))


def settings_of(cell: Cell) -> tuple[Optimizer, Optimizer]:
    """The critic's and the generator's."""
    if cell.clipped:
        clipped = SGD(lr=0.2, momentum=0.5, clip_norm=CLIP, schedule=FALLING)
        return clipped, clipped
    if cell.bounded:
        return RMSprop(lr=0.005, eps=EPS, clip_weights=WIDEST), SGD(lr=0.1, momentum=0.5, clip_weights=WIDEST)
    return {
        "sgd": (MOMENTUM[cell.penalty], MOMENTUM[cell.penalty]),
        "adam, rmsprop": (Adam(lr=0.01, eps=EPS), RMSprop(lr=0.005, eps=EPS, momentum=0.5)),
        "adamw, sgd": (AdamW(lr=0.01, eps=EPS, weight_decay=0.1), MOMENTUM[cell.penalty]),
        "fused adam, sgd": (Adam(lr=0.01, eps=EPS, implementation="fused"), SGD(lr=0.02, implementation="fused")),
    }[cell.optimizers]


def plain(settings: Optimizer) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """Torch's optimizer of such settings, tensor by tensor."""
    match settings:
        case Adam():
            return partial(torch.optim.Adam, lr=settings.lr, betas=settings.betas, eps=EPS, foreach=False)
        case AdamW():
            return partial(torch.optim.AdamW, lr=settings.lr, betas=settings.betas, eps=EPS, weight_decay=0.1, foreach=False)
        case RMSprop():
            return partial(torch.optim.RMSprop, lr=settings.lr, eps=EPS, momentum=settings.momentum, foreach=False)
        case SGD():
            return partial(torch.optim.SGD, lr=settings.lr, momentum=settings.momentum, foreach=False)


@cache
def referred(penalty: str, optimizers: str, clipped: bool, bounded: bool) -> Trace:
    """What the reference leaves."""
    settings = settings_of(Cell(stage=None, penalty=penalty, optimizers=optimizers, clipped=clipped, bounded=bounded))
    made: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = dict(
        zip(PLAYERS, map(plain, settings), strict=True)
    )
    return reference.play(
        penalty, made, CLIP if clipped else None, factor if clipped else _constant, WIDEST if bounded else None
    )


def cells(ranks: int) -> list[Cell]:
    """What is played on so many ranks: everything on two."""
    if ranks != 2:
        stages = (None, 0, 1, 2) if ranks == 1 else (0, 1, 2)
        return [Cell(stage=stage, accumulation=k, clipped=k == 1, bounded=k == 2) for stage in stages for k in (1, 2)]
    grid = product((0, 1, 2), (1, 2), PENALTIES, WAYS)
    whole = [Cell(stage=stage, accumulation=k, penalty=penalty, way=way) for stage, k, penalty, way in grid]
    clipped = [Cell(stage=stage, accumulation=k, clipped=True) for stage in (0, 1, 2) for k in (1, 2)]
    clipped += [Cell(stage=stage, penalty="WGAN-GP", bounded=True) for stage in (0, 1, 2)]
    each = ("adam, rmsprop", "adamw, sgd", "fused adam, sgd")
    return whole + clipped + [Cell(stage=stage, optimizers=kinds) for stage in (0, 1, 2) for kinds in each]
