"""The generator and the critic of DCGAN (Radford et al., 2016), for any image that is a small base doubled k times."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from bigan.networks.layers import (
    BiasLeakyReLU,
    LeakyReLU,
    Norm,
    activation,
    init_kaiming,
    init_normal,
    normalisation,
    pyramid,
)
from bigan.networks.minibatch import MinibatchDiscrimination, head
from bigan.networks.spectral import normalise_spectrally
from bigan.networks.upsampling import BatchNormLeakyReLU, ModulatedBatchNormLeakyReLU, UpsampleBiasLeakyReLU, UpsampleConv2d
from bigan.settings import Count, settings

Upsampling = Literal["folded", "nearest", "transposed"]


@settings
class DCGANGenerator:
    """Settings of the generator.

    Attributes:
        latent: length of z.
        width: channels at half the image's size; they double with each halving below it.
        max_width: upper bound of the channels.
        norm: "batch" as in the paper, "instance", "layer" or "none"; "conditional" is batch norm whose scale and shift are
            linear in the network's input, z and the code of a condition where there is one.
        upsample: how a block doubles the image (docs/upsampling.md has figures). "folded" and "nearest" are one function,
            nearest upsampling and a 3×3 convolution, without the checkerboards of a transposed convolution (Odena et
            al., 2016). "folded" takes 16 multiply-adds where "nearest" takes 36: about twice as fast where a layer has
            more pixels than channels, slower in bf16 at 4×4 pixels of a batch of 8. "transposed" is the paper's transposed
            convolution of kernel 4, with 16 multiply-adds too and 16 weights to train instead of 9.
    """

    kind: Literal["dcgan"] = "dcgan"
    latent: Count = 100
    width: Count = 64
    max_width: Count = 512
    norm: Norm | Literal["conditional"] = "batch"
    upsample: Upsampling = "folded"

    def build(self, shape: tuple[int, ...], bounded: bool = True) -> nn.Module:
        """The network: latents [N, latent] → images [N, C, H, W], in [-1, 1] if bounded; ValueError for a wrong size."""
        doublings, base = pyramid(shape)
        widths = [min(self.width << k, self.max_width) for k in reversed(range(doublings))]
        network = _Generator(self.latent, widths, base, shape[0], self.norm, self.upsample, bounded)
        init_kaiming(network) if self.norm == "none" else init_normal(network)
        return network


class _Generator(nn.Module):
    def __init__(
        self,
        latent: int,
        widths: list[int],
        base: tuple[int, int],
        channels: int,
        norm: Norm | Literal["conditional"],
        upsample: Upsampling,
        bounded: bool,
    ) -> None:
        super().__init__()
        self.latent, self.bounded = latent, bounded
        self.project = nn.ConvTranspose2d(latent, widths[0], base, stride=base, bias=False)
        self.blocks = nn.Sequential(_activation(widths[0], norm, upsample, latent))
        for before, after in pairwise(widths):
            self.blocks.append(_doubling(before, after, upsample, bias=False))
            self.blocks.append(_activation(after, norm, upsample, latent))
        self.to_image = _doubling(widths[-1], channels, upsample, bias=True)

    def forward(self, z: Tensor) -> Tensor:
        x = self.project(z[:, :, None, None])
        for block in self.blocks:
            x = block(x, z) if isinstance(block, ModulatedBatchNormLeakyReLU) else block(x)
        images = self.to_image(x)
        return images.tanh() if self.bounded else images


def _activation(channels: int, norm: Norm | Literal["conditional"], upsample: Upsampling, inputs: int) -> nn.Module:
    """What stands between two convolutions; where these are plain ones, it doubles the image for the next."""
    doubles = upsample == "nearest"
    if norm == "batch":
        return BatchNormLeakyReLU(channels, upsample=2 if doubles else 1)
    if norm == "conditional":
        return ModulatedBatchNormLeakyReLU(channels, inputs, upsample=2 if doubles else 1)
    if norm == "none":
        return UpsampleBiasLeakyReLU(channels) if doubles else BiasLeakyReLU(channels)
    doubled = [nn.Upsample(scale_factor=2)] if doubles else []
    return nn.Sequential(normalisation(channels, norm), LeakyReLU(), *doubled)


def _doubling(before: int, after: int, upsample: Upsampling, bias: bool) -> nn.Module:
    """The convolution that doubles the image, or that follows its doubling: [N, before, …] → [N, after, …]."""
    match upsample:
        case "folded":
            return UpsampleConv2d(before, after, bias)
        case "nearest":
            return nn.Conv2d(before, after, 3, padding=1, bias=bias)
        case "transposed":
            return nn.ConvTranspose2d(before, after, 4, 2, 1, bias=bias)


@settings
class DCGANCritic:
    """Settings of the critic.

    Attributes:
        width: channels at half the image's size; they double with each halving below it.
        max_width: upper bound of the channels.
        norm: "batch" as in the paper (all but the first layer), "instance", "layer" or "none". Gradient penalties need a critic
            that judges each image alone, which "batch" is not, and are cheapest with "none".
        spectral_norm: divide every weight by its largest singular value.
        minibatch: minibatch discrimination before the last layer; None: each image is judged alone.
    """

    kind: Literal["dcgan"] = "dcgan"
    width: Count = 64
    max_width: Count = 512
    norm: Norm = "none"
    spectral_norm: bool = False
    minibatch: MinibatchDiscrimination | None = None

    def build(self, shape: tuple[int, ...], outputs: int | None = None) -> nn.Module:
        """The network: images [N, C, H, W] → logits [N] or an encoder's [N, outputs]; ValueError for a size it cannot halve."""
        halvings, base = pyramid(shape)
        layers = nn.Sequential()
        before = shape[0]
        for k in range(halvings):
            after = min(self.width << k, self.max_width)
            layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=False))
            layers.append(BiasLeakyReLU(after) if k == 0 else activation(after, self.norm))
            before = after
        if self.minibatch is None:
            layers.extend([nn.Conv2d(before, outputs or 1, base), nn.Flatten(0 if outputs is None else 1)])
        else:
            layers.extend([nn.Flatten(), *head(before * base[0] * base[1], self.minibatch, outputs)])
        init_kaiming(layers) if self.norm == "none" else init_normal(layers)
        return normalise_spectrally(layers) if self.spectral_norm else layers
