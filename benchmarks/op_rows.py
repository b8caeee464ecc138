"""The critic's operators against eager PyTorch, at the activations of a 64 px DCGAN critic and at one that no cache holds."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bigan.ops import row_combine, squared_norm
from timing import SLOPE, Row, close, compare

CRITIC = ((8, 64, 32, 32), (8, 128, 16, 16), (8, 256, 8, 8), (8, 512, 4, 4))
LARGE = ((16, 64, 64, 64),)


def op_rows() -> Iterator[Row]:
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        yield from activation_rows(CRITIC, dtype, f"the critic's four layers, {name}")
        yield from activation_rows(LARGE, dtype, f"{'×'.join(map(str, LARGE[0]))}, {name}")
        yield from penalty_rows(dtype, name)


def tensors(shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> list[Tensor]:
    return [torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last) for shape in shapes]


def activation_rows(shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, where: str) -> Iterator[Row]:
    xs, gs = tensors(shapes, dtype), tensors(shapes, dtype)
    biases = [torch.randn(shape[1]).to(dtype).float() for shape in shapes]
    casts = [bias.to(dtype).view(1, -1, 1, 1) for bias in biases]
    zs = [x + cast for x, cast in zip(xs, casts, strict=True)]
    forward, multiply = torch.ops.bigan.bias_leaky_relu, torch.ops.bigan.mask_multiply
    bits = []
    for x, bias, z in zip(xs, biases, zs, strict=True):
        y, kept = forward(x, bias, SLOPE, True)
        close(y, F.leaky_relu(z, SLOPE), 1e-6 if dtype == torch.float32 else 1e-2)
        bits.append(kept)

    def eager() -> list[Tensor]:
        return [F.leaky_relu(x + cast, SLOPE) for x, cast in zip(xs, casts, strict=True)]

    def ours() -> list[Tensor]:
        return [forward(x, bias, SLOPE, True) for x, bias in zip(xs, biases, strict=True)]

    def eager_backward() -> list[Tensor]:
        gradients = [torch.ops.aten.leaky_relu_backward(g, z, SLOPE, False) for g, z in zip(gs, zs, strict=True)]
        return [*gradients, *[gradient.sum((0, 2, 3)) for gradient in gradients]]

    def our_backward() -> list[Tensor]:
        pairs = [multiply(g, None, kept, SLOPE, True, True) for g, kept in zip(gs, bits, strict=True)]
        return [*[pair[0] for pair in pairs], *[pair[1].sum(0) for pair in pairs]]

    yield compare(f"bias + leaky ReLU, {where}", eager, ours, 1.8)
    for found, wanted in zip(our_backward(), eager_backward(), strict=True):
        close(found, wanted, 1e-5 if dtype == torch.float32 else 2e-2)
    yield compare(f"leaky ReLU backward + bias gradient, {where}", eager_backward, our_backward, 1.7)


def penalty_rows(dtype: torch.dtype, name: str) -> Iterator[Row]:
    """What lies between the gradient and the tangent: ‖g‖², and u + c·x of its derivative u."""
    (g,), (x,) = tensors([(8, 3, 64, 64)], dtype), tensors([(8, 3, 64, 64)], dtype)
    c, weight = torch.randn(8), torch.rand(8)

    def eager() -> Tensor:
        leaf = g.detach().requires_grad_()
        (u,) = torch.autograd.grad(leaf.float().square().sum((1, 2, 3)), leaf, weight)
        return u + c.view(-1, 1, 1, 1).to(dtype) * x

    def ours() -> Tensor:
        leaf = g.detach().requires_grad_()
        (u,) = torch.autograd.grad(squared_norm(leaf), leaf, weight)
        return row_combine(u, None, x, c)

    close(ours(), eager(), 1e-6 if dtype == torch.float32 else 1e-2)
    yield compare(f"squared norms, their derivative and u + c·x, 8×3×64×64, {name}", eager, ours, 1.5)
