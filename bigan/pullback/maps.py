"""Maps that are linear in their input and in their weight."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bigan.ops.reference import lies_channels_last, memory_format


def dense_format(x: Tensor) -> torch.memory_format:
    """The memory format in which x lies, or that of a copy of it."""
    return memory_format(x.dim(), lies_channels_last(x))


class Bilinear(Protocol):
    """A map that is linear in its input and in its weight."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The output."""
        ...

    def transpose(self, g: Tensor, weight: Tensor) -> Tensor:
        """Gradient at the input, given that at the output."""
        ...

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Gradient at the weight, of its shape and type, given the input and the gradient at the output."""
        ...


class Matrix:
    """nn.Linear: [N, *, I] → [N, *, O], weight [O, I]."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x Wᵀ + b."""
        return F.linear(x, weight, bias)

    def transpose(self, g: Tensor, weight: Tensor) -> Tensor:
        """g W."""
        return g @ weight

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """gᵀ x."""
        return g.flatten(0, -2).t() @ x.flatten(0, -2)


@dataclass(frozen=True)
class Convolution:
    """A convolution of one to three dimensions; `size`: spatial size of its input.

    Two cases in which oneDNN is slow are matrix products of unfolded images on a CPU: few pixels under many channels, where it
    spends its time in arranging weights; and the gradient at an image of few channels.
    """

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    size: Sequence[int]

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The convolution."""
        sides = zip(self.size, weight.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        pixels = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in sides]
        if self._unfolds(x) and self._few(len(x) * math.prod(pixels), weight):
            windows = self._windows(x, weight, pixels).flatten(3).flatten(0, 2)
            return F.linear(windows, _matrix(weight), bias).view(len(x), *pixels, -1).permute(0, 3, 1, 2)
        return self._convolve(x, weight, bias, False, [0] * len(self.size))

    def transpose(self, g: Tensor, weight: Tensor) -> Tensor:
        """The transposed convolution, of the input's size."""
        if self._unfolds(g) and weight.shape[1] <= 4:
            windows = g.permute(0, 2, 3, 1).flatten(1, 2) @ weight.flatten(1)
            fold = (self.size, weight.shape[2:], self.dilation, self.padding, self.stride)
            return F.fold(windows.mT, *fold).contiguous(memory_format=dense_format(g))  # pyright: ignore[reportArgumentType]
        sides = zip(self.size, g.shape[2:], weight.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        more = [size - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for size, n, k, s, p, d in sides]
        return self._convolve(g, weight, None, True, more)

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """The correlation of input and gradient."""
        if self._unfolds(x) and self._few(g[:, 0].numel(), weight):
            windows = self._windows(x, weight, g.shape[2:]).flatten(3).flatten(0, 2)
            gradient = g.permute(0, 2, 3, 1).flatten(0, 2).t() @ windows
            return gradient.view(len(weight), *weight.shape[2:], -1).permute(0, 3, 1, 2)
        zeros = [0] * len(self.size)
        return torch.ops.aten.convolution_backward.default(
            g, x, weight, None, self.stride, self.padding, self.dilation, False, zeros, self.groups, [False, True, False]
        )[1]

    def _unfolds(self, x: Tensor) -> bool:
        return x.device.type == "cpu" and len(self.size) == 2 and self.groups == 1

    def _few(self, pixels: int, weight: Tensor) -> bool:
        return weight[0].numel() > 1024 and pixels <= len(weight)

    def _windows(self, x: Tensor, weight: Tensor, pixels: Sequence[int]) -> Tensor:
        """What each output pixel sees, a view [N, pixels …, kh, kw, C] of the padded image."""
        (down, right), (lower, wider) = self.padding, self.dilation
        image = F.pad(x, (right, right, down, down)).permute(0, 2, 3, 1)
        n, h, w, c = image.stride()
        strides = (n, h * self.stride[0], w * self.stride[1], h * lower, w * wider, c)
        shape = (len(x), *pixels, *weight.shape[2:], x.shape[1])
        return image.as_strided(shape, strides)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool, more: Sequence[int]) -> Tensor:
        return torch.ops.aten.convolution.default(
            x, weight, bias, self.stride, self.padding, self.dilation, transposed, more, self.groups
        )


def _matrix(weight: Tensor) -> Tensor:
    """A weight [O, I, kh, kw] as [O, kh · kw · I]; a view where it lies channels_last."""
    return weight.permute(0, 2, 3, 1).flatten(1)


@dataclass(frozen=True)
class Window:
    """A convolution whose window is the whole image, [N, I, h, w] → [N, O, 1, 1]: one matrix product, where PyTorch's is slow.

    Attributes:
        order: of the dimensions in which input and weight lie in memory.
    """

    order: tuple[int, ...]

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x Wᵀ + b."""
        y = F.linear(self._flat(x), self._flat(weight), bias)
        return y.view(*y.shape, *[1] * (x.dim() - 2))

    def transpose(self, g: Tensor, weight: Tensor) -> Tensor:
        """g W."""
        return self._unflat(g.flatten(1) @ self._flat(weight), weight)

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """gᵀ x."""
        return self._unflat(g.flatten(1).t() @ self._flat(x), weight)

    def _flat(self, x: Tensor) -> Tensor:
        return x.permute(self.order).flatten(1)

    def _unflat(self, flat: Tensor, weight: Tensor) -> Tensor:
        shape = [weight.shape[d] for d in self.order[1:]]
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return flat.view(len(flat), *shape).permute(back)
