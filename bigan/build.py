"""Everything that a run needs before its first round: streams, game, division of the batch, what was saved, players."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.utils.parametrize import is_parametrized

from bigan.batch import Batch
from bigan.clock import Clock, digest
from bigan.config import Run, dump
from bigan.data.ahead import Prefetcher
from bigan.data.contract import Stream
from bigan.distributed.batch_norm import has_batch_norm
from bigan.distributed.checkpoint import Checkpoint
from bigan.distributed.group import Alone, World, on_first_rank
from bigan.distributed.player import Player, seat
from bigan.distributed.zero import Division
from bigan.folder import RunFolder
from bigan.game import Game
from bigan.play import Table
from bigan.resume import AUTO, starting_point


@dataclass(frozen=True)
class Feed:
    """A stream as one rank reads it: ahead of time, and on the rank's device."""

    ahead: Prefetcher
    device: torch.device

    def read(self, start: int, count: int) -> Batch:
        """Samples start … start + count - 1 of the endless stream."""
        return self.ahead.get(start, count).to(self.device)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A run that is ready to play.

    Attributes:
        clock: where it stands.
        data: stream → its spec and the digest of its manifest, as a checkpoint keeps them.
        notes: what a run says of where it begins.
    """

    run: Run
    folder: RunFolder
    table: Table
    players: Mapping[str, Player]
    feeds: Mapping[str, Feed]
    streams: Mapping[str, Stream]
    clock: Clock
    data: Mapping[str, Any]
    group: Alone | World
    division: Division
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run has reached its length."""
        return self.clock.images >= self.run.length_kimg * 1000

    def checkpoint(self, clock: Clock, metrics: Mapping[str, float] | None = None) -> Checkpoint:
        """The run as it stands, and what was measured of it; a collective."""
        self.share_faults()
        data = {name: {**entry, "bad": _records(self.streams[name])} for name, entry in self.data.items()}
        tensors = {f"state.{key}": value for key, value in self.table.game.state.state_dict().items()}
        for name, player in self.players.items():
            tensors |= {f"player.{name}.{key}": value for key, value in player.tensors().items()}
        return Checkpoint(clock, dump(self.run), data, tensors, metrics or {})

    def share_faults(self) -> dict[str, list[str]]:
        """Tell every rank which samples the others found bad; a collective.

        Returns:
            stream → one line a bad sample, in an order that is the same on every rank.

        Raises:
            ValueError: on every rank, if they are more than a stream's `bad_samples` allows.
        """
        mine = {name: _records(stream) for name, stream in self.streams.items()}
        for theirs in map(json.loads, self.group.collect(json.dumps(mine))):
            for name, records in theirs.items():
                _learn(name, self.streams[name], records)
        return {
            name: [message for _, (_, message) in sorted(stream.faults.records.items())]
            for name, stream in self.streams.items()
        }


@contextmanager
def prepared(
    run: Run,
    group: Alone | World,
    device: torch.device,
    *,
    resume: str = AUTO,
    begin: Callable[[], int] = lambda: 0,
    beat: Callable[[str], None] = lambda where: None,
) -> Iterator[Setup]:
    """Open the run's streams, build its game, restore what was saved; nothing is written.

    Args:
        resume: where the run begins; see `starting_point`.
        begin: called once the config has proved good, and before what was saved is looked at; returns the attempt.
        beat: told what is done, at the same points on every rank.

    Raises:
        ValueError: for what the user can mend, in one line.
    """
    folder = RunFolder(run.home)
    on_first_rank(group, folder.check)  # not on every rank: the first one already writes while the last one looks
    with ExitStack() as stack:
        streams = {name: stack.enter_context(_opened(run, name)) for name in run.data}
        game = build_game(run, streams, device)
        division = divide(run, game, group.size)
        data = {name: {"spec": stream.spec.plain(), "sha256": stream.fingerprint} for name, stream in streams.items()}
        attempt = begin()
        start = starting_point(run, folder, data, group, resume)
        saved = start.saved
        clock = saved.clock if saved else Clock(batch=run.batch)
        clock = replace(clock, attempt=max(attempt, clock.attempt))
        if saved:
            game.state.load_state_dict(saved.part("state."))
            for name, stream in streams.items():
                _learn(name, stream, saved.data[name].get("bad", []))
        feeds = {
            name: Feed(stack.enter_context(_ahead(run, name, stream, clock, group, device)), device)
            for name, stream in streams.items()
        }
        for stream in streams.values():
            stack.callback(stream.interrupt)  # the first thing at the end, or it would wait for what waits for the network
        players = {
            name: seat(
                module,
                run.optimizers.get(name, run.optimizer),
                run.average if name in game.averaged else None,
                division,
                group,
                device,
                saved.part(f"player.{name}.") if saved else None,
                compile=run.compile,
            )
            for name, module in game.players.items()
        }
        for player in players.values():
            stack.callback(player.close)
        table = Table(
            game=game,
            players=players,
            feeds=feeds,
            group=group,
            micro_batch=division.micro_batch,
            seed=run.seed,
            device=device,
            bf16=run.precision == "bf16",
            beat=beat,
        )
        yield Setup(
            run=run, folder=folder, table=table, players=players, feeds=feeds, streams=streams, clock=clock, data=data,
            group=group, division=division, notes=start.notes,
        )  # fmt: skip


def _opened(run: Run, name: str) -> Stream:
    try:
        return run.data[name].open(stream_seed(run, name))
    except ValueError as error:
        raise ValueError(f"data.{name}: {error}") from None


def stream_seed(run: Run, name: str) -> int:
    """Seed of a stream's order: each has its own, or two unpaired sets of one size would be paired for ever."""
    return digest((run.seed, "data", name), size=8)


def build_game(run: Run, streams: Mapping[str, Stream], device: torch.device) -> Game:
    """The run's game with its first weights, a function of the seed."""
    torch.manual_seed(digest((run.seed, "weights"), size=7))
    try:
        game = run.game.build({name: stream.spec for name, stream in streams.items()})
    except ValueError as error:
        raise ValueError(f"game: {error}") from error
    if not isinstance(game, Game):
        raise ValueError(f"game: build of {type(run.game).__name__} returned {type(game).__name__}; it must return a Game")
    game.state.to(device)
    read = {stream for move in game.moves for stream in move.reads}
    if missing := read - set(streams):
        raise ValueError(f"data.{min(missing)}: is missing; the game reads {', '.join(sorted(read))}")
    if idle := set(streams) - read:
        raise ValueError(f"data.{min(idle)}: is read by no move; the game reads {', '.join(sorted(read)) or 'none'}")
    if unknown := set(run.optimizers) - set(game.players):
        raise ValueError(f"optimizers.{min(unknown)}: is no player; the game has {', '.join(game.players)}")
    for name, module in game.players.items():
        if run.optimizers.get(name, run.optimizer).clip_weights and any(map(is_parametrized, module.modules())):
            raise ValueError(f"optimizers.{name}.clip_weights: would clip what spectral norm divides; leave one of the two out")
    return game


def divide(run: Run, game: Game, ranks: int) -> Division:
    """How the global batch falls to ranks and micro-batches; ValueError where it does not."""
    share, rest = divmod(run.batch, ranks)
    if rest or share == 0:
        raise ValueError(f"batch: {run.batch} is not divisible by {ranks} ranks")
    micro_batch = run.micro_batch or share
    if share % micro_batch:
        raise ValueError(f"micro_batch: {micro_batch} does not divide a rank's share of {share} images")
    if torn := next((move for move in game.moves if micro_batch % move.group), None):
        raise ValueError(
            f"batch: move {torn.name!r} ties {torn.group} samples together, and {micro_batch} a forward on one rank are no "
            f"whole groups; make batch / ranks, and micro_batch, a multiple of {torn.group}"
        )
    if micro_batch < share and (coupled := [move.name for move in game.moves if move.coupled]):
        raise ValueError(
            f"micro_batch: {micro_batch} of {share} would split the batch that move {coupled[0]!r} couples; "
            "leave micro_batch out"
        )
    if micro_batch < share and any(has_batch_norm(player) for player in game.players.values()):
        raise ValueError(
            f"micro_batch: {micro_batch} of {share} would split the batch that batch norm sees; "
            "leave micro_batch out, or build the networks with norm: none"
        )
    if micro_batch < share and run.compile == "reduce-overhead":
        raise ValueError(
            f"compile: reduce-overhead's CUDA graphs overwrite the gradients of {share // micro_batch} micro-batches; "
            "set default, or leave micro_batch out"
        )
    return Division(micro_batch=micro_batch, accumulation=share // micro_batch, zero_stage=run.zero_stage)


def _records(stream: Stream) -> list[list[Any]]:
    """The bad samples of a stream, as JSON holds them."""
    return [[sample, *record] for sample, record in stream.faults.records.items()]


def _learn(name: str, stream: Stream, records: list[list[Any]]) -> None:
    try:
        stream.faults.learn({sample: (kind, message) for sample, kind, message in records})
    except ValueError as error:
        raise ValueError(f"data.{name}: {error}") from error


def _ahead(run: Run, name: str, stream: Stream, clock: Clock, group: Alone | World, device: torch.device) -> Prefetcher:
    share = run.batch // group.size
    start = clock.positions.get(name, 0) + group.rank * share
    return Prefetcher(stream, start, share, run.batch, device=device)
