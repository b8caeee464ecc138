"""How far a run is, counted in images, and random numbers that are a function of where it is.

Every draw is keyed, none advances a hidden state: that is what makes a resumed run exact, and lets 1, 2 or 64 ranks see
the same latents. The bit generator is NumPy's Philox4x64-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
2011), the counter-based generator whose key and counter a user can set; torch's CPU generator offers neither.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

Key = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Progress of a run; all of it is checkpointed.

    Attributes:
        batch: samples in the global batch of a move.
        round: rounds played.
        attempt: rises when a run rolls back, so that it does not draw the same numbers into the same NaN.
        steps: player → optimizer steps taken.
        positions: stream → samples read so far; also the position of the next one in the endless stream.
    """

    batch: int
    round: int = 0
    attempt: int = 0
    steps: Mapping[str, int] = field(default_factory=dict)
    positions: Mapping[str, int] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Progress of the run: rounds times batch, however often a player moves within a round."""
        return self.round * self.batch

    def read(self, stream: str) -> "Clock":
        """One global batch was read from a stream."""
        return replace(self, positions={**self.positions, stream: self.positions.get(stream, 0) + self.batch})

    def stepped(self, player: str) -> "Clock":
        """A player took one optimizer step."""
        return replace(self, steps={**self.steps, player: self.steps.get(player, 0) + 1})

    def next_round(self) -> "Clock":
        """A round is over."""
        return replace(self, round=self.round + 1)


def digest(key: Key, size: int = 16) -> int:
    """Hash a key to an integer of `size` bytes, the same in every process and on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=size).digest(), "little")


def words(key: Key, start: int, count: int, per_row: int) -> np.ndarray:
    """Random 64-bit words of rows start … start + count - 1, [count, per_row]; a row is a function of key and row alone."""
    blocks = math.ceil(per_row / 4)
    generator = np.random.Philox(key=digest(key), counter=start * blocks)
    return generator.random_raw(count * blocks * 4).reshape(count, blocks * 4)[:, :per_row]


def unit(bits: np.ndarray) -> np.ndarray:
    """Map 64-bit words to float64 in (0, 1), centred in 2^52 equal cells; of 2^53, the last centre rounds to 1."""
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


class Numbers(Protocol):
    """Random numbers, one row a sample, as a move or `Game.sample` draws them; `Draws` says what each method gives."""

    @property
    def count(self) -> int:
        """How many rows."""
        ...

    def within(self, scope: str) -> Self:
        """The same rows under a longer name."""
        ...

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers, [count, *shape]."""
        ...

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Numbers in [0, 1], [count, *shape]."""
        ...

    def integers(self, name: str, high: int) -> Tensor:
        """Whole numbers 0 … high - 1, each as likely as the others, [count] int64."""
        ...


class Draws:
    """The random numbers of one move on one rank: one row a sample, each a function of the key and of that row alone.

    Args:
        key: what tells this move from every other (seed, attempt, round, move, repetition).
        start: row of the first sample within the global batch.
        count: how many samples.
        device: where the numbers are wanted.
    """

    def __init__(self, key: Key, start: int, count: int, device: torch.device) -> None:
        self.key, self.start, self.count, self.device = key, start, count, device
        self._used: set[str] = set()

    def within(self, scope: str) -> Self:
        """The same rows under a longer name, for a helper that is called twice in one move."""
        self._use(f"{scope}/")
        return type(self)((*self.key, scope), self.start, self.count, self.device)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers, [count, *shape] float32.

        Box-Muller in float64, so that rounding to float32 hides the last-bit differences between maths libraries.
        """
        size = math.prod(shape)
        half = math.ceil(size / 2)
        uniform = unit(self._words(name, 2 * half))
        radius, angle = np.sqrt(-2.0 * np.log(uniform[:, :half])), 2.0 * np.pi * uniform[:, half:]
        values = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :size]
        return self._tensor(values, shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Numbers in [0, 1], [count, *shape] float32."""
        return self._tensor(unit(self._words(name, math.prod(shape))), shape)

    def integers(self, name: str, high: int) -> Tensor:
        """Whole numbers 0 … high - 1, each as likely as the others, [count] int64."""
        return (self.uniform(name) * high).long().clamp_max(high - 1)  # a uniform number may round to 1

    def _words(self, name: str, per_row: int) -> np.ndarray:
        self._use(name)
        return words((*self.key, name), self.start, self.count, per_row)

    def _tensor(self, values: np.ndarray, shape: tuple[int, ...]) -> Tensor:
        host = torch.from_numpy(values.astype(np.float32)).reshape(self.count, *shape)
        return (host.pin_memory() if self.device.type == "cuda" else host).to(self.device, non_blocking=True)

    def _use(self, name: str) -> None:
        if name in self._used:
            raise ValueError(
                f"{name!r} is drawn twice in one move: the same numbers; give each draw its own name, or use within()"
            )
        self._used.add(name)
