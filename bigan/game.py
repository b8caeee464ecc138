"""What a game is: players, moves, and what a move may look at. docs/writing-a-game.md explains it; `play.py` plays it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from torch import Tensor, nn

from bigan.batch import Batch, DataSpec
from bigan.clock import Clock, Draws, Numbers

Terms = Mapping[str, Tensor]
"""Named scalar losses; their sum is descended."""

Samples = Mapping[str, Tensor]
"""Named outputs, one row a sample; "images" is [N, C, H, W] in [-1, 1]."""


def always(clock: Clock, state: nn.Module) -> bool:
    """The default of `Move.when`."""
    return True


@dataclass(frozen=True, kw_only=True)
class Move:
    """One player descends one loss.

    Attributes:
        player: the only network that moves.
        loss: from a context to named scalars, each a mean over the context's samples.
        reads: streams of which each repetition reads a fresh batch.
        repeat: how often in a row it is played (k critic steps).
        when: whether it is played in this round; a pure function of what every rank shares.
        group: how many samples that lie side by side in the global batch the loss ties together (a pack of PacGAN's); a
            micro-batch holds whole groups.
        coupled: the loss couples the samples of its batch by `Context.global_mean` (relativistic average, minibatch
            statistics); such a batch is not divided into micro-batches.
        name: keys its draws and its statistics; the player's name unless given.
    """

    player: str
    loss: Callable[["Context"], Terms]
    reads: tuple[str, ...] = ()
    repeat: int = 1
    when: Callable[[Clock, nn.Module], bool] = always
    group: int = 1
    coupled: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise ValueError(f"move {self.name or self.player!r}: repeat is {self.repeat}; it must be at least 1")
        if self.group < 1:
            raise ValueError(f"move {self.name or self.player!r}: group is {self.group}; it must be at least 1")
        if len(set(self.reads)) != len(self.reads):
            raise ValueError(f"move {self.name or self.player!r}: reads names a stream twice ({', '.join(self.reads)})")
        if not self.name:
            object.__setattr__(self, "name", self.player)


@dataclass(frozen=True)
class Round:
    """What `Game.after` is given; equal on every rank.

    Attributes:
        clock: as it stands at the end of the round.
        means: what `stats` asks, once.
        kept: "move/name" → what the moves kept, [rows, …] in the order of repetitions, then of the global batch.
        draws: random numbers, one row a sample of the global batch.
    """

    clock: Clock
    means: Callable[[], Mapping[str, float]]
    kept: Mapping[str, Tensor]
    draws: Draws

    @cached_property
    def stats(self) -> Mapping[str, float]:
        """Means over the round's samples, by "move/name".

        A collective that waits for the device: a game that does not ask is not kept waiting, and every rank asks alike.
        """
        return self.means()


@dataclass(frozen=True, kw_only=True)
class Game:
    """What `build` of a game's settings returns: players and the order of play, as data.

    Attributes:
        critique: the critic's raw outputs [N] of samples [N, …], each judged alone; for pictures and diagnostics. None where
            there is no such critic.
        uses: what else the game can do, for the commands that ask for it: of the types of `bigan.uses`.
        sources: streams of which `sample` takes what it translates, or is asked for, wherever its context `has` a batch of
            them. That of a measurement has; at ticks and in `bigan sample` no data are at hand.

    Raises:
        ValueError: if the parts do not fit together.
    """

    players: Mapping[str, nn.Module]
    moves: Sequence[Move]
    sample: Callable[["Context"], Samples]
    averaged: frozenset[str] = frozenset()
    state: nn.Module = field(default_factory=nn.Module)
    after: Callable[[Round], None] | None = None
    notes: Sequence[str] = ()
    critique: Callable[["Context", Tensor], Tensor] | None = None
    uses: Sequence[object] = ()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = {move.player for move in self.moves} | self.averaged
        if unknown := named - set(self.players):
            raise ValueError(f"the game names players that it does not have: {', '.join(sorted(unknown))}")
        if isinstance(self.sources, str):
            raise ValueError(f"sources is the text {self.sources!r}; it must be a tuple of streams' names")
        if unread := set(self.sources) - {stream for move in self.moves for stream in move.reads}:
            raise ValueError(f"the game samples from {min(unread)!r}, which no move reads")
        names = [move.name for move in self.moves]
        if len(names) != len(set(names)):
            raise ValueError(f"two moves share a name ({', '.join(names)}); give each Move its own name=")
        if idle := [name for name, module in self.players.items() if not any(True for _ in module.parameters())]:
            raise ValueError(f"players without parameters cannot move: {', '.join(idle)}")
        owner: dict[int, str] = {}
        for name, module in self.players.items():
            for parameter in module.parameters():
                if (other := owner.setdefault(id(parameter), name)) != name:
                    raise ValueError(f"players {other!r} and {name!r} share a parameter; each parameter belongs to one player")


class GameSettings(Protocol):
    """What a config's `game:` holds: a frozen dataclass whose fields are hyperparameters."""

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """Make the players and say how they play; a ValueError here reaches the user as one line."""
        ...


class Group(Protocol):
    """The ranks that train together."""

    @property
    def rank(self) -> int:
        """This process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def mean(self, tensor: Tensor) -> Tensor:
        """Mean over the ranks; differentiable, to second order."""
        ...

    def gather(self, tensor: Tensor) -> Tensor:
        """Concatenate every rank's rows, in rank order; differentiable, to second order."""
        ...

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors by rank 0's."""
        ...


class Player(Protocol):
    """One network with its optimizer, however it is spread over ranks."""

    @property
    def module(self) -> nn.Module:
        """The network itself; forwards go through it."""
        ...

    @property
    def average(self) -> nn.Module:
        """Its averaged copy, or the network itself where none is kept."""
        ...

    def update(self, loss: Tensor, clock: Clock, *, last: bool) -> Tensor | None:
        """Backward for one micro-batch; with `last`, the optimizer's step, and the gradient's norm [], equal on every rank."""
        ...

    def gradient_norms(self) -> dict[str, float]:
        """Parameter → norm of its gradient in the last step, where it is known."""
        ...

    def follow(self, clock: Clock) -> None:
        """Move the average towards the weights."""
        ...


class Feed(Protocol):
    """A stream as one rank reads it."""

    def read(self, start: int, count: int) -> Batch:
        """Samples start … start + count - 1 of the endless stream, on the rank's device."""
        ...


class Context:
    """All that a loss may look at; see docs/writing-a-game.md.

    Attributes:
        players: name → module; in a move the live ones, all frozen but the mover; in `Game.sample` the averages.
        draws: keyed random numbers, `count` rows.
        clock: progress; `step` is the mover's own count of optimizer steps.
        state: the game's state, to be read only.
    """

    def __init__(
        self,
        *,
        players: Mapping[str, nn.Module],
        batches: Mapping[str, Batch],
        draws: Numbers,
        clock: Clock,
        state: nn.Module,
        step: int = 0,
        over_ranks: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.players, self.draws, self.clock, self.state, self.step = players, draws, clock, state, step
        self.observed: list[tuple[str, Tensor]] = []
        self.kept: dict[str, Tensor] = {}
        self._batches, self._over_ranks = batches, over_ranks

    @property
    def count(self) -> int:
        """How many samples this context holds."""
        return self.draws.count

    def has(self, stream: str) -> bool:
        """Whether there is a batch of a stream."""
        return stream in self._batches

    def batch(self, stream: str) -> Batch:
        """The fresh batch of a stream that the move reads.

        Raises:
            ValueError: if the move does not name the stream in `reads`.
        """
        if stream not in self._batches:
            raise ValueError(f"this move has no batch of {stream!r}; name the stream in Move(reads=...)")
        return self._batches[stream]

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers [count, *shape]."""
        return self.draws.normal(name, *shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Numbers in [0, 1], [count, *shape]."""
        return self.draws.uniform(name, *shape)

    def integers(self, name: str, high: int) -> Tensor:
        """Whole numbers 0 … high - 1, each as likely as the others, [count] int64; what a draw chooses among things by."""
        return self.draws.integers(name, high)

    def global_mean(self, values: Tensor) -> Tensor:
        """Mean of values [count, …] over the samples of the global batch, all ranks'; differentiable, to second order.

        A collective: every rank calls it alike.

        Raises:
            ValueError: in a move that is not `coupled`, whose batch may be divided.
        """
        if self._over_ranks is None:
            raise ValueError("this move does not say that its loss couples samples; make it Move(coupled=True)")
        return self._over_ranks(values.mean(0))

    def observe(self, name: str, values: Tensor) -> None:
        """Record a statistic; its mean over samples, micro-batches and ranks is logged and given to `Game.after`."""
        self.observed.append((name, values.detach()))

    def keep(self, name: str, tensor: Tensor) -> None:
        """Hand a tensor [count, …] to `Game.after`, which sees the global batch of it."""
        if name in self.kept:
            raise ValueError(f"keep({name!r}): kept twice in one move; give each tensor its own name")
        if len(tensor) != self.count:
            raise ValueError(f"keep({name!r}): {len(tensor)} rows for {self.count} samples")
        self.kept[name] = tensor.detach().clone()  # a compiled network's next pass may write where it lies
