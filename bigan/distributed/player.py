"""Players: a network with its optimizer and its average, on one process or, through DeepSpeed, on many.

DeepSpeed's rules for adversarial training, each found by a run that was silently wrong without it: forwards go through the
bare module, one `engine.backward` a micro-batch, one `engine.step` after each, every other player frozen meanwhile.
"""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bigan.average import Average, blend
from bigan.clock import Clock
from bigan.distributed.batch_norm import normalise_globally
from bigan.game import Group
from bigan.optimizers import Optimizer


@dataclass(frozen=True, kw_only=True)
class Division:
    """How a global batch is divided.

    Attributes:
        micro_batch: samples of one forward on one rank.
        accumulation: micro-batches of one step.
        zero_stage: DeepSpeed's ZeRO stage where there are several ranks.
    """

    micro_batch: int
    accumulation: int
    zero_stage: int = 0


def seat(
    module: nn.Module,
    optimizer: Optimizer,
    average: Average | None,
    division: Division,
    group: Group,
    device: torch.device,
    saved: Mapping[str, Tensor] | None = None,
) -> "LocalPlayer | DeepSpeedPlayer":
    """Make a player of a network: on the device, batch norm over all ranks, average beside it, restored where it was saved.

    Args:
        saved: what `tensors()` of such a player returned, on any number of ranks.
    """
    # DeepSpeed broadcasts weights as bytes and flattens them, so there they stay contiguous; images are channels_last anyway.
    memory_format = torch.channels_last if group.size == 1 else torch.contiguous_format
    module = normalise_globally(module.to(device).to(memory_format=memory_format), group, device)
    mean = copy.deepcopy(module).requires_grad_(False) if average is not None else None
    if saved is not None:
        module.load_state_dict(_strip(saved, "module."))
        if mean is not None:
            mean.load_state_dict(_strip(saved, "average."))
    kept = _Averaged(module, mean, average)
    if group.size == 1:
        player = LocalPlayer(kept, optimizer.build(module.parameters()))
    else:
        group.broadcast([*module.parameters(), *module.buffers()])
        player = DeepSpeedPlayer(kept, optimizer.build(module.parameters()), division, group.size)
    if saved is not None:
        player.load_optimizer(_strip(saved, "optimizer."))
    return player


class _Averaged:
    """A module and, where one is kept, its average."""

    def __init__(self, module: nn.Module, mean: nn.Module | None, settings: Average | None) -> None:
        self.module, self.mean, self.settings = module, mean, settings

    @property
    def average(self) -> nn.Module:
        return self.module if self.mean is None else self.mean

    def follow(self, clock: Clock) -> None:
        if self.mean is not None and self.settings is not None:
            blend(self.mean, self.module, self.settings.decay(clock))

    def tensors(self) -> dict[str, Tensor]:
        named = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        if self.mean is not None:
            named |= {f"average.{name}": tensor for name, tensor in self.mean.state_dict().items()}
        return named


class LocalPlayer:
    """A player on one process; needs no DeepSpeed."""

    def __init__(self, averaged: _Averaged, optimizer: torch.optim.Optimizer) -> None:
        self._averaged, self._optimizer = averaged, optimizer

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self._averaged.module

    @property
    def average(self) -> nn.Module:
        """Its average, or itself."""
        return self._averaged.average

    def update(self, loss: Tensor, *, last: bool) -> None:
        """Backward; with `last`, the step."""
        loss.backward()
        if last:
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def follow(self, clock: Clock) -> None:
        """Move the average towards the weights."""
        self._averaged.follow(clock)

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs, by name, independent of the number of ranks."""
        return self._averaged.tensors() | _optimizer_tensors(self.module, self._optimizer)

    def load_optimizer(self, saved: Mapping[str, Tensor]) -> None:
        """Restore the optimizer's moments and step counts."""
        _load_optimizer(self.module, self._optimizer, saved)


class DeepSpeedPlayer:
    """A player whose gradients are averaged over ranks by a DeepSpeed engine of its own (ZeRO 0 or 1)."""

    def __init__(self, averaged: _Averaged, optimizer: torch.optim.Optimizer, division: Division, ranks: int) -> None:
        self._averaged, self._optimizer, self._division = averaged, optimizer, division
        self._engine = _engine(averaged.module, optimizer, division, ranks)

    @property
    def module(self) -> nn.Module:
        """The network; never the engine, whose forward hooks break a nested gradient."""
        return self._averaged.module

    @property
    def average(self) -> nn.Module:
        """Its average, or itself."""
        return self._averaged.average

    def update(self, loss: Tensor, *, last: bool) -> None:
        """Backward and step; the engine steps the weights itself at the last micro-batch."""
        assert last == self._engine.is_gradient_accumulation_boundary()
        self._engine.backward(loss, scale_wrt_gas=False)
        self._engine.step()

    def follow(self, clock: Clock) -> None:
        """Move the average towards the weights."""
        self._averaged.follow(clock)

    def tensors(self) -> dict[str, Tensor]:
        """As `LocalPlayer.tensors`; a collective."""
        if self._division.zero_stage == 0:
            return self._averaged.tensors() | _optimizer_tensors(self.module, self._optimizer)
        from deepspeed.utils import safe_get_full_optimizer_state

        named = self._averaged.tensors()
        for flat, state in self._optimizer.state.items():
            for key, value in state.items():
                for name, parameter in self.module.named_parameters():
                    whole = value if value.shape != flat.shape else safe_get_full_optimizer_state(parameter, key)
                    assert whole is not None, f"DeepSpeed keeps no {key} of {name}"
                    named[f"optimizer.{name}/{key}"] = whole
        return named

    def load_optimizer(self, saved: Mapping[str, Tensor]) -> None:
        """As `LocalPlayer.load_optimizer`; ZeRO's state exists, and can be set, only after a step, so one of zeros is taken."""
        if not saved:
            return
        if self._division.zero_stage == 0:
            _load_optimizer(self.module, self._optimizer, saved)
            return
        for _ in range(self._division.accumulation):
            self._engine.backward(sum((p * 0.0).sum() for p in self.module.parameters()), scale_wrt_gas=False)
            self._engine.step()
        from deepspeed.utils import safe_set_full_optimizer_state

        for flat, state in self._optimizer.state.items():
            for key, value in state.items():
                for name, parameter in self.module.named_parameters():
                    if f"{name}/{key}" not in saved:
                        continue  # a parameter that no loss has reached yet: its state is what the step of zeros made
                    if value.shape == flat.shape:
                        safe_set_full_optimizer_state(parameter, saved[f"{name}/{key}"].to(parameter.device), key)
                    else:
                        value.copy_(saved[f"{name}/{key}"])


def _engine(module: nn.Module, optimizer: torch.optim.Optimizer, division: Division, ranks: int) -> Any:
    os.environ.setdefault("DS_ACCELERATOR", next(module.parameters()).device.type)  # or it warns that it found no GPU
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled just in time, at every first start
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)  # adopts torch's process group
    config = {
        "train_micro_batch_size_per_gpu": division.micro_batch,
        "gradient_accumulation_steps": division.accumulation,
        "train_batch_size": division.micro_batch * division.accumulation * ranks,
        "zero_optimization": {"stage": division.zero_stage},
        "gradient_clipping": 0.0,  # DeepSpeed's default clips at 1.0
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
    }
    return deepspeed.initialize(model=module, optimizer=optimizer, config=config)[0]


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimizer.{name}/{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _load_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        if state := _strip(saved, f"{name}/"):
            optimizer.state[parameter] = {key: _placed(value, parameter) for key, value in state.items()}


def _placed(value: Tensor, parameter: Tensor) -> Tensor:
    """A moment beside its parameter, in memory as it lies; a step count stays where torch keeps it, on the CPU."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape and value.ndim else value.clone()


def _strip(named: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
