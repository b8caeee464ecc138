"""The ranks that train together, as `bigan.game.Group`."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


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

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag

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

    @torch.no_grad()
    def gather(self, tensor: Tensor) -> Tensor:
        """Every rank's rows, in rank order."""
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @torch.no_grad()
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors by rank 0's."""
        for tensor in tensors:
            whole = tensor.contiguous()
            dist.broadcast(whole, src=0)
            if whole is not tensor:
                tensor.copy_(whole)

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any rank."""
        raised = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return bool(raised)

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
def joined(device: torch.device) -> Iterator[Alone | World]:
    """The group that torchrun started this process in; a group of one where nothing did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Alone()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=10))
    try:
        yield World(device)
    finally:
        dist.destroy_process_group()


def local_device() -> torch.device:
    """This process's GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
