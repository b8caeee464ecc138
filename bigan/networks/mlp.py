"""Multilayer perceptrons for samples of any shape: toy data, and small images."""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from bigan.networks.layers import Activation, gain, init_kaiming, nonlinearity
from bigan.networks.minibatch import MinibatchDiscrimination, head
from bigan.networks.spectral import normalise_spectrally
from bigan.settings import Count, CountFrom0, settings

MLPNorm = Literal["batch", "layer", "none"]
_NORMS: dict[MLPNorm, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


@settings
class MLPGenerator:
    """Settings of the generator.

    Attributes:
        latent: length of z.
        width: units of a hidden layer.
        depth: hidden layers.
        norm: of the hidden layers, before their activation. A unit has one value a sample, so that there is no instance norm.
    """

    kind: Literal["mlp"] = "mlp"
    latent: Count = 16
    width: Count = 128
    depth: Count = 3
    norm: MLPNorm = "none"
    activation: Activation = "leaky_relu"

    def build(self, shape: tuple[int, ...], bounded: bool = True) -> nn.Module:
        """The network: latents [N, latent] → samples [N, *shape]; images (three dimensions), if bounded, in [-1, 1]."""
        layers = _hidden(self.latent, self.width, self.depth, self.norm, self.activation)
        layers.extend([nn.Linear(self.width, math.prod(shape)), nn.Unflatten(1, shape)])
        if bounded and len(shape) == 3:
            layers.append(nn.Tanh())
        init_kaiming(layers, gain(self.activation))
        return layers


@settings
class MLPTranslator:
    """Settings of a translator without neighbourhoods: every pixel may come of any.

    Its first translations are nearly grey: a random map from pixels to pixels would be one that a game hardly leaves.

    Attributes:
        width: units of a hidden layer.
        depth: hidden layers; 0: the image's pixels are sums of the source's, and nothing else.
        norm: of the hidden layers, before their activation.
        bounded: by a tanh, to [-1, 1]; unless it is, what lies beyond is cut off, but not while it trains.
    """

    kind: Literal["mlp"] = "mlp"
    width: Count = 512
    depth: CountFrom0 = 1
    norm: MLPNorm = "none"
    activation: Activation = "leaky_relu"
    bounded: bool = True

    def build(self, source: tuple[int, int, int], shape: tuple[int, int, int]) -> nn.Module:
        """The network: images [N, *source] → images [N, *shape] in [-1, 1]; the two may be of any sizes."""
        seen, made = math.prod(source), math.prod(shape)
        hidden = _hidden(seen, self.width, self.depth, self.norm, self.activation)
        last = nn.Linear(self.width if self.depth else seen, made)
        ends = nn.Tanh() if self.bounded else _CutOff()
        layers = nn.Sequential(nn.Flatten(), *hidden, last, nn.Unflatten(1, shape), ends)
        init_kaiming(layers, gain(self.activation))
        nn.init.normal_(last.weight, 0.0, 0.01)
        return layers


class _CutOff(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else x.clamp(-1, 1)


@settings
class MLPCritic:
    """Settings of the critic.

    Attributes:
        width: units of a hidden layer.
        depth: hidden layers.
        norm: as the generator's; gradient penalties need "none" or "layer".
        spectral_norm: divide every weight by its largest singular value.
        activation: "leaky_relu" and "relu" keep gradient penalties at first-order cost; with a smooth one they take autograd's
            double backward (docs/gradient-penalties.md).
        minibatch: minibatch discrimination before the last layer; None: each sample is judged alone.
    """

    kind: Literal["mlp"] = "mlp"
    width: Count = 128
    depth: Count = 3
    norm: MLPNorm = "none"
    spectral_norm: bool = False
    activation: Activation = "leaky_relu"
    minibatch: MinibatchDiscrimination | None = None

    def build(self, shape: tuple[int, ...], outputs: int | None = None) -> nn.Module:
        """The network: samples [N, *shape] → logits [N], or an encoder's outputs [N, outputs]."""
        hidden = _hidden(math.prod(shape), self.width, self.depth, self.norm, self.activation)
        layers = nn.Sequential(nn.Flatten(), *hidden, *head(self.width, self.minibatch, outputs))
        init_kaiming(layers, gain(self.activation))
        return normalise_spectrally(layers) if self.spectral_norm else layers


def _hidden(before: int, width: int, depth: int, norm: MLPNorm, activation: Activation) -> nn.Sequential:
    layers = nn.Sequential()
    for k in range(depth):
        layers.append(nn.Linear(width if k else before, width))
        if norm != "none":
            layers.append(_NORMS[norm](width))
        layers.append(nonlinearity(activation))
    return layers
