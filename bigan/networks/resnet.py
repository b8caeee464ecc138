"""The residual translator (Johnson et al., 2016) of CycleGAN (Zhu et al., 2017, appendix 7.2) and StarGAN."""

from typing import Literal

from torch import nn

from bigan.networks.layers import Norm, Residual, activation, init_kaiming, init_normal, normalisation
from bigan.networks.upsampling import UpsampleConv2d
from bigan.settings import Count, CountFrom0, settings


@settings
class ResNetTranslator:
    """Settings of the translator: the image is halved, goes through residual blocks, and is doubled again.

    Attributes:
        width: channels at the image's own size; they double with each halving.
        blocks: 9 at 256 pixels, 6 at 128 (CycleGAN's).
        halvings: how often the image is halved.
        norm: of all layers but the first and the last.
    """

    kind: Literal["resnet"] = "resnet"
    width: Count = 64
    blocks: Count = 9
    halvings: CountFrom0 = 2
    norm: Norm = "instance"

    def build(self, source: tuple[int, int, int], shape: tuple[int, int, int]) -> nn.Module:
        """The network: images [N, *source] → images [N, *shape] in [-1, 1]; ValueError for sizes that it cannot halve."""
        _, height, width = source
        factor = 1 << self.halvings
        if source[1:] != shape[1:] or height % factor or width % factor or min(height, width) < max(4, 2 * factor):
            raise ValueError(
                f"images of {height}x{width} and {shape[1]}x{shape[2]} do not fit {self.halvings} halvings; "
                f"they must be of one size that is a multiple of {factor}, from {max(4, 2 * factor)} on"
            )
        inner = self.width << self.halvings
        # A norm at the input would take away what is the same at every pixel, as the code of a condition is.
        layers = nn.Sequential(_conv(source[0], self.width, 7), activation(self.width, "none", 0.0))
        for k in range(self.halvings):
            before, after = self.width << k, self.width << (k + 1)
            layers.extend([nn.Conv2d(before, after, 3, 2, 1, bias=False), activation(after, self.norm, 0.0)])
        layers.extend(_block(inner, self.norm) for _ in range(self.blocks))
        for k in reversed(range(self.halvings)):
            before, after = self.width << (k + 1), self.width << k
            layers.extend([UpsampleConv2d(before, after, bias=False), activation(after, self.norm, 0.0)])
        layers.extend([_conv(self.width, shape[0], 7, bias=True), nn.Tanh()])
        init_kaiming(layers) if self.norm == "none" else init_normal(layers)
        return layers


def _conv(before: int, after: int, kernel: int, bias: bool = False) -> nn.Conv2d:
    """A convolution that sees the image mirrored at its border, where zeros would leave a frame."""
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, padding_mode="reflect", bias=bias)


def _block(channels: int, norm: Norm) -> nn.Module:
    first, second = (_conv(channels, channels, 3, bias=bias) for bias in (False, norm == "none"))
    body = nn.Sequential(first, activation(channels, norm, 0.0), second)
    return Residual(body if norm == "none" else body.append(normalisation(channels, norm)))
