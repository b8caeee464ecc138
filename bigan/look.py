"""Look at players while they train, and leave no trace: the one way of ticks, measurements and pictures.

On one rank alone: nothing here is a collective, as no layer's eval mode is one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, final

import torch
from torch import Tensor, nn

from bigan.batch import Batch
from bigan.clock import Clock, Draws, Numbers
from bigan.game import Context, Feed, Game, Samples
from bigan.play import Table, evaluating, frozen, sampled

T = TypeVar("T")

_ALMOST_PARALLEL = 1e-3  # of the sine of an angle, below which slerp divides by nearly nothing


@dataclass(frozen=True, kw_only=True)
class Look:
    """Players in eval mode, to be asked for samples and judgements; averages where they are kept.

    Attributes:
        players: name → module.
        clock: as it stands.
        device: where the players are.
        feeds: of the game's `sources`, where they are at hand; row n of `samples` then takes their sample n.
    """

    game: Game
    players: Mapping[str, nn.Module]
    clock: Clock
    device: torch.device
    feeds: Mapping[str, Feed] = field(default_factory=dict)

    def samples(self, count: int, *, start: int = 0, seed: int = 0) -> Samples:
        """Samples start … start + count - 1 under a seed, as `bigan.play.sample` draws them."""
        batches = {name: feed.read(start, count) for name, feed in self.feeds.items()}
        return sampled(self.game, self._context(Draws((seed, "sample"), start, count, self.device), batches))

    def between(self, start: Tensor, end: Tensor, at: Tensor, *, seed: int = 0) -> Samples:
        """Samples on the way between those of `samples`: row n stands at [N] in [0, 1] between start [N] and end [N].

        What is drawn as normal takes the great circle (slerp: White, "Sampling generative networks", 2016), what is drawn
        as uniform the straight line, what is chosen is that of the nearer end: so that any game's `sample` gives it.
        """
        ends = Draws((seed, "sample"), 0, 1 + int(torch.cat([start, end]).max()), self.device)
        between = Between(ends, start.to(self.device), end.to(self.device), at.to(self.device))
        return sampled(self.game, self._context(between))

    def used(self, function: Callable[[Context], T], count: int, scope: str, *, start: int = 0, seed: int = 0) -> T:
        """What one of `Game.uses` makes in a context of `count` rows, in eval mode and without gradients.

        Args:
            scope: keys the draws.
            start: the number of the first row, among all that are asked for under a seed.
        """
        with torch.no_grad(), evaluating(self.players.values()):
            return function(self._context(Draws((seed, scope), start, count, self.device)))

    def judged(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The critic's raw outputs [N] of samples [N, …], and their gradients [N, …] by each sample.

        The game must have a `critique`.
        """
        assert self.game.critique is not None, "the game has no critic that judges samples alone"
        context = self._context(Draws((0, "critique"), 0, len(samples), self.device))
        with torch.enable_grad(), evaluating(self.players.values()):
            points = samples.to(self.device).detach().requires_grad_()
            values = self.game.critique(context, points)
            return values.detach(), torch.autograd.grad(values.sum(), points)[0]

    def _context(self, draws: Numbers, batches: Mapping[str, Batch] | None = None) -> Context:
        state = self.game.state
        return Context(players=self.players, batches=batches or {}, draws=draws, clock=self.clock, state=state)


@contextmanager
def looking(table: Table, clock: Clock) -> Iterator[Look]:
    """Within, the players may be looked at; afterwards torch's random state, modes, gradients and buffers are as they were."""
    devices = [table.device] if table.device.type == "cuda" else []
    players = table.averages
    with torch.random.fork_rng(devices), frozen([*players.values(), table.game.state]):
        with torch.compiler.set_stance("force_eager"):  # a compiled network differentiates once, and compiles for every shape
            yield Look(game=table.game, players=players, clock=clock, device=table.device)


@final
class Between:
    """Random numbers between the rows of others.

    Args:
        ends: the others.
        start: [N], the row of `ends` where each row begins.
        end: [N], where it ends.
        at: [N] in [0, 1], how far it is on its way.
    """

    def __init__(self, ends: Numbers, start: Tensor, end: Tensor, at: Tensor) -> None:
        self._ends, self._start, self._end, self._at = ends, start, end, at

    @property
    def count(self) -> int:
        """N."""
        return len(self._at)

    def within(self, scope: str) -> "Between":
        """The same rows under a longer name."""
        return Between(self._ends.within(scope), self._start, self._end, self._at)

    def normal(self, name: str, *shape: int) -> Tensor:
        """[N, *shape] on the great circle between two normal rows."""
        ends = self._ends.normal(name, *shape).reshape(self._ends.count, -1)
        return slerp(ends[self._start], ends[self._end], self._at).reshape(-1, *shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """[N, *shape] on the straight line between two uniform rows."""
        ends = self._ends.uniform(name, *shape).reshape(self._ends.count, -1)
        return torch.lerp(ends[self._start], ends[self._end], self._at[:, None]).reshape(-1, *shape)

    def integers(self, name: str, high: int) -> Tensor:
        """[N] int64 of the nearer one of two rows: between two choices there is none."""
        ends = self._ends.integers(name, high)
        return torch.where(self._at < 0.5, ends[self._start], ends[self._end])


def slerp(start: Tensor, end: Tensor, at: Tensor) -> Tensor:
    """Spherical interpolation between rows [N, D] and [N, D] at [N] in [0, 1]; on a straight line where they are parallel.

    Its length stays that of a normal vector, where a straight line's would fall to 2^-½ of it half-way.
    """
    angle = (nn.functional.normalize(start) * nn.functional.normalize(end)).sum(1, keepdim=True).clamp(-1, 1).acos()
    share, sine = at[:, None], angle.sin()
    curved = (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / sine
    return torch.where(sine > _ALMOST_PARALLEL, curved, torch.lerp(start, end, share))
