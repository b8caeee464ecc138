"""Bias and leaky ReLU in one pass that keeps one sign bit an element, with a derivative that makes no zeros.

PyTorch's own `leaky_relu_backward` declares its derivative with respect to the activation as a tensor of zeros. In a
gradient penalty those zeros run through a whole convolution backward. Here that derivative is `None`.
"""

from typing import Any

import torch
from torch import Tensor

from bigan.ops import _in_place, reference
from bigan.ops.arguments import check_input, per_channel
from bigan.ops.reference import lies_channels_last


def bias_leaky_relu(x: Tensor, bias: Tensor | None = None, slope: float = 0.2) -> Tensor:
    """Return `leaky_relu(x + bias)`: z where z = x + bias > 0, otherwise slope · z (at z = 0 the derivative is `slope`).

    The sum is taken in fp32 (fp64 for fp64) and rounded once. Differentiable to any order in x and bias; kept for the
    backward is one bit an element. The bias gradient is deterministic and does not depend on the number of threads.

    Args:
        x: [N, C, *] (two dimensions or more), fp32, bf16, fp16 or fp64. Contiguous and channels_last tensors are read as
            they lie, and the result has their format; others are made contiguous.
        bias: [C], of any floating type; its gradient has its own type. None: no bias.
        slope: factor of the negative side.

    Returns:
        A tensor of the shape and type of x.

    Raises:
        ValueError: fewer than two dimensions, another type, or a bias whose shape or device does not fit.
    """
    check_input("bias_leaky_relu", x)
    bias = per_channel("bias_leaky_relu", "bias", bias, x)
    y, _ = torch.ops.bigan.bias_leaky_relu.default(x, bias, slope, lies_channels_last(x))
    return y


def bias_leaky_relu_(x: Tensor, bias: Tensor | None = None, slope: float = 0.2) -> Tensor:
    """Write `bias_leaky_relu(x, bias, slope)` over x and return its sign bits; it has no derivative.

    Args:
        x: [N, C, *] as in `bias_leaky_relu`, but contiguous or channels_last.
        bias: [C] or None, as there.
        slope: as there.

    Returns:
        [ceil(numel / 8)] uint8: a bit is set where x + bias > 0, eight elements a byte in the order of x in memory, lowest
        bit first. What `torch.ops.bigan.mask_multiply` takes.

    Raises:
        ValueError: as in `bias_leaky_relu`, and where x lies in neither memory format.
        RuntimeError: an argument requires a gradient, and gradients are recorded.
    """
    check_input("bias_leaky_relu_", x)
    bias = per_channel("bias_leaky_relu_", "bias", bias, x)
    channels_last = lies_channels_last(x)
    if not (channels_last or x.is_contiguous()):
        raise ValueError(f"bias_leaky_relu_: x must be contiguous or channels_last, got strides {x.stride()}")
    return torch.ops.bigan.bias_leaky_relu_.default(x, bias, slope, channels_last)


# The derivatives are registered on the operators (`torch.library.register_autograd`), not written as an
# `autograd.Function` around them. Registered, they belong to the operator: whoever calls it, a backward included, gets
# them, which is what makes every order right; torch.compile sees one operator in forward and one in backward instead of
# a Function whose `set_materialize_grads(False)` it would have to trace; and opcheck can test them. The zero-free double
# backward needs only `set_materialize_grads(False)` and `None`, and both pass through the registered form.


def _forward_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    _, _, ctx.slope, ctx.channels_last = inputs
    ctx.save_for_backward(output[1])


def _forward_derivative(ctx: Any, grad_y: Tensor | None, _grad_bits: None) -> tuple[Tensor | None, ...]:
    if grad_y is None:
        return None, None, None, None
    (bits,) = ctx.saved_tensors
    needs_x, needs_bias = ctx.needs_input_grad[:2]
    dx, sums = torch.ops.bigan.mask_multiply.default(grad_y, None, bits, ctx.slope, ctx.channels_last, needs_bias)
    return dx if needs_x else None, sums.sum(0) if needs_bias else None, None, None


def _multiply_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    g, rows, bits, ctx.slope, ctx.channels_last, ctx.sums = inputs
    ctx.has_rows, ctx.shape, ctx.dtype = rows is not None, g.shape, g.dtype
    ctx.save_for_backward(bits)


def _multiply_derivative(ctx: Any, grad_y: Tensor | None, grad_sums: Tensor | None) -> tuple[Tensor | None, ...]:
    # (g, rows) → (y, sums) is linear and self-adjoint: the same operator on (grad_y, grad_sums).
    if not ctx.sums:
        grad_sums = None
    if grad_y is None:
        if grad_sums is None:
            return None, None, None, None, None, None
        grad_y = grad_sums.new_zeros((), dtype=ctx.dtype).expand(ctx.shape)
    (bits,) = ctx.saved_tensors
    needs_g, needs_rows = ctx.needs_input_grad[0], ctx.has_rows and ctx.needs_input_grad[1]
    dg, drows = torch.ops.bigan.mask_multiply.default(grad_y, grad_sums, bits, ctx.slope, ctx.channels_last, needs_rows)
    return dg if needs_g else None, drows if needs_rows else None, None, None, None, None


def _forward_fake(x: Tensor, bias: Tensor | None, slope: float, channels_last: bool) -> tuple[Tensor, Tensor]:
    like = x.contiguous(memory_format=reference.memory_format(x.dim(), channels_last))
    return torch.empty_like(like), _in_place_fake(x, bias, slope, channels_last)


def _in_place_fake(x: Tensor, _bias: Tensor | None, _slope: float, _channels_last: bool) -> Tensor:
    return x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8)


def _multiply_fake(
    g: Tensor, rows: Tensor | None, bits: Tensor, slope: float, channels_last: bool, sums: bool
) -> tuple[Tensor, Tensor]:
    like = g.contiguous(memory_format=reference.memory_format(g.dim(), channels_last))
    total = g.new_empty(g.shape[:2] if sums else 0, dtype=reference.accumulation_dtype(g.dtype))
    return torch.empty_like(like), total


def register() -> None:
    """Register the fakes and the derivatives; called once, by the import of `bigan.ops`, after the kernels."""
    torch.library.register_fake("bigan::bias_leaky_relu", _forward_fake)
    torch.library.register_fake("bigan::bias_leaky_relu_", _in_place_fake)
    torch.library.register_fake("bigan::mask_multiply", _multiply_fake)
    torch.library.register_autograd("bigan::bias_leaky_relu", _forward_derivative, setup_context=_forward_context)
    torch.library.register_autograd("bigan::mask_multiply", _multiply_derivative, setup_context=_multiply_context)
    _in_place.register("bias_leaky_relu_")
