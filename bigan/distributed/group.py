"""The ranks that train together, as `bigan.game.Group`."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from bigan.distributed.meeting import start_of

_GLOO = re.compile(r"\[\S*\bgloo/\S+\.(?:cc|h):\d+\] |Gloo connectFullMesh failed with ")
"""How gloo's own errors begin: by the line of its source that threw (gloo/common/error.h); torch's, where ranks do not meet."""


class _Sum(torch.autograd.Function):
    """Sum over ranks. Every rank's loss depends on it, so its derivative is the sum of theirs: itself, to any order."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.apply(gradients[0])


class _Gather(torch.autograd.Function):
    """Every rank's rows. Every rank's loss depends on them, so the derivative by a rank's own is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        ctx.rows = len(tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        first = dist.get_rank() * ctx.rows
        return _Sum.apply(gradients[0])[first : first + ctx.rows]


class Alone:
    """A group of one."""

    rank = 0
    size = 1

    def mean(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def highest(self, values: Sequence[int], measured: Tensor | None = None) -> list[int]:
        """The values themselves, and after them the measured ones [M]."""
        return [*values, *([] if measured is None else measured.tolist())]

    def agree(self, value: str) -> str:
        """The value itself."""
        return value

    def collect(self, value: str) -> list[str]:
        """The value alone."""
        return [value]


class World:
    """All the ranks of torch.distributed's default process group."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device

    def mean(self, tensor: Tensor) -> Tensor:
        """Mean over the ranks; its derivative is again a mean's, so that it may be differentiated twice."""
        return _Sum.apply(tensor) / self.size

    def gather(self, tensor: Tensor) -> Tensor:
        """Every rank's rows, in rank order; differentiable, to any order."""
        return _Gather.apply(tensor)

    @torch.no_grad()
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors by rank 0's."""
        for tensor in tensors:
            whole = tensor.contiguous()
            dist.broadcast(whole, src=0)
            if whole is not tensor:
                tensor.copy_(whole)

    def highest(self, values: Sequence[int], measured: Tensor | None = None) -> list[int]:
        """Of each value the highest over the ranks: one collective, and one wait for the device.

        Args:
            values: known to this process.
            measured: further ones, [M] int32, which lie on the device; they follow in what is returned.
        """
        mine = torch.tensor(values, dtype=torch.int32).to(self.device, non_blocking=True)
        if measured is not None:
            mine = torch.cat([mine, measured.to(self.device)])
        dist.all_reduce(mine, op=dist.ReduceOp.MAX)
        return mine.tolist()

    def agree(self, value: str) -> str:
        """Rank 0's value, on every rank."""
        holder = [value]
        dist.broadcast_object_list(holder, src=0, device=self.device)
        return holder[0]

    def collect(self, value: str) -> list[str]:
        """Every rank's value, in rank order."""
        values = [""] * self.size
        dist.all_gather_object(values, value)
        return values


def on_first_rank(group: Alone | World, act: Callable[[], str | None]) -> str:
    """Act on rank 0 and give every rank what came of it, so that a failure there is one everywhere, and no rank waits.

    Raises:
        ValueError: on every rank, if the act raised a ValueError or an OSError.
    """
    done, problem = "", ""
    if group.rank == 0:
        try:
            done = act() or ""
        except ValueError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{error.filename or 'the run folder'}: cannot be written ({error.strerror or error})"
    if problem := group.agree(problem):
        raise ValueError(problem)
    return group.agree(done)


@contextmanager
def joined(device: torch.device, timeout_s: float = 7200.0) -> Iterator[Alone | World]:
    """The group that torchrun started this process in; a group of one where nothing did.

    Args:
        timeout_s: after so long a collective fails; longer than the watchdog's patience, which knows more to tell.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Alone()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    timeout = timedelta(seconds=timeout_s)
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    store = start_of(store, rank, size, timeout_s)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    try:
        yield World(device)
    finally:
        dist.destroy_process_group()


def lost_contact(error: BaseException) -> bool:
    """Whether the error, or what it followed from, is that of a collective whose other end is gone."""
    cause = error.__cause__ or error.__context__
    found = isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _GLOO.match(str(error)) is not None)
    return found or (cause is not None and lost_contact(cause))


def local_device() -> torch.device:
    """This process's GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
