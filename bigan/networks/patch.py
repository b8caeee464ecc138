"""PatchGAN: a critic that judges overlapping patches of an image (Isola et al., pix2pix, 2017, section 3.2.2)."""

from typing import Literal

from torch import nn

from bigan.networks.layers import BiasLeakyReLU, Norm, activation, init_kaiming, init_normal
from bigan.networks.spectral import normalise_spectrally
from bigan.settings import Count, settings


@settings
class PatchCritic:
    """Settings of the critic.

    A gradient penalty of its map of logits is that of the patches' sum, by autograd's double backward.

    Attributes:
        width: channels at half the image's size; they double with each layer, up to eight times as many.
        layers: that halve the image; a patch has 16, 34, 70 pixels a side with 1, 2, 3 of them.
        norm: of all layers but the first and the last. "none" is what a gradient penalty is cheapest with.
        spectral_norm: divide every weight by its largest singular value.
    """

    kind: Literal["patch"] = "patch"
    width: Count = 64
    layers: Count = 3
    norm: Norm = "instance"
    spectral_norm: bool = False

    @property
    def minibatch(self) -> None:
        """None: each patch is judged alone."""

    def build(self, shape: tuple[int, ...], outputs: int | None = None) -> nn.Module:
        """The network: images [N, C, H, W] → logits [N, h, w], or the patches' mean [N, outputs] of as many outputs.

        Raises:
            ValueError: for samples that are no images, or are smaller than so many layers take.
        """
        if len(shape) != 3:
            raise ValueError(f"samples of shape {list(shape)} are no images; take networks of kind mlp")
        _, height, width = shape
        if min(height, width) >> self.layers < 3:
            most = max(0, (min(height, width) // 3).bit_length() - 1)
            way_out = f"set layers to {most}" if most else "pack them at 6 or more"
            raise ValueError(f"images of {height}x{width} are too small for {self.layers} layers of a patch critic; {way_out}")
        layers, before = nn.Sequential(), shape[0]
        for k in range(self.layers + 1):
            after, stride = self.width * min(1 << k, 8), 2 if k < self.layers else 1
            layers.append(nn.Conv2d(before, after, 4, stride, 1, bias=False))
            layers.append(BiasLeakyReLU(after) if k == 0 else activation(after, self.norm))
            before = after
        layers.append(nn.Conv2d(before, outputs or 1, 4, 1, 1))
        layers.extend([nn.Flatten(1, 2)] if outputs is None else [nn.AdaptiveAvgPool2d(1), nn.Flatten(1)])
        init_kaiming(layers) if self.norm == "none" else init_normal(layers)
        return normalise_spectrally(layers) if self.spectral_norm else layers
