"""Batch norm over the global batch: what makes a run on many ranks equal the run on one."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bigan.game import Group
from bigan.norms import track
from bigan.ops import channel_moments, fold_batch_norm
from bigan.precision import wide


class GlobalBatchNorm(nn.Module):
    """Batch norm [N, C, *] whose moments are means over all ranks; for gloo, where torch's SyncBatchNorm refuses.

    It takes over the parameters and buffers of the layer that it stands for, under the same names.
    Every rank must hold the same number of samples.

    Args:
        norm: the layer to stand for.
        group: the ranks.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: _BatchNorm, group: Group) -> None:
        super().__init__()
        self.group, self.eps, self.momentum, self.channels = group, norm.eps, norm.momentum, norm.num_features
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the global batch's moments in training, by the running ones in evaluation."""
        scale, shift = self.fold(x)
        shape = (1, self.channels) + (1,) * (x.ndim - 2)
        return (wide(x) * scale.view(shape) + shift.view(shape)).to(x.dtype)

    def fold(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scale and the shift [C] that `forward` applies to x; the running moments move once in training."""
        mean, var = self.running_mean, self.running_var
        if self.training or mean is None or var is None:
            mean, var = self._moments(x)
        return fold_batch_norm(mean, var, self.weight, self.bias, self.eps)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mine = torch.stack(channel_moments(x))[None]
        # One collective, forward and backward: its latency is what it costs. In evaluation rank 0 samples alone.
        means, spreads = (self.group.gather(mine) if self.training else mine).unbind(1)
        mean = means.mean(0)
        var = (spreads + (means - mean).square()).mean(0)
        track(self, mean.detach(), var.detach(), self.group.size * x.numel() // self.channels)
        return mean, var


def normalise_globally(module: nn.Module, group: Group, device: torch.device) -> nn.Module:
    """Replace every batch norm within the module by one over all ranks; nothing to do in a group of one."""
    if group.size == 1:
        return module
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if isinstance(module, _BatchNorm):
        return GlobalBatchNorm(module, group)
    for name, child in module.named_children():
        setattr(module, name, normalise_globally(child, group, device))
    return module


def own_buffers(module: nn.Module) -> list[Tensor]:
    """The buffers that each rank moves by what it saw alone; batch norm's are equal on all ranks already."""
    shared = {id(buffer) for layer in module.modules() if _is_batch_norm(layer) for buffer in layer.buffers(recurse=False)}
    return [buffer for buffer in module.buffers() if id(buffer) not in shared]


def _is_batch_norm(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm | GlobalBatchNorm)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether any layer couples the samples of a batch by batch norm."""
    return any(_is_batch_norm(layer) for layer in module.modules())
