"""What a generator does between its convolutions, and its upsampling convolutions, against eager PyTorch and its compiler."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigan.networks.upsampling import BatchNormLeakyReLU, UpsampleConv2d
from bigan.ops import affine_leaky_relu
from timing import SLOPE, Row, Thunk, close, compare

ACTIVATIONS = ((8, 64, 32, 32), (8, 128, 32, 32), (8, 256, 16, 16))
# x: [8, in, size, size] and out: the doubling convolutions of a generator of 64 px, and of one of 128 px.
CONVOLUTIONS = ((512, 256, 4), (256, 128, 8), (128, 64, 16), (64, 64, 32))
DTYPES = ((torch.float32, "fp32"), (torch.bfloat16, "bf16"))


def generator_rows() -> Iterator[Row]:
    for dtype, name in DTYPES:
        for shape in ACTIVATIONS:
            yield from activation_rows(shape, dtype, f"{'×'.join(map(str, shape))}, {name}")
        yield batch_norm_row(ACTIVATIONS[0], dtype, name)
        for channels_in, channels_out, size in CONVOLUTIONS:
            yield convolution_row(channels_in, channels_out, size, dtype, name)


def laid_out(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).contiguous(memory_format=torch.channels_last)


def gradients(y: Tensor, leaves: list[Tensor], g: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: torch.autograd.grad(y, leaves, g, retain_graph=True)


def activation_rows(shape: tuple[int, ...], dtype: torch.dtype, where: str) -> Iterator[Row]:
    x = laid_out(torch.randn(shape), dtype).requires_grad_()
    scale, shift = (torch.randn(shape[1]).to(dtype).float().requires_grad_() for _ in range(2))
    broad = [v.detach().to(dtype).view(1, -1, 1, 1).requires_grad_() for v in (scale, shift)]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2

    def eager(factor: int) -> Tensor:
        y = F.leaky_relu(x * broad[0] + broad[1], SLOPE)
        return y if factor == 1 else F.interpolate(y, scale_factor=2, mode="nearest")

    def ours(factor: int) -> Tensor:
        return affine_leaky_relu(x, scale, shift, SLOPE, factor)

    for factor in (1, 2):
        close(ours(factor).detach(), eager(factor).detach(), tolerance)
    with torch.no_grad():
        yield compare(f"affine + leaky ReLU, {where}", lambda: eager(1), lambda: ours(1), 1.8)
        yield compare(f"affine + leaky ReLU + upsampling, {where}", lambda: eager(2), lambda: ours(2), 2.3)
        compiled = torch.compile(lambda: eager(2))
        close(compiled(), eager(2), tolerance)
        unit = "times inductor's speed"
        yield compare(f"affine + leaky ReLU + upsampling against inductor, {where}", compiled, lambda: ours(2), 1.5, unit=unit)
    g = laid_out(torch.randn(*shape[:2], 2 * shape[2], 2 * shape[3]), dtype)
    sides = gradients(eager(2), [x, *broad], g), gradients(ours(2), [x, scale, shift], g)
    for theirs, mine in zip(sides[0](), sides[1](), strict=True):
        close(mine.flatten(), theirs.flatten(), 1e-5 if dtype == torch.float32 else 3e-2)
    yield compare(f"backward of affine + leaky ReLU + upsampling, {where}", *sides, 1.5)


def batch_norm_row(shape: tuple[int, ...], dtype: torch.dtype, name: str) -> Row:
    x, layer = laid_out(torch.randn(shape), dtype).requires_grad_(), BatchNormLeakyReLU(shape[1], SLOPE, upsample=2)
    norm = nn.BatchNorm2d(shape[1])
    g = laid_out(torch.randn(*shape[:2], 2 * shape[2], 2 * shape[3]), dtype)

    def step(module: nn.Module, y: Tensor) -> list[Tensor]:
        return [y.detach(), *torch.autograd.grad(y, [x, *module.parameters()], g)]

    def eager() -> list[Tensor]:
        return step(norm, F.interpolate(F.leaky_relu(norm(x), SLOPE), scale_factor=2, mode="nearest"))

    def ours() -> list[Tensor]:
        return step(layer, layer(x))

    for theirs, mine in zip(eager(), ours(), strict=True):
        close(mine, theirs, 1e-5 if dtype == torch.float32 else 2e-2)
    return compare(
        f"forward + backward of batch norm + leaky ReLU + upsampling, {'×'.join(map(str, shape))}, {name}", eager, ours, 1.2
    )


def convolution_row(channels_in: int, channels_out: int, size: int, dtype: torch.dtype, name: str) -> Row:
    x = laid_out(torch.randn(8, channels_in, size, size), dtype).requires_grad_()
    layer = UpsampleConv2d(channels_in, channels_out, bias=False).to(memory_format=torch.channels_last)
    weight = laid_out(layer.weight.detach().transpose(0, 1), torch.float32).requires_grad_()
    g = laid_out(torch.randn(8, channels_out, 2 * size, 2 * size), dtype)

    def eager() -> tuple[Tensor, ...]:
        y = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
        return torch.autograd.grad(y, (x, weight), g)

    def ours() -> tuple[Tensor, ...]:
        return torch.autograd.grad(layer(x), (x, layer.weight), g)

    def autocast(thunk: Thunk) -> Thunk:
        def run() -> object:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return thunk()

        return run

    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        for theirs, mine in zip(eager(), ours(), strict=True):
            close(mine if mine.shape == x.shape else mine.transpose(0, 1), theirs, 1e-5 if dtype == torch.float32 else 2e-2)
    what = f"forward + backward of upsampling + 3×3 convolution, 8×{channels_in}×{size}×{size} → {channels_out}, {name}"
    return compare(what, autocast(eager), autocast(ours), 2.2, pairs=10)
