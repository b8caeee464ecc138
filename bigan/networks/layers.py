"""Layers that the architectures share."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bigan.ops import bias_leaky_relu

Norm = Literal["batch", "none"]


class BiasLeakyReLU(nn.Module):
    """Per-channel bias and leaky ReLU in one pass, for after a convolution that has no bias: [N, C, *] → the same.

    Its double backward makes no zeros (docs: bigan.ops.bias_leaky_relu), which is half the price of a gradient penalty.
    """

    def __init__(self, channels: int, slope: float = 0.2) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """leaky_relu(x + bias)."""
        return bias_leaky_relu(x, self.bias, self.slope)


class LeakyReLU(nn.Module):
    """Leaky ReLU whose double backward makes no zeros."""

    def __init__(self, slope: float = 0.2) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """leaky_relu(x)."""
        return bias_leaky_relu(x, None, self.slope)


def activation(channels: int, norm: Norm) -> nn.Module:
    """What follows a convolution without bias: bias and leaky ReLU, after batch norm where one is asked for."""
    if norm == "batch":
        return nn.Sequential(nn.BatchNorm2d(channels), LeakyReLU())
    return BiasLeakyReLU(channels)


def pyramid(shape: tuple[int, int, int], smallest: int = 4) -> tuple[int, tuple[int, int]]:
    """How often a network halves an image (C, H, W), and the (h, w) that is left: the shorter side at least `smallest`.

    Raises:
        ValueError: if the size is no base of that kind doubled k ≥ 1 times.
    """
    _, height, width = shape
    halvings = 0
    while min(height, width) >= 2 * smallest << halvings and height % (2 << halvings) == 0 == width % (2 << halvings):
        halvings += 1
    base = (height >> halvings, width >> halvings)
    if halvings == 0 or min(base) >= 2 * smallest:
        fit = [s for s in (16, 28, 32, 48, 64, 96, 128, 256) if s <= max(16, min(height, width) * 3 // 2)]
        raise ValueError(
            f"images of {height}x{width} do not fit the network; pack them at a size that does: bigan pack … --size "
            f"{min(fit, key=lambda s: abs(s - min(height, width)))} (it doubles a base of {smallest} to {2 * smallest - 1} "
            "pixels a side)"
        )
    return halvings, base


def init_normal(module: nn.Module, std: float = 0.02) -> None:
    """DCGAN's initialisation (Radford et al., 2016, section 4): weights N(0, std²), batch-norm scales N(1, std²), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, std)


def init_kaiming(module: nn.Module, slope: float = 0.2) -> None:
    """He initialisation for leaky ReLUs: keeps the scale of activations in a network without norms (He et al., 2015).

    A pixel that a transposed convolution makes is a sum over all input channels, but over one tap in stride² alone.
    """
    gain = nn.init.calculate_gain("leaky_relu", slope)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            if isinstance(layer, nn.ConvTranspose2d):
                fan_in = layer.weight[:, 0].numel() / math.prod(layer.stride)
            nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(fan_in))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
