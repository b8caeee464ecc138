"""Save while the run goes on: it waits for a copy of the tensors, and a thread does the rest."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self, final

import torch
from torch import Tensor

from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import Checkpoint

MOST_NAMED = 3


class NotFiniteError(ValueError):
    """Weights or moments of a checkpoint are infinite or NaN."""


@final
class Saver:
    """Writes checkpoints, one at a time, on the one rank that `writes`; on the others all of it is nothing.

    A write that fails leaves what stood, and is told by `problem` from then on; nothing more is saved, or it might never be
    seen. Use it as a context manager, or close it: a write under way is finished first.

    Args:
        folder: of the checkpoints. What killed saves left in it is deleted, so that nobody else may be writing there.
        keep: how many of the newest are kept, beside the best.
        fence: called before a checkpoint is published, in the thread; what it raises (a RuntimeError) keeps it from that.
        writes: whether this rank is the one.
    """

    def __init__(self, folder: Path, keep: int, fence: Callable[[], None] = lambda: None, *, writes: bool = True) -> None:
        self._folder, self._keep, self._fence, self._writes = folder, keep, fence, writes
        self._memory: dict[str, Tensor] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bigan-save")
        self._written: Future[None] | None = None
        if writes:
            checkpoint.sweep(folder)

    def save(self, saved: Checkpoint, *, wait: bool = False) -> None:
        """Copy the tensors and have them written; the players may be stepped on return.

        Waits for the save before it, if that is still being written; does nothing if that failed.

        Args:
            saved: its tensors may lie on any device, and share memory.
            wait: until it is written, too, or has failed.
        """
        if not self._writes:
            return
        self.wait()
        if self._error() is not None:
            return
        copied = replace(saved, tensors=self._copied(saved.tensors))
        self._written = self._thread.submit(self._write, copied)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written."""
        if self._written is not None:
            self._written.exception()

    @property
    def problem(self) -> str | None:
        """Why a save failed, in a line; None if none did, or not yet. Does not wait.

        Raises:
            Exception: what no disk, fence or weight can explain.
        """
        error = self._error()
        if error is None:
            return None
        if isinstance(error, OSError):
            return f"{error.filename or self._folder}: cannot be written ({error.strerror or error})"
        if isinstance(error, RuntimeError | NotFiniteError):
            return str(error)
        raise error

    @property
    def diverged(self) -> bool:
        """Whether the problem is that there were infinite or NaN weights to save."""
        return isinstance(self._error(), NotFiniteError)

    def close(self) -> None:
        """Finish what is being written, and end the thread."""
        self._thread.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _error(self) -> BaseException | None:
        return self._written.exception() if self._written is not None and self._written.done() else None

    def _copied(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors in the memory of the save before; pinned where they come from a GPU, so that one wait is enough."""
        self._memory = {name: _room(self._memory.get(name), tensor) for name, tensor in tensors.items()}
        with torch.no_grad():
            for name, tensor in tensors.items():
                self._memory[name].copy_(tensor, non_blocking=True)
        for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
            torch.cuda.current_stream(device).synchronize()
        return self._memory

    def _write(self, copied: Checkpoint) -> None:
        broken = [name for name, tensor in copied.tensors.items() if not tensor.isfinite().all()]
        if broken:
            more = f" and {len(broken) - MOST_NAMED} more" if len(broken) > MOST_NAMED else ""
            raise NotFiniteError(
                f"infinite or NaN at round {copied.clock.round}: {', '.join(broken[:MOST_NAMED])}{more}; "
                "what was saved before stands"
            )
        checkpoint.save(self._folder, copied, self._keep, self._fence)


def _room(before: Tensor | None, tensor: Tensor) -> Tensor:
    """Contiguous memory on the CPU for a copy of the tensor."""
    wanted = (tensor.shape, tensor.dtype, tensor.is_cuda)
    if before is not None and (before.shape, before.dtype, before.is_pinned()) == wanted:
        return before
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
