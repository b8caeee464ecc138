"""Layers that the architectures share."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bigan.networks.upsampling import UpsampleConv2d
from bigan.ops import bias_leaky_relu
from bigan.precision import wide
from bigan.pullback import Cotangent, Pull, Trace, kind, kink, row_products

Norm = Literal["batch", "instance", "layer", "none"]
Activation = Literal["leaky_relu", "relu", "tanh", "silu", "softplus"]


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


@kind(BiasLeakyReLU)
def _bias_leaky_relu(layer: BiasLeakyReLU, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    return kink(x, trace.parameter(layer, "bias"), layer.slope, trace)


@kind(LeakyReLU)
def _leaky_relu(layer: LeakyReLU, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    return kink(x, None, layer.slope, trace)


class Residual(nn.Module):
    """The sum of a body and a shortcut, times a scale: [N, C, *] → [N, C', *] (He et al., 2016).

    Args:
        body: the layers that are learned.
        shortcut: what maps the input to the body's shape; the input itself where None.
        scale: 2^-½ keeps the variance of a sum of two (Karras et al., StyleGAN2, 2020).
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(shortcut(x) + body(x)) · scale."""
        return (self.shortcut(x) + self.body(x)) * self.scale


@kind(Residual)
def _residual(layer: Residual, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    y, pull = trace.branches((layer.shortcut, layer.body), x)
    return trace.made(y.mul_(layer.scale)), lambda above: pull(above.map(lambda g: g * layer.scale))


class ProjectionCritic(nn.Module):
    """A critic of conditioned samples: D(x, c) = ⟨w + V c, φ(x)⟩ + b (Miyato & Koyama, projection discriminator, 2018, eq. 7).

    Args:
        trunk: φ, from samples to features [N, features].
        features: their number.
        embed: V, from conditions [N, …] to [N, features]: `nn.Embedding` of labels, or an encoder that keeps samples apart.
    """

    def __init__(self, trunk: nn.Module, features: int, embed: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(features, 1)
        self.embed = embed

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """images: [N, …]; condition: [N, …]. Returns logits [N]."""
        features = self.trunk(images)
        return self.head(features).squeeze(1) + (self.embed(condition) * features).sum(1)


def _head_refused(critic: ProjectionCritic) -> str | None:
    plain = parametrize.type_before_parametrizations(critic.head) is nn.Linear
    return None if plain else "has another head than a linear layer"


@kind(
    ProjectionCritic,
    parts=lambda critic: [("trunk", critic.trunk), ("head", critic.head)],
    refuses=_head_refused,
)
def _projection(critic: ProjectionCritic, images: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    features, pull = trace.run(critic.trunk, images)
    weight, bias = (trace.parameter(critic.head, name) for name in ("weight", "bias"))
    with trace.recording():
        rows = wide(weight + critic.embed(trace.condition))  # [B, features]: each sample's own linear map
    free = wide(features[trace.held :])

    def pull_head(above: Cotangent) -> Cotangent:
        held, whole = wide(above.held)[:, None], wide(above.whole)[:, None]
        trace.add_bias(bias, held, whole[trace.held :])
        trace.add_free(row_products(rows[trace.held :], free * whole[trace.held :]))
        return pull(Cotangent(held * rows[: trace.held], whole * rows.detach()))

    return row_products(features, rows) + wide(bias), pull_head


def activation(channels: int, norm: Norm, slope: float = 0.2) -> nn.Module:
    """What follows a convolution without bias: leaky ReLU, after the norm that is asked for or, where it is none, a bias."""
    if norm == "none":
        return BiasLeakyReLU(channels, slope)
    return nn.Sequential(normalisation(channels, norm), LeakyReLU(slope))


def normalisation(channels: int, norm: Literal["batch", "instance", "layer"]) -> nn.Module:
    """A norm of images [N, C, H, W] with a trained scale and shift a channel.

    Batch norm's moments are a channel's, over the batch; instance norm's a channel's of one sample (Ulyanov et al., 2016);
    layer norm's those of a whole sample (Ba et al., 2016), which is a group norm of one group (Wu & He, 2018).
    """
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "layer":
            return nn.GroupNorm(1, channels)


def nonlinearity(activation: Activation) -> nn.Module:
    """The layer of that name."""
    match activation:
        case "leaky_relu":
            return LeakyReLU()
        case "relu":
            return nn.ReLU()
        case "tanh":
            return nn.Tanh()
        case "silu":
            return nn.SiLU()
        case "softplus":
            return nn.Softplus()


def pyramid(shape: tuple[int, ...], smallest: int = 4) -> tuple[int, tuple[int, int]]:
    """How often a network halves an image (C, H, W), and the (h, w) that is left: the shorter side at least `smallest`.

    Raises:
        ValueError: if the size is no base of that kind doubled k ≥ 1 times, or the shape no image's.
    """
    if len(shape) != 3:
        raise ValueError(f"samples of shape {list(shape)} are no images; take networks of kind mlp")
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
    """DCGAN's initialisation (Radford et al., 2016, section 4): weights N(0, std²), norms' scales N(1, std²), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | UpsampleConv2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm):
            nn.init.normal_(layer.weight, 1.0, std)


LEAKY_GAIN = nn.init.calculate_gain("leaky_relu", 0.2)
_GAINS: dict[Activation, float] = {"relu": 2**0.5, "tanh": 1.5925, "silu": 1.6765, "softplus": 1.0419}


def gain(activation: Activation) -> float:
    """1/√E f(z)², z ~ N(0, 1): the factor of weights of fan-in^-½ that keeps the scale of activations."""
    return _GAINS.get(activation, LEAKY_GAIN)


def init_kaiming(module: nn.Module, gain: float = LEAKY_GAIN) -> None:
    """He initialisation, for leaky ReLUs unless told: keeps the scale of activations in a network without norms (2015).

    A pixel that a transposed convolution makes is a sum over all input channels, but over one tap in stride² alone.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | UpsampleConv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            if isinstance(layer, UpsampleConv2d):  # the nine taps of the 3×3 convolution, whatever pixels they read
                fan_in = layer.weight[:, 0].numel()
            elif isinstance(layer, nn.ConvTranspose2d):
                fan_in = layer.weight[:, 0].numel() / math.prod(layer.stride)
            nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(fan_in))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
