"""Engines: what turns a loss into a step. `TorchEngine` is torch alone, on one process; DeepSpeed's is in `zero.py`."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from bigan.optimizers import Stepper
from bigan.precision import wide


class OptimizerState(Protocol):
    """An optimizer's moments, however they are spread over ranks."""

    def step(self, step: Callable[[], object]) -> Tensor:
        """Clip the gradient that stands, take a step, and return the norm [] that the gradient had before."""
        ...

    def gradient_norms(self) -> dict[str, float]:
        """Parameter → norm of its gradient in the last step, before clipping; empty where no rank holds it whole."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """ "PARAMETER/KEY" → moment or step count, whole; a collective."""
        ...

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` returned, on any number of ranks; a collective."""
        ...


class Engine(Protocol):
    """Backward and step of one network."""

    @property
    def state(self) -> OptimizerState:
        """The optimizer's."""
        ...

    def update(self, loss: Tensor, rate: float, *, last: bool) -> Tensor | None:
        """Backward of a micro-batch; with `last`, the step at this learning rate, and the gradient's norm before clipping."""
        ...

    def close(self) -> None:
        """Let go of the network."""
        ...


class TorchEngine:
    """An engine of one process; needs no DeepSpeed."""

    def __init__(self, module: nn.Module, settings: Stepper) -> None:
        self._parameters = trained(module)
        self._optimizer = settings.made(self._parameters.values())
        self.state = WholeState(self._parameters, self._optimizer, settings.clip_norm)

    def update(self, loss: Tensor, rate: float, *, last: bool) -> Tensor | None:
        """See `Engine.update`."""
        loss.backward()
        if not last:
            return None
        for parameter in self._parameters.values():
            if parameter.grad is None:  # no term reached it; DeepSpeed, too, steps with a gradient of zeros
                parameter.grad = torch.zeros_like(parameter)
        set_rate(self._optimizer, rate)
        norm = self.state.step(self._optimizer.step)
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def close(self) -> None:
        """See `Engine.close`; nothing else holds it."""


class WholeState:
    """The state of an optimizer whose parameters and gradients this process holds whole."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, clip_norm: float | None
    ) -> None:
        self._parameters, self._optimizer, self._clip_norm = parameters, optimizer, clip_norm
        self._norms: Tensor | None = None

    def step(self, step: Callable[[], object]) -> Tensor:
        """See `OptimizerState.step`."""
        gradients = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        assert len(gradients) == len(self._parameters)
        self._norms = wide(torch.stack(torch._foreach_norm(gradients)))  # pyright: ignore[reportPrivateImportUsage]
        norm = torch.linalg.vector_norm(self._norms)
        if self._clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters.values(), self._clip_norm, norm, foreach=True)
        step()
        return norm

    def gradient_norms(self) -> dict[str, float]:
        """See `OptimizerState.gradient_norms`; waits for the device."""
        return {} if self._norms is None else dict(zip(self._parameters, self._norms.tolist(), strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """See `OptimizerState.tensors`; not copied."""
        return {
            f"{name}/{key}": value
            for name, parameter in self._parameters.items()
            for key, value in self._optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """See `OptimizerState.load`."""
        counts_beside = bool(self._optimizer.defaults.get("fused"))
        for name, parameter in self._parameters.items():
            if state := below(saved, f"{name}/"):
                self._optimizer.state[parameter] = {
                    key: _placed(value, parameter, counts_beside) for key, value in state.items()
                }


def _placed(value: Tensor, parameter: Tensor, counts_beside: bool) -> Tensor:
    """A moment beside its parameter, in memory as it lies; a step count where torch keeps it, on the CPU unless it is fused."""
    if value.shape == parameter.shape and value.ndim:
        return torch.empty_like(parameter).copy_(value)
    return value.to(parameter.device, copy=True) if counts_beside else value.clone()


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that an optimizer moves: not those that the game has frozen for good."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def below(named: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
