"""Layers of a generator that doubles its image: each does in one pass what stands between two convolutions, or two of them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigan.norms import Foldable, track
from bigan.ops import affine_leaky_relu, batch_norm_leaky_relu, fold_batch_norm
from bigan.precision import wide


class UpsampleConv2d(nn.Module):
    """Nearest 2× upsampling and a 3×3 convolution with padding 1, as one: [N, in, H, W] → [N, out, 2 H, 2 W].

    Neighbouring pixels of an upsampled image are equal, so that the nine taps read four pixels: the same map is the
    transposed convolution of kernel 4, stride 2 and padding 1 whose kernel is the 3×3 one, mirrored and convolved with
    ones(2, 2). That takes 16 multiply-adds where there were 36, for each pixel of the input and pair of channels, and no
    upsampled image. What is trained are the 3×3 weights, so that the function, its derivatives and an optimizer's steps
    are those of the two layers.

    Attributes:
        weight: [in, out, 3, 3], as in `nn.ConvTranspose2d`: the order in which the transposed convolution reads its
            kernel without transposing it. `weight.transpose(0, 1)` is that of the `nn.Conv2d`.
        bias: [out], or None.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        # As nn.Conv2d starts: uniform in ± 1/√fan_in.
        bound = 1 / math.sqrt(9 * in_channels)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """conv2d(interpolate(x, scale_factor=2), weight.transpose(0, 1), bias, padding=1)."""
        kernel = fold_upsampling(wide(self.weight)).to(self.weight.dtype)  # which autocast rounds once, when it is done
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)

    def extra_repr(self) -> str:
        """in, out, and whether there is a bias."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}, bias={self.bias is not None}"


def fold_upsampling(weight: Tensor) -> Tensor:
    """Mirror a kernel [in, out, 3, 3] and convolve it with ones(2, 2): [in, out, 4, 4], in channels_last memory.

    Sums alone, along whole rows of `out`: a matrix product would be rounded by autocast and TF32.
    """
    taps = weight.permute(0, 2, 3, 1)
    for dim in (1, 2):
        first, second, third = taps.unbind(dim)
        taps = torch.stack((third, second + third, first + second, first), dim)
    return taps.permute(0, 3, 1, 2)


class UpsampleBiasLeakyReLU(nn.Module):
    """Per-channel bias, leaky ReLU and nearest 2× upsampling in one pass: [N, C, H, W] → [N, C, 2 H, 2 W]."""

    def __init__(self, channels: int, slope: float = 0.2) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """leaky_relu(x + bias), upsampled."""
        return affine_leaky_relu(x, None, self.bias, self.slope, upsample=2)


class ModulatedBatchNormLeakyReLU(nn.Module):
    """Batch norm whose scale and shift a vector modulates, leaky ReLU, nearest upsampling: [N, C, H, W] → [N, C, k H, k W].

    y = (1 + s(v)) · norm(x) + b(v), s and b linear (de Vries et al., 2017; of z and the condition's code: Brock et al.,
    BigGAN, 2019, appendix B).

    Args:
        inputs: length of v.
        upsample: k, 1 or 2.
    """

    def __init__(self, channels: int, inputs: int, slope: float = 0.2, upsample: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.modulation = nn.Linear(inputs, 2 * channels)
        self.slope, self.upsample = slope, upsample

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """x: [N, C, H, W]; v: [N, inputs]."""
        scale, shift = self.modulation(v)[:, :, None, None].chunk(2, 1)
        return affine_leaky_relu(self.norm(x) * (1 + scale) + shift, None, None, self.slope, self.upsample)


class BatchNormLeakyReLU(nn.Module):
    """Batch norm, leaky ReLU and nearest upsampling by 1 or 2: [N, C, H, W] → [N, C, upsample · H, upsample · W].

    The norm is folded into the pass of the activation (`bigan.ops.batch_norm_leaky_relu`). It is a layer of its own,
    with its names in the state dict, so that whoever looks for a batch norm finds it; what replaces it for several ranks
    is folded too if it is `Foldable`, and called where it is not (`nn.SyncBatchNorm`). Its hooks run only when it is called.
    """

    def __init__(self, channels: int, slope: float = 0.2, upsample: int = 1) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(channels)
        self.slope, self.upsample = slope, upsample

    def forward(self, x: Tensor) -> Tensor:
        """leaky_relu(norm(x)), upsampled. Raises ValueError in training where a channel has a single value."""
        norm = self.norm
        if isinstance(norm, nn.BatchNorm2d):
            return self._folded(norm, x)
        if isinstance(norm, Foldable):
            scale, shift = norm.fold(x)
            return affine_leaky_relu(x, scale, shift, self.slope, self.upsample)
        return affine_leaky_relu(norm(x), None, None, self.slope, self.upsample)

    def _folded(self, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        mean, var = norm.running_mean, norm.running_var
        if not norm.training and mean is not None and var is not None:
            scale, shift = fold_batch_norm(mean, var, norm.weight, norm.bias, norm.eps)
            return affine_leaky_relu(x, scale, shift, self.slope, self.upsample)
        count = x.numel() // max(x.shape[1], 1)
        if norm.training and count <= 1:
            raise ValueError(f"batch norm in training needs more than one value a channel, got an input of {list(x.shape)}")
        y, mean, var = batch_norm_leaky_relu(x, norm.weight, norm.bias, norm.eps, self.slope, self.upsample)
        track(norm, mean.detach(), var.detach(), count)
        return y
