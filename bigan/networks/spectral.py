"""Spectral norm: weights divided by their largest singular value, so that a critic is Lipschitz (Miyato et al., 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bigan.precision import wide


class SpectralNorm(nn.Module):
    """W / σ(W), σ estimated by power iteration: one step each time that the weight has changed (algorithm 1).

    torch's own iterates at every reading of the weight, and so more often where a batch is divided into micro-batches or a
    penalty judges further points. Here the estimate is a function of the weight's history alone: it moves when uᵀWv is not what
    it was when it moved last, and only while the weight is trained. That is asked without waiting for the device, and needs no
    count of changes, which ZeRO's flat weights would not keep.

    Args:
        weight: [out, *], which the estimate starts at; the matrix is [out, the rest].

    Attributes:
        u, v: the estimated singular vectors.
        sigma: uᵀWv as of the last step.
    """

    u: Tensor
    v: Tensor
    sigma: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = wide(weight.detach()).flatten(1)
        u, v = torch.randn_like(matrix[:, 0]), matrix[0]
        for _ in range(15):
            u, v = _power_step(matrix, u)
        self.register_buffer("u", u)
        self.register_buffer("v", v)
        self.register_buffer("sigma", torch.dot(u, matrix.mv(v)))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight over its norm, of its shape and type; computed in float32 or wider, also under autocast."""
        with torch.autocast(weight.device.type, enabled=False):
            wider = wide(weight)
            matrix = wider.flatten(1)
            if self.training and weight.requires_grad:
                self._iterate(matrix.detach())
            # Copies, as the next reading writes to the buffers; of unit length, which an average of them has lost.
            u, v = F.normalize(self.u, dim=0), F.normalize(self.v, dim=0)
            return (wider / torch.dot(u, matrix.mv(v))).to(weight.dtype)

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> None:
        changed = torch.dot(self.u, matrix.mv(self.v)) != self.sigma
        u, v = _power_step(matrix, self.u)
        self.u.copy_(torch.where(changed, u, self.u))
        self.v.copy_(torch.where(changed, v, self.v))
        self.sigma.copy_(torch.dot(self.u, matrix.mv(self.v)))


def _power_step(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    v = F.normalize(matrix.t().mv(u), dim=0)
    return F.normalize(matrix.mv(v), dim=0), v


def normalise_spectrally(network: nn.Module) -> nn.Module:
    """Put every convolution and linear layer of an initialised network under spectral norm. Returns the network."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return network
