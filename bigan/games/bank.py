"""A bank of conditions: what `Game.sample` draws them from, where the data are not at hand."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bigan.batch import Batch
from bigan.game import Context, Round
from bigan.images import from_uint8, rounded

PICTURES = 64
"""How many images a bank holds."""


class Bank(nn.Module):
    """The first conditions that a run has read, of each name as many rows; equal on every rank, as a part of a game's state.

    It is full by the clock alone, so that no rank waits for its device to know. All of it is broadcast in every round and lies
    in every checkpoint: a few hundred rows of numbers, or a few dozen images, which are kept as uint8.

    Args:
        blanks: name → one row, for its shape and type; images are given as uint8, and offered and drawn in [-1, 1].
        size: how many rows.
    """

    def __init__(self, blanks: Mapping[str, Tensor], size: int) -> None:
        super().__init__()
        self.size = size
        for name, blank in blanks.items():
            self.register_buffer(name, blank.new_zeros(size, *blank.shape))

    def offer(self, ctx: Context, rows: Mapping[str, Tensor]) -> None:
        """In a move that is played in every round: name → its rows of the batch, [N, …]."""
        if ctx.clock.images < self.size:
            for name, value in rows.items():
                uint8 = self.get_buffer(name).dtype == torch.uint8
                ctx.keep(f"bank.{name}", rounded(value) if uint8 else value)

    def put(self, played: Round, move: str) -> None:
        """In `Game.after`: take what was offered in that move, of its first repetition."""
        start = played.clock.images - played.clock.batch
        for name, buffer in self.named_buffers():
            rows = played.kept.get(f"{move}/bank.{name}")
            if rows is not None and start < self.size:
                taken = rows[: played.clock.batch][: self.size - start]
                buffer[start : start + len(taken)] = taken

    def draw(self, ctx: Context, stream: str, read: Callable[[Batch], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Name → rows [count, …] of those that are there, the same row of each name; zeros before the first round.

        Args:
            stream: one of the game's `sources`: where the context has a batch of it, its rows are taken instead.
            read: from that batch to name → rows.
        """
        if ctx.has(stream):
            return read(ctx.batch(stream))
        rows = ctx.integers("bank", max(1, min(self.size, ctx.clock.images)))
        drawn = {name: buffer[rows] for name, buffer in self.named_buffers()}
        return {name: from_uint8(value) if value.dtype == torch.uint8 else value for name, value in drawn.items()}
