"""The U-Net of pix2pix (Isola et al., 2017, section 3.2.1): an encoder each of whose layers the decoder sees."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from bigan.networks.layers import Norm, activation, init_kaiming, init_normal
from bigan.networks.upsampling import UpsampleConv2d
from bigan.settings import Count, Fraction, settings


@settings
class UNet:
    """Settings of the translator.

    Attributes:
        width: channels at half the image's size; they double with each halving below it, up to eight times as many.
        depth: how often the image is halved; as often as its sides can be where that is less.
        norm: "batch", which pix2pix takes over one image, is "instance" then.
        dropout: in the three smallest layers of the decoder, ½ in the paper. It draws from torch itself: other numbers on
            another number of ranks.
    """

    kind: Literal["unet"] = "unet"
    width: Count = 64
    depth: Count = 8
    norm: Norm = "instance"
    dropout: Fraction = 0.0

    def build(self, source: tuple[int, int, int], shape: tuple[int, int, int]) -> nn.Module:
        """The network: images [N, *source] → images [N, *shape] in [-1, 1]; ValueError for sizes that it cannot halve."""
        _, height, width = source
        if source[1:] != shape[1:] or height % 2 or width % 2:
            raise ValueError(
                f"images of {height}x{width} and {shape[1]}x{shape[2]} do not fit a U-Net; they must be of one even size"
            )
        depth = max(k for k in range(1, self.depth + 1) if height % (1 << k) == 0 == width % (1 << k))
        widths = [self.width * min(1 << k, 8) for k in range(depth)]
        network = _UNet(source[0], shape[0], widths, self.norm, self.dropout)
        init_kaiming(network) if self.norm == "none" else init_normal(network)
        return network


class _UNet(nn.Module):
    def __init__(self, source: int, channels: int, widths: list[int], norm: Norm, dropout: float) -> None:
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (before, after) in enumerate(pairwise([source, *widths])):
            plain = level in (0, len(widths) - 1)  # the smallest may be a single pixel, of which a norm makes 0
            conv = nn.Conv2d(before, after, 4, 2, 1, bias=False)
            self.down.append(nn.Sequential(conv, activation(after, "none" if plain else norm)))
        inner = widths[-1]
        for level, after in enumerate(reversed(widths[:-1])):
            drop = [nn.Dropout(dropout)] if dropout and level < 3 else []
            self.up.append(nn.Sequential(UpsampleConv2d(inner, after, bias=False), activation(after, norm, 0.0), *drop))
            inner = 2 * after
        self.to_image = UpsampleConv2d(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        seen.pop()
        for layer in self.up:
            x = torch.cat([layer(x), seen.pop()], 1)
        return self.to_image(x).tanh()
