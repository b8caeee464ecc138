"""The vocabulary of settings: a decorator, and the bounds and tags that their fields carry.

The component is its config: `R1(weight=10.0)` is what the YAML says, what is validated and what computes the penalty.
"""

from dataclasses import dataclass
from typing import Annotated, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ConfigDict, Discriminator, Strict


def _zero_stage(stage: int) -> int:
    if stage == 3:
        raise ValueError("ZeRO 3 divides the weights, and gradient penalties through them fail or are wrong; set 0, 1 or 2")
    if stage not in (0, 1, 2):
        raise ValueError("must be 0, 1 or 2")
    return stage


Count = Annotated[int, Strict(), Ge(1)]
Several = Annotated[int, Strict(), Ge(2)]
CountFrom0 = Annotated[int, Strict(), Ge(0)]
Threads = Annotated[int, Strict(), Ge(1), Lt(1025)]
Seed = Annotated[int, Strict(), Ge(0), Lt(2**64)]
NonNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Timeout = Annotated[float, Ge(1)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Share = Annotated[float, Ge(0), Le(1)]

ZeroStage = Annotated[int, Strict(), AfterValidator(_zero_stage)]

T = TypeVar("T")

CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
"""Of every settings class; a user's own dataclass is given it when it is read."""

BY_KIND = Discriminator("kind")
"""Marks a union whose members are told apart by their field `kind`: `Annotated[R1 | R2, BY_KIND]`."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """A frozen, keyword-only dataclass that refuses unknown keys when it is read from a config."""
    made = dataclass(frozen=True, kw_only=True)(cls)
    made.__pydantic_config__ = CONFIG  # pyright: ignore[reportAttributeAccessIssue]
    return made
