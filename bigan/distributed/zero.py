"""DeepSpeed's engine: gradients averaged over ranks, optimizer state (ZeRO 1) and gradients (ZeRO 2) divided among them.

DeepSpeed's rules for adversarial training, each found by a run that was silently wrong without it: forwards go through the
bare module, one `engine.backward` a micro-batch, one `engine.step` after each, every other player frozen meanwhile.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bigan.distributed.engine import OptimizerState, WholeState, set_rate, trained
from bigan.optimizers import Stepper

BUCKET = 50_000_000


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


def deepspeed_config(optimizer: Stepper, division: Division, ranks: int) -> dict[str, Any]:
    """DeepSpeed's JSON for one player. The optimizer is torch's own, so that DeepSpeed has none to compile."""
    # What is clipped at stage 0 is clipped before the engine's step, as only there its norm can be told.
    clip_norm = optimizer.clip_norm if division.zero_stage else None
    return {
        "train_micro_batch_size_per_gpu": division.micro_batch,
        "gradient_accumulation_steps": division.accumulation,
        "train_batch_size": division.micro_batch * division.accumulation * ranks,
        "zero_optimization": {
            "stage": division.zero_stage,
            # In elements. DeepSpeed's default is a buffer of 2 GB for each player, however small its network.
            "reduce_bucket_size": BUCKET,
            "allgather_bucket_size": BUCKET,
        },
        "gradient_clipping": clip_norm or 0.0,  # DeepSpeed's default clips at 1.0
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
    }


class ZeroEngine:
    """An engine of DeepSpeed's, ZeRO 0, 1 or 2, on any number of ranks."""

    def __init__(self, module: nn.Module, settings: Stepper, division: Division, ranks: int) -> None:
        assert division.zero_stage in (0, 1, 2)
        parameters = trained(module)
        self._optimizer = settings.made(parameters.values())
        self._engine = _engine(module, self._optimizer, deepspeed_config(settings, division, ranks))
        self.state: OptimizerState = (
            _DividedState(parameters, self._optimizer, self._engine, division.accumulation)
            if division.zero_stage
            else WholeState(parameters, self._optimizer, settings.clip_norm)
        )

    def update(self, loss: Tensor, rate: float, *, last: bool) -> Tensor | None:
        """See `Engine.update`; the engine steps the weights itself at the last micro-batch."""
        assert last == self._engine.is_gradient_accumulation_boundary()
        set_rate(self._optimizer, rate)
        self._engine.backward(loss, scale_wrt_gas=False)
        if last:
            return self.state.step(self._engine.step)
        self._engine.step()
        return None

    def close(self) -> None:
        """See `Engine.close`: DeepSpeed's hooks on its gradients would keep it, and the optimizer's state, for ever."""
        self._engine.destroy()


class _DividedState:
    """The state of an optimizer of which each rank holds a part (ZeRO 1 and 2); DeepSpeed itself clips."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, engine: Any, accumulation: int
    ) -> None:
        self._parameters, self._optimizer, self._engine, self._accumulation = parameters, optimizer, engine, accumulation

    def step(self, step: Callable[[], object]) -> Tensor:
        """See `OptimizerState.step`; weights stand still where the norm is no number."""
        step()
        norm = torch.as_tensor(self._engine.get_global_grad_norm(), device=self._engine.device).detach().float()
        return torch.where(norm < 0, torch.inf, norm)  # what some versions say of NaN

    def gradient_norms(self) -> dict[str, float]:
        """Nothing: no rank has a whole gradient."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """See `OptimizerState.tensors`."""
        from deepspeed.utils import safe_get_full_optimizer_state

        named: dict[str, Tensor] = {}
        for flat, key, value in self._moments():
            for name, parameter in self._parameters.items():
                whole = value if value.shape != flat.shape else safe_get_full_optimizer_state(parameter, key)
                assert whole is not None, f"DeepSpeed keeps no {key} of {name}"
                named[f"{name}/{key}"] = whole
        return named

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """See `OptimizerState.load`; the state exists, and can be set, only after a step, so one is taken at a rate of zero."""
        if not saved:
            return
        set_rate(self._optimizer, 0.0)  # weight decay would move the weights without a gradient
        for _ in range(self._accumulation):
            self._engine.backward(sum((p * 0.0).sum() for p in self._parameters.values()), scale_wrt_gas=False)
            self._engine.step()
        from deepspeed.utils import safe_set_full_optimizer_state

        for flat, key, value in self._moments():
            for name, parameter in self._parameters.items():
                moment = saved[f"{name}/{key}"]
                if value.shape == flat.shape:
                    safe_set_full_optimizer_state(parameter, moment.to(parameter.device), key)
                else:
                    value.copy_(moment)

    def _moments(self) -> list[tuple[Tensor, str, Tensor]]:
        """This rank's part of all parameters, a moment's name, and the moment of that part, or a step count."""
        return [(flat, key, value) for flat, state in self._optimizer.state.items() for key, value in state.items()]


def _unnamed(record: logging.LogRecord) -> bool:
    """False for what bigan names itself, by round, player and rank, or has chosen: a step that is no number, an optimizer."""
    message = record.getMessage()
    return not ("OVERFLOW! Skipping step" in message or "ZeRO with an untested optimizer" in message)


def _engine(module: nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any]) -> Any:
    device = next(module.parameters()).device.type
    os.environ.setdefault("DS_ACCELERATOR", device)  # or it warns that it found no GPU
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    logging.getLogger("DeepSpeed").addFilter(_unnamed)
    __compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled just in time, at every first start
    if not dist.is_initialized():  # one process, which nobody started as a rank
        os.environ.setdefault("LOCAL_RANK", "0")
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group("nccl" if device == "cuda" else "gloo", store=store, rank=0, world_size=1)
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)  # adopts torch's process group
    # In a shell, which takes the engine's forward hooks: a network with hooks would have no recorded pullback.
    return deepspeed.initialize(model=nn.ModuleList([module]), optimizer=optimizer, config=config)[0]
