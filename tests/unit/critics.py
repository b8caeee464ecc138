"""Random critics, composed of every kind of layer that `bigan.pullback` knows, and hard losses for them."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from bigan.networks.layers import BiasLeakyReLU, LeakyReLU, ProjectionCritic, Residual

Pair = tuple[Tensor, Tensor]
Way = Callable[[nn.Module, Tensor, Tensor | None], Pair]
LABELS = 5


@dataclass(frozen=True)
class Drawn:
    """A critic in fp64 and what it is given."""

    critic: nn.Module
    images: Tensor = field(repr=False)
    condition: Tensor | None = field(repr=False)

    def to(self, dtype: torch.dtype) -> "Drawn":
        """A copy in another type."""
        return Drawn(copy.deepcopy(self.critic).to(dtype), self.images.to(dtype), self.condition)


def _convolution(draw: st.DrawFn, before: int, after: int, side: int) -> nn.Module:
    kernel = draw(st.integers(1, min(4, side)))
    groups = draw(st.sampled_from([g for g in (1, 2) if before % g == 0 == after % g]))
    padding = draw(st.sampled_from([0, kernel // 2, "same" if kernel % 2 else "valid"]))
    stride = 1 if padding == "same" else draw(st.integers(1, 3))
    wide = kernel > 1 and padding not in ("same", "valid") and side + 2 * int(padding) >= 2 * (kernel - 1) + 1
    layer = nn.Conv2d(
        before,
        after,
        kernel,
        stride,
        padding,
        dilation=draw(st.integers(1, 2)) if wide else 1,
        groups=groups,
        bias=draw(st.booleans()),
    )
    return spectral_norm(layer) if draw(st.integers(0, 3)) == 0 else layer


def _activation(draw: st.DrawFn, channels: int) -> nn.Module:
    return draw(
        st.sampled_from(
            [
                BiasLeakyReLU(channels, 0.3),
                BiasLeakyReLU(channels),
                LeakyReLU(),
                nn.LeakyReLU(0.1),
                nn.ReLU(),
            ]
        )
    )


def _block(draw: st.DrawFn, channels: int, side: int, depth: int) -> tuple[nn.Module, int]:
    """A layer of an image of `channels`, and its output's channels."""
    after = draw(st.sampled_from([2, 4, 6]))
    what = draw(
        st.sampled_from(
            [
                "convolution",
                "convolution",
                "activation",
                "average",
                "upsample",
                "pad",
                "transposed",
                "identity",
                "residual",
                "nest",
            ]
        )
    )
    match what:
        case "convolution":
            kink = draw(st.sampled_from([_activation(draw, after), nn.LeakyReLU(0.2, inplace=True)]))
            return nn.Sequential(_convolution(draw, channels, after, side), kink), after
        case "activation":
            return _activation(draw, channels), channels
        case "average" if side >= 3:
            size = draw(st.integers(2, 3))
            return nn.AvgPool2d(size, draw(st.integers(1, 2)), size // 2, count_include_pad=draw(st.booleans())), channels
        case "upsample" if side <= 6:
            return nn.Upsample(scale_factor=draw(st.integers(2, 3))), channels
        case "pad" if side >= 2:
            return nn.ReflectionPad2d(1), channels
        case "transposed" if side <= 6:
            return nn.ConvTranspose2d(channels, after, 3, 2), after
        case "residual" if depth:
            first = _activation(draw, channels) if draw(st.booleans()) else nn.Identity()
            body = nn.Sequential(nn.Identity(), first, nn.Conv2d(channels, after, 3, padding=1), BiasLeakyReLU(after))
            shortcut = None if after == channels and draw(st.booleans()) else nn.Conv2d(channels, after, 1)
            return Residual(body, shortcut, draw(st.sampled_from([1.0, 0.5**0.5]))), after
        case "nest" if depth:
            inner, after = _block(draw, channels, side, depth - 1)
            return nn.Sequential(inner, nn.Identity()), after
        case _:
            return nn.Identity(), channels


@st.composite
def critics(draw: st.DrawFn) -> Drawn:
    """Convolutions, kinks, pools, upsamplings, sums, spectral norm; a head of its own kind; images in either format."""
    torch.manual_seed(draw(st.integers(0, 10_000)))
    channels, side = draw(st.sampled_from([(1, 6), (2, 8), (3, 7)]))
    count = draw(st.integers(3, 7))
    images = torch.randn(count, channels, side, side, dtype=torch.float64)
    layers = nn.Sequential()
    for _ in range(draw(st.integers(1, 4))):
        with torch.no_grad():
            side = layers.double()(images).shape[-1]
        if side < 1:
            break
        layer, channels = _block(draw, channels, side, 1)
        layers.append(layer)
    with torch.no_grad():
        shape = layers.double()(images).shape[1:]
    condition = None
    match draw(st.sampled_from(["window", "linear", "deep", "pooled", "labels"])):
        case "window":
            layers.append(nn.Conv2d(shape[0], 1, tuple(shape[1:]), bias=draw(st.booleans())))
            layers.append(nn.Flatten(0))
            critic: nn.Module = layers
        case "linear":
            critic = nn.Sequential(layers, nn.Flatten(), nn.Linear(shape.numel(), 1))
        case "deep":
            hidden = spectral_norm(nn.Linear(shape.numel(), 4))
            critic = nn.Sequential(*layers, nn.Flatten(), hidden, nn.LeakyReLU(), nn.Linear(4, 1, bias=False), nn.Flatten(0))
        case "pooled":
            critic = nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], 1))
        case _:
            features = nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
            critic = ProjectionCritic(features, shape[0], nn.Embedding(LABELS, shape[0]))
            condition = torch.randint(0, LABELS, (count,))
    critic = critic.double()
    for parameter in critic.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.3)
    if draw(st.booleans()):
        critic, images = critic.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    return Drawn(critic, images, condition)


def one_loss(pair: Pair) -> Tensor:
    """Penalties that nobody takes, and a loss that couples the samples."""
    logits, gradient = pair[0].flatten(), pair[1].flatten(1)
    penalties = 5 * gradient.square().sum(1).mean() + 3 * (gradient.square().sum(1).add(0.1).sqrt() - 1).square().mean()
    odd = gradient.abs().sum(1).add(0.1).pow(1.5).mean() + (gradient[:1] * gradient.flip(0)).sum() * 0.1
    return 7 * (F.softplus(logits.mean() - logits).mean() + logits[:1].sum() * logits.mean() + penalties + odd)


def relativistic(real: Pair, fake: Pair) -> Tensor:
    """The relativistic and the relativistic-average loss, with R1 and a two-sided penalty (samples of unequal number)."""
    (a, ga), (b, gb) = [(logits.flatten(), gradient.flatten(1)) for logits, gradient in (real, fake)]
    count = min(len(a), len(b))
    coupled = F.softplus(b[:count] - a[:count]).mean() + F.softplus(b.mean() - a).mean()
    return coupled + ga.square().sum(1).mean() + (gb.square().sum(1).add(0.1).sqrt() - 1).square().mean()


def gradients(critic: nn.Module, loss: Tensor) -> list[Tensor]:
    """The loss's gradients; zeros where it has none."""
    parameters = list(critic.parameters())
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


def error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """‖difference‖ / ‖wanted‖, over all gradients together: a bias whose exact gradient is 0 has no relative error."""
    a, b = (torch.cat([tensor.double().flatten() for tensor in tensors]) for tensors in (found, wanted))
    return float((a - b).norm() / b.norm().clamp_min(1e-300))
