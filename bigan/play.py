"""Play a game: the loop within a round. It knows players, moves and streams, and nothing of generators and critics."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bigan.clock import Clock, Draws, digest
from bigan.game import Context, Feed, Game, Group, Move, Player, Round, Samples, Terms
from bigan.health import Witness
from bigan.precision import wide


@dataclass(frozen=True, kw_only=True)
class Table:
    """What one rank plays with.

    Attributes:
        micro_batch: samples of one forward on this rank; divides batch / ranks.
        seed: of every draw.
        bf16: run the losses under bfloat16 autocast.
        beat: told what is played, at the same points on every rank.
    """

    game: Game
    players: Mapping[str, Player]
    feeds: Mapping[str, Feed]
    group: Group
    micro_batch: int
    seed: int
    device: torch.device
    bf16: bool = False
    beat: Callable[[str], None] = lambda where: None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Name → live module."""
        return {name: player.module for name, player in self.players.items()}

    @property
    def averages(self) -> dict[str, nn.Module]:
        """Name → averaged module, or the live one where none is kept."""
        return {name: player.average for name, player in self.players.items()}


class Meter:
    """Means by name, over micro-batches, rounds and ranks, without waiting for the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, sum_and_count: Tensor) -> None:
        """Add [2]: a sum, and how many values it holds."""
        self._sums[name] = self._sums[name] + sum_and_count if name in self._sums else sum_and_count

    def update(self, other: "Meter") -> None:
        """Add another meter's sums."""
        for name, sum_and_count in other._sums.items():
            self.add(name, sum_and_count)

    def means(self, group: Group) -> dict[str, float]:
        """The means over all ranks; a collective, as every rank has seen the same names."""
        if not self._sums:
            return {}
        names = sorted(self._sums)
        sums = group.mean(torch.stack([self._sums[name] for name in names])).tolist()
        return {name: total / count for name, (total, count) in zip(names, sums, strict=True) if count}


@contextmanager
def frozen(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Within, no parameter of the modules asks for a gradient; afterwards their buffers are what they were.

    Batch norm still normalises by the batch and spectral norm still estimates, but neither leaves a trace.
    """
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    buffers = [buffer for module in modules for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)


@contextmanager
def evaluating(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within, the modules are in eval mode; afterwards each part of them is in the mode in which it was."""
    modules = list(modules)
    training = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, mode in training:
            part.training = mode


@dataclass(frozen=True)
class Played:
    """The moves of a round, before it counts.

    Attributes:
        clock: after the last move, still in the round.
        witness: what the round shows of NaN and infinity.
    """

    clock: Clock
    stats: Meter
    kept: Mapping[str, list[Tensor]]
    witness: Witness


def play(table: Table, clock: Clock, meter: Meter) -> Clock:
    """Play one round. Returns the clock after it; adds the round's statistics to the meter."""
    return close(table, play_moves(table, clock), meter)


def play_moves(table: Table, clock: Clock) -> Played:
    """Play every move of a round, in its order."""
    stats, witness = Meter(), Witness()
    kept: dict[str, list[Tensor]] = {}
    for move in table.game.moves:
        if move.when(clock, table.game.state):
            for repetition in range(move.repeat):
                clock = _play_move(table, clock, move, repetition, stats, kept, witness)
    return Played(clock, stats, kept, witness)


def close(table: Table, played: Played, meter: Meter) -> Clock:
    """Make a round count: averages, the game's own `after`, statistics. Returns the clock after it."""
    clock, stats = played.clock, played.stats
    for player in table.players.values():  # once a round, as the memory of an average is counted in images
        player.follow(clock)
    clock = clock.next_round()
    if table.game.after is not None:
        draws = Draws((table.seed, clock.attempt, "after", clock.round), 0, clock.batch, table.device)
        gathered = {name: torch.cat(tensors) for name, tensors in played.kept.items()}
        table.game.after(Round(clock, lambda: stats.means(table.group), gathered, draws))
        table.group.broadcast(list(table.game.state.buffers()))
    meter.update(stats)
    return clock


def _play_move(
    table: Table, clock: Clock, move: Move, repetition: int, stats: Meter, kept: dict[str, list[Tensor]], witness: Witness
) -> Clock:
    """One player's loss over its share of a fresh global batch, in micro-batches, and one step."""
    share = clock.batch // table.group.size
    first = table.group.rank * share
    key = (table.seed, clock.attempt, clock.round, move.name, repetition)
    _seed_torch(digest((*key, table.group.rank), size=7), table.device)
    batches = {stream: table.feeds[stream].read(clock.positions.get(stream, 0) + first, share) for stream in move.reads}
    witness.move(move, repetition, clock, batches)
    player = table.players[move.player]
    others = [module for name, module in table.modules.items() if name != move.player]
    mine: dict[str, list[Tensor]] = {}
    for offset in range(0, share, table.micro_batch):
        table.beat(f"round {clock.round + 1}, move {move.name}")
        context = Context(
            players=table.modules,
            batches={stream: batch.rows(offset, table.micro_batch) for stream, batch in batches.items()},
            draws=Draws(key, first + offset, table.micro_batch, table.device),
            clock=clock,
            state=table.game.state,
            step=clock.steps.get(move.player, 0),
            over_ranks=table.group.mean if move.coupled else None,
        )
        with frozen(others):
            with torch.autocast(table.device.type, torch.bfloat16, enabled=table.bf16):
                terms = move.loss(context)
            loss = _total(move, terms)
            table.beat(f"round {clock.round + 1}, move {move.name}, update")
            norm = player.update(loss * (table.micro_batch / share), clock, last=offset + table.micro_batch == share)
        for name, term in terms.items():
            witness.term(name, term)
        if norm is not None:
            witness.step(norm, player)
            stats.add(f"{move.name}/gradient_norm", _sum_and_count(norm))
        for name, value in (*terms.items(), *((name, value) for name, value in context.observed)):
            stats.add(f"{move.name}/{name}", _sum_and_count(value))
        for name, tensor in context.kept.items():
            mine.setdefault(name, []).append(tensor)
    for name, tensors in mine.items():
        kept.setdefault(f"{move.name}/{name}", []).append(table.group.gather(torch.cat(tensors)))
    for stream in move.reads:
        clock = clock.read(stream)
    return clock.stepped(move.player)


def _seed_torch(seed: int, device: torch.device) -> None:
    """For layers that draw from torch itself, such as dropout.

    Not `torch.manual_seed`: where there is no GPU, it queues a call, with a traceback, for each kind that might come.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _total(move: Move, terms: Terms) -> Tensor:
    """The sum of a move's terms in float32 or wider."""
    if not isinstance(terms, Mapping) or not terms:
        raise ValueError(f"the loss of move {move.name!r} returned {type(terms).__name__}; return {{name: scalar}}")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.numel() != 1:
            shape = list(term.shape) if isinstance(term, Tensor) else type(term).__name__
            raise ValueError(f"term {name!r} of move {move.name!r} is {shape}; return a scalar tensor")
    if not any(term.requires_grad for term in terms.values()):
        raise ValueError(f"the loss of move {move.name!r} does not depend on the weights of {move.player!r}")
    return torch.stack([wide(term).reshape(()) for term in terms.values()]).sum()


def _sum_and_count(values: Tensor) -> Tensor:
    values = values.detach().double()
    return torch.stack([values.sum(), values.new_tensor(float(values.numel()))])


@torch.no_grad()
def sample(
    game: Game,
    players: Mapping[str, nn.Module],
    clock: Clock,
    count: int,
    *,
    device: torch.device,
    start: int = 0,
    seed: int = 0,
) -> Samples:
    """Samples start … start + count - 1 under a seed, in eval mode; their draws depend on neither clock nor division."""
    draws = Draws((seed, "sample"), start, count, device)
    return sampled(game, Context(players=players, batches={}, draws=draws, clock=clock, state=game.state))


@torch.no_grad()
def sampled(game: Game, context: Context) -> Samples:
    """What the game samples in a context, in eval mode."""
    with evaluating(context.players.values()):
        samples = game.sample(context)
    if not isinstance(samples, Mapping) or ("images" in samples and samples["images"].ndim != 4):
        raise ValueError('sample must return named tensors, such as {"images": [N, C, H, W]}')
    return samples
