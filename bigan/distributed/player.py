"""Players: a network with its optimizer and its average, on one process or, through DeepSpeed, on many."""

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from bigan.average import Average, blend
from bigan.clock import Clock
from bigan.distributed.batch_norm import normalise_globally, own_buffers
from bigan.distributed.engine import Engine, TorchEngine, below
from bigan.distributed.zero import Division, ZeroEngine
from bigan.game import Group
from bigan.optimizers import Optimizer, Stepper

Compile = Literal["none", "default", "reduce-overhead"]


def seat(
    module: nn.Module,
    optimizer: Optimizer,
    average: Average | None,
    division: Division,
    group: Group,
    device: torch.device,
    saved: Mapping[str, Tensor] | None = None,
    *,
    compile: Compile = "none",
    deepspeed: bool | None = None,
) -> "Player":
    """Make a player of a network: on the device, batch norm over all ranks, average beside it, restored where it was saved.

    Args:
        saved: what `tensors()` of such a player returned, on any number of ranks.
        compile: torch.compile's mode for the network's forward; its names stay as they are.
        deepspeed: whether DeepSpeed steps; on several ranks it does, on one only where this is true.
    """
    assert compile != "reduce-overhead" or division.accumulation == 1
    through_deepspeed = group.size > 1 if deepspeed is None else deepspeed
    assert through_deepspeed or group.size == 1
    # DeepSpeed broadcasts weights as bytes when it starts, and flattens those that it divides: these stay contiguous.
    module = normalise_globally(module.to(device).to(memory_format=torch.contiguous_format), group, device)
    mean = copy.deepcopy(module).requires_grad_(False) if average is not None else None
    if saved is not None:
        module.load_state_dict(below(saved, "module."))
        if mean is not None:
            mean.load_state_dict(below(saved, "average."))
    group.broadcast([*module.parameters(), *module.buffers()])
    engine = ZeroEngine(module, optimizer, division, group.size) if through_deepspeed else TorchEngine(module, optimizer)
    if not through_deepspeed or division.zero_stage == 0:
        for network in (module, mean or module):
            network.to(memory_format=torch.channels_last)
    if saved is not None:
        engine.state.load(below(saved, "optimizer."))
    if compile != "none":
        for network in _called(module):
            network.compile(mode=compile)
    return Player(module, mean, average, optimizer, engine, group)


def _called(module: nn.Module) -> list[nn.Module]:
    """The networks whose forward is called: a `nn.ModuleDict` of networks has none of its own."""
    return [*module.children()] if isinstance(module, nn.ModuleDict) else [module]


class Player:
    """A network, its average and the engine that steps it.

    Attributes:
        module: the network itself; never DeepSpeed's, whose forward hooks break a nested gradient.
        average: its average, or the network where none is kept.
    """

    def __init__(
        self,
        module: nn.Module,
        mean: nn.Module | None,
        memory: Average | None,
        optimizer: Stepper,
        engine: Engine,
        group: Group,
    ) -> None:
        self.module, self.average = module, module if mean is None else mean
        self._memory, self._optimizer, self._engine, self._group = memory, optimizer, engine, group

    def update(self, loss: Tensor, clock: Clock, *, last: bool) -> Tensor | None:
        """Backward for one micro-batch; with `last`, the step at the clock's learning rate.

        Returns:
            With `last`, the norm [] of the whole gradient before clipping, over all micro-batches and ranks and equal on each,
            in float32 or wider.

        Raises:
            ValueError: for a loss that differentiates a compiled network twice.
        """
        try:
            return self._engine.update(loss, self._optimizer.rate(clock), last=last)
        except RuntimeError as error:
            if "double backward" in str(error):
                raise ValueError(
                    "compile: a loss differentiates a compiled network twice, which torch cannot; "
                    "take the gradient by bigan.penalties.with_gradient, or set compile: none"
                ) from error
            raise

    def gradient_norms(self) -> dict[str, float]:
        """Parameter → norm of its gradient in the last step, before clipping; empty where no rank has it whole (ZeRO 1, 2)."""
        return self._engine.state.gradient_norms()

    def close(self) -> None:
        """Let go of the network, which another player may be made of."""
        self._engine.close()

    def follow(self, clock: Clock) -> None:
        """Bring the buffers of all ranks in step and move the average towards the weights; a collective."""
        if self._group.size > 1:
            self._group.broadcast(own_buffers(self.module))
        if self._memory is not None:
            blend(self.average, self.module, self._memory.decay(clock))

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs, by name, independent of the number of ranks; a collective."""
        named = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        if self.average is not self.module:
            named |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        return named | {f"optimizer.{name}": tensor for name, tensor in self._engine.state.tensors().items()}
