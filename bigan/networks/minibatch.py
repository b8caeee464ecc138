"""Minibatch discrimination: a critic that sees how alike the samples of a group are (Salimans et al., 2016, section 3.2)."""

import torch
from torch import Tensor, nn

from bigan.precision import wide
from bigan.settings import Count, Several, settings


@settings
class MinibatchDiscrimination:
    """Settings of the layer that stands before a critic's last one.

    Attributes:
        kernels: B, how many numbers it adds to a sample's features.
        dims: C, in how many dimensions each of them compares samples.
        group: how many samples that lie side by side in the global batch see each other. Fixed groups, as in StyleGAN's
            minibatch deviation, and not whatever a rank holds: so any number of ranks sees the same.
    """

    kernels: Count = 32
    dims: Count = 8
    group: Several = 8

    def build(self, features: int) -> nn.Module:
        """The layer: [N, features] → [N, features + kernels]."""
        return MinibatchLayer(features, self.kernels, self.dims, self.group)


class MinibatchLayer(nn.Module):
    """Append o(x_i)_b = Σ_j exp(-‖M_ib - M_jb‖₁), M_i = f(x_i) T, j over the group of i: [N, A] → [N, A + B].

    Attributes:
        weight: T, [A, B, C]; its first values bring distances of about 1 where features are of unit size.
    """

    def __init__(self, features: int, kernels: int, dims: int, group: int) -> None:
        super().__init__()
        self.group = group
        self.weight = nn.Parameter(torch.empty(features, kernels, dims))
        nn.init.normal_(self.weight, 0.0, features**-0.5 / dims)

    def forward(self, x: Tensor) -> Tensor:
        """Features and similarities. Raises ValueError where the samples are no whole groups."""
        if len(x) % self.group:
            raise ValueError(f"minibatch discrimination sees groups of {self.group} samples, and {len(x)} are no whole groups")
        maps = wide(x @ self.weight.flatten(1).to(x.dtype)).view(-1, self.group, *self.weight.shape[1:])
        distances = (maps[:, :, None] - maps[:, None]).abs().sum(-1)  # [groups, group, group, B]
        return torch.cat([x, distances.neg().exp().sum(2).flatten(0, 1).to(x.dtype)], 1)

    def extra_repr(self) -> str:
        """A, B, C, and the group."""
        return f"{', '.join(map(str, self.weight.shape))}, group={self.group}"


def head(features: int, minibatch: MinibatchDiscrimination | None, outputs: int | None) -> list[nn.Module]:
    """What makes logits [N], or [N, outputs] where these are numbered, of a critic's features [N, features]."""
    between = [] if minibatch is None else [minibatch.build(features)]
    last = nn.Linear(features + (minibatch.kernels if minibatch else 0), outputs or 1)
    return [*between, last, nn.Flatten(0 if outputs is None else 1)]
