"""Toy data that is drawn and not read: points of known distributions, each sample a function of (seed, position) alone."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self, final

import numpy as np
import torch
from annotated_types import MinLen
from numpy.typing import NDArray
from torch import Tensor

from bigan.batch import ArraySpec, Batch, DataSpec
from bigan.clock import Draws, Numbers
from bigan.data.faults import Faults
from bigan.data.stream import to_batch
from bigan.settings import Count, NonNegative, Positive, settings

EPOCH = 2**16
"""Samples of an epoch, in name alone: no sample ever comes again."""

VERSION = 1  # of what is drawn; a new one is other data
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Modes:
    """The modes of a distribution, each an isotropic Gaussian.

    Attributes:
        centres: [M, D].
        stds: [M].
        weights: [M], the shares of the samples; their sum is 1.
    """

    centres: Tensor
    stds: Tensor
    weights: Tensor


@final
class DrawnStream:
    """The endless stream of samples that are drawn; nothing can be wrong with any.

    Args:
        spec: what every sample has.
        content: what the samples depend on beside the seed.
        seed: of the draws.
        draw: from one row of random numbers a sample to the fields, [count, …] each, images [count, H, W, C].

    Attributes:
        spec: as given.
        fingerprint: SHA-256 of the content.
        faults: none, for ever.
        notes: none.
    """

    spec: DataSpec
    fingerprint: str
    faults: Faults
    notes: tuple[str, ...] = ()

    def __init__(
        self, spec: DataSpec, content: Mapping[str, Any], seed: int, draw: Callable[[Draws], dict[str, NDArray]]
    ) -> None:
        self.spec, self._seed, self._draw = spec, seed, draw
        self.fingerprint = hashlib.sha256(json.dumps([VERSION, content], sort_keys=True).encode()).hexdigest()
        self.faults = Faults([spec.samples], 0.0, seed)

    def read(self, start: int, count: int) -> Batch:
        """The samples at positions start … start + count - 1 of the endless stream, on the CPU."""
        return to_batch(self.spec, self._draw(Draws((self._seed, "drawn"), start, count, _CPU)), start)

    def close(self) -> None:
        """Nothing is open."""

    def interrupt(self) -> None:
        """Nothing waits."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Toy(ABC):
    """A distribution of points."""

    @property
    def where(self) -> str:
        """Its name, as an error gives it."""
        return f"the data set {type(self).__name__}"

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """D of a point."""

    @abstractmethod
    def points(self, draws: Numbers) -> NDArray[np.float64]:
        """One point [D] a row of the draws."""

    @abstractmethod
    def modes(self) -> Modes | None:
        """Its modes, where it has some."""

    def open(self, seed: int) -> DrawnStream:
        """The endless stream: one field, "points" [N, D] float32."""
        spec = DataSpec(samples=EPOCH, arrays=(ArraySpec(name="points", shape=(self.dimensions,), dtype="float32"),))
        content = asdict(self)  # pyright: ignore[reportArgumentType] (every member is a settings class)
        return DrawnStream(spec, content, seed, lambda draws: {"points": self.points(draws).astype(np.float32)})


@settings
class Ring(Toy):
    """Gaussians evenly on a circle (Metz et al., 2017).

    Attributes:
        count: how many.
    """

    kind: Literal["ring"] = "ring"
    count: Count = 8
    radius: Positive = 2.0
    std: Positive = 0.02

    @property
    def dimensions(self) -> int:
        """2."""
        return 2

    def modes(self) -> Modes:
        """The Gaussians, from (radius, 0) on against the clock."""
        angles = torch.arange(self.count, dtype=torch.float64) * (2 * torch.pi / self.count)
        return _alike(self.radius * torch.stack([angles.cos(), angles.sin()], 1), self.std)

    def points(self, draws: Numbers) -> NDArray[np.float64]:
        """A point [2] a row."""
        return _around(self.modes(), draws)


@settings
class Grid(Toy):
    """Gaussians on a square grid about the origin: five by five from -4 to 4 (Srivastava et al., 2017; Lin et al., 2018)."""

    kind: Literal["grid"] = "grid"
    side: Count = 5
    spacing: Positive = 2.0
    std: Positive = 0.05

    @property
    def dimensions(self) -> int:
        """2."""
        return 2

    def modes(self) -> Modes:
        """The Gaussians, column after column."""
        along = (torch.arange(self.side, dtype=torch.float64) - (self.side - 1) / 2) * self.spacing
        return _alike(torch.cartesian_prod(along, along).reshape(-1, 2), self.std)

    def points(self, draws: Numbers) -> NDArray[np.float64]:
        """A point [2] a row."""
        return _around(self.modes(), draws)


@settings
class SwissRoll(Toy):
    """The Swiss roll seen from its end, as WGAN-GP has it (Gulrajani et al., 2017): t (cos t, sin t) for t in [1.5π, 4.5π].

    Attributes:
        noise: std of what is added before all is divided by 7.5, which brings the roll to about [-2, 2].
    """

    kind: Literal["swiss_roll"] = "swiss_roll"
    noise: NonNegative = 0.25

    @property
    def dimensions(self) -> int:
        """2."""
        return 2

    def modes(self) -> None:
        """It has none."""

    def points(self, draws: Numbers) -> NDArray[np.float64]:
        """A point [2] a row."""
        turn = 1.5 * np.pi * (1 + 2 * _wide(draws.uniform("along", 1)))
        roll = turn * np.concatenate([np.cos(turn), np.sin(turn)], axis=1)
        return (roll + self.noise * _wide(draws.normal("noise", 2))) / 7.5


@settings
class Lines(Toy):
    """The line x = offset, y uniform in [0, 1]: with a generator on another line, Arjovsky et al.'s example 1 (WGAN, 2017)."""

    kind: Literal["lines"] = "lines"
    offset: float = 0.0

    @property
    def dimensions(self) -> int:
        """2."""
        return 2

    def modes(self) -> None:
        """It has none."""

    def points(self, draws: Numbers) -> NDArray[np.float64]:
        """A point [2] a row."""
        along = _wide(draws.uniform("along", 1))
        return np.concatenate([np.full_like(along, self.offset), along], axis=1)


@settings
class Mixture(Toy):
    """A mixture of Gaussians in any number of dimensions.

    Attributes:
        means: of each, a number or, in D dimensions, D numbers.
        stds: of each.
        weights: of each, in any unit; equal unless given.
    """

    kind: Literal["mixture"] = "mixture"
    means: Annotated[tuple[float | tuple[float, ...], ...], MinLen(1)]
    stds: tuple[Positive, ...]
    weights: tuple[Positive, ...] | None = None

    def __post_init__(self) -> None:
        if len({len(mean) if isinstance(mean, tuple) else 1 for mean in self.means}) > 1 or self.dimensions == 0:
            raise ValueError("means: differ in their dimensions; give numbers, or lists of equally many")
        for name, values in (("stds", self.stds), ("weights", self.weights)):
            if values is not None and len(values) != len(self.means):
                raise ValueError(f"{name}: {len(values)} for {len(self.means)} means; give one each")

    @property
    def dimensions(self) -> int:
        """D of a mean."""
        first = self.means[0]
        return len(first) if isinstance(first, tuple) else 1

    def modes(self) -> Modes:
        """The Gaussians as they are given."""
        weights = torch.tensor(self.weights or (1.0,) * len(self.means), dtype=torch.float64)
        centres = torch.tensor(self.means, dtype=torch.float64).reshape(len(self.means), -1)
        return Modes(centres, torch.tensor(self.stds, dtype=torch.float64), weights / weights.sum())

    def points(self, draws: Numbers) -> NDArray[np.float64]:
        """A point [D] a row."""
        return _around(self.modes(), draws)


def _alike(centres: Tensor, std: float) -> Modes:
    """Modes [M, D] of one width and one weight."""
    return Modes(centres, torch.full((len(centres),), std).double(), torch.full((len(centres),), 1 / len(centres)).double())


def _around(modes: Modes, draws: Numbers) -> NDArray[np.float64]:
    """A point [D] a row: of a mode by its weight, and about its centre."""
    centres, stds, weights = (each.numpy() for each in (modes.centres, modes.stds, modes.weights))
    # A uniform number may round to 1, and the weights may sum to less.
    chosen = np.minimum(np.searchsorted(np.cumsum(weights), _wide(draws.uniform("mode")), side="right"), len(centres) - 1)
    return centres[chosen] + stds[chosen, None] * _wide(draws.normal("noise", centres.shape[1]))


def _wide(numbers: Tensor) -> NDArray[np.float64]:
    """In NumPy, as `bigan.data.decode.empty` says, and in float64, as rounding to float32 then hides the maths library."""
    return numbers.numpy().astype(np.float64)
