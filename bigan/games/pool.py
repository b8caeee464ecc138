"""A pool of former fakes: a critic is shown an old one half of the time (Shrivastava et al., 2017, section 2.3; CycleGAN)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bigan.game import Context, Round

_KEPT_OUT = -1  # the slot of what does not enter the pool


class Pool(nn.Module):
    """Fakes [size, …] a name, equal on every rank and however the batch is divided, as a part of a game's state.

    All of it is broadcast in every round: 50 images of 3×256×256 are 39 MB a name.

    Args:
        shapes: name → shape of a fake.
        size: how many are kept; 0: none, and each fake is shown as it is.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], size: int) -> None:
        super().__init__()
        self.size = size
        if size:
            for name, shape in shapes.items():
                self.register_buffer(name, torch.zeros(size, *shape))

    def shown(self, ctx: Context, name: str, fakes: Tensor) -> Tensor:
        """What the critic is shown in place of fakes [N, …]; to be called in one move, which is not repeated.

        Until the pool is full each fake is shown and kept. Then each is shown with probability ½, and otherwise takes the
        place of an old one, which is shown. Two that choose one place are shown the same, and the later one stays.
        """
        if not self.size:
            return fakes
        old = self.get_buffer(name)
        slots = torch.full([len(fakes)], _KEPT_OUT, device=fakes.device)
        shown = fakes
        if ctx.clock.images >= self.size:
            chosen = ctx.integers(f"slot.{name}", self.size)
            swap = ctx.uniform(f"coin.{name}") < 0.5
            slots = torch.where(swap, chosen, slots)
            shown = torch.where(swap.view(-1, *[1] * (fakes.ndim - 1)), old[chosen].to(fakes.dtype), fakes)
        ctx.keep(f"slot.{name}", slots)
        ctx.keep(f"pool.{name}", fakes)
        return shown

    def put(self, played: Round, move: str) -> None:
        """In `Game.after`: take the fakes of that move."""
        if not self.size:
            return
        start = played.clock.images - played.clock.batch
        for name, buffer in self.named_buffers():
            slots, fakes = played.kept[f"{move}/slot.{name}"], played.kept[f"{move}/pool.{name}"]
            if start < self.size:
                taken = fakes[: self.size - start]
                buffer[start : start + len(taken)] = taken.to(buffer.dtype)
                continue
            rows = {slot: row for row, slot in enumerate(slots.tolist()) if slot != _KEPT_OUT}
            buffer[[*rows]] = fakes[[*rows.values()]].to(buffer.dtype)
