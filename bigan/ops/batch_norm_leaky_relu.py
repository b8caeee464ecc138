"""Batch norm in training, leaky ReLU and nearest upsampling, folded: one pass for the moments, one for all the rest.

Normalising by moments that are known is a scale and a shift a channel, y = x · γ/σ + (β - μ γ/σ), so that
`affine_leaky_relu` does it in the pass of the activation. The backward is one pass that sums and one that writes dx;
between them stand a few values a channel (Ioffe & Szegedy, 2015).
"""

from typing import Any

import torch
from torch import Tensor

from bigan.ops import arguments, reference

SCHEMA = (
    "batch_norm_leaky_relu(Tensor x, Tensor? weight, Tensor? bias, float eps, float slope, int factor, bool channels_last)"
    " -> (Tensor y, Tensor mean, Tensor var, Tensor bits)"
)


def batch_norm_leaky_relu(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5, slope: float = 0.2, upsample: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `affine_leaky_relu` of x normalised by its own moments, and those moments.

    Differentiable to any order, in the moments too.

    Args:
        x: [N, C, *], fp32, bf16, fp16 or fp64; contiguous and channels_last tensors are read as they lie.
        weight: γ [C], of any floating type; None: 1.
        bias: β [C], the same; None: 0.
        eps: added to the variance.
        slope: factor of the negative side.
        upsample: 1, or 2 for nearest upsampling of an x [N, C, H, W].

    Returns:
        y: [N, C, *], or [N, C, 2 H, 2 W], of the type of x.
        mean: [C], fp32 (fp64 for fp64).
        var: [C], the biased variance.

    Raises:
        ValueError: a shape, type or device that does not fit.
    """
    op = "batch_norm_leaky_relu"
    arguments.check_input(op, x)
    arguments.check_upsample(op, x, upsample)
    weight, bias = arguments.per_channel(op, "weight", weight, x), arguments.per_channel(op, "bias", bias, x)
    lies_last = reference.lies_channels_last(x)
    y, mean, var, _ = torch.ops.bigan.batch_norm_leaky_relu.default(x, weight, bias, eps, slope, upsample, lies_last)
    return y, mean, var


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of x: [N, C, *] over all dimensions but 1, differentiable to any order.

    They are [C], in fp32 (fp64 for fp64), deterministic, and do not depend on the number of threads.
    """
    arguments.check_input("channel_moments", x)
    return torch.ops.bigan.channel_moments.default(x, reference.lies_channels_last(x))


def fold_batch_norm(mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Return the scale and the shift [C] that normalise by a mean and a variance [C]: x · scale + shift."""
    scale = torch.rsqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias


def _forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float, factor: int, channels_last: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = x.contiguous(memory_format=reference.memory_format(x.dim(), channels_last))
    mean, var = torch.ops.bigan.channel_moments.default(x, channels_last)
    scale, shift = fold_batch_norm(mean, var, weight, bias, eps)
    y, bits = torch.ops.bigan.affine_leaky_relu.default(x, scale, shift, slope, factor, channels_last)
    return y, mean, var, bits


def _forward_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    x, weight, _, ctx.eps, ctx.slope, ctx.factor, ctx.channels_last = inputs
    _, mean, var, bits = output
    ctx.save_for_backward(x, weight, bits, mean, var)


def _derivative(
    ctx: Any, grad_y: Tensor | None, grad_mean: Tensor | None, grad_var: Tensor | None, _grad_bits: None
) -> tuple[Tensor | None, ...]:
    # z = x · scale + shift with scale = γ r, shift = β - μ scale and r = (var + eps)^-½. Every value a channel is an
    # ordinary tensor, and both passes have derivatives, so that this is right to any order.
    x, weight, bits, mean, var = ctx.saved_tensors
    backward = torch.ops.bigan.affine_leaky_relu_backward.default
    # Upsampled, what comes back is four times x, and is read once: the first pass leaves m · (its sums), of x's size.
    summed = ctx.factor == 2
    dx = dweight = dbias = scale = None
    if grad_y is not None:
        r = torch.rsqrt(var + ctx.eps)
        scale = r if weight is None else r * weight
        how = (ctx.slope, ctx.factor, ctx.channels_last, summed, True)
        gz, dbias, product = backward(grad_y, bits, x, None, None, None, *how)
        dscale = product - mean * dbias
        dweight = dscale * r
        grad_mean = _plus(grad_mean, -scale * dbias)
        grad_var = _plus(grad_var, dscale * scale * r * r * -0.5)
        grad_y = gz if summed else grad_y
    if ctx.needs_input_grad[0]:
        x_scale, shift = _through_moments(x, mean, grad_mean, grad_var)
        if grad_y is not None:
            slope = 1.0 if summed else ctx.slope
            dx, _, _ = backward(grad_y, bits, x, scale, x_scale, shift, slope, 1, ctx.channels_last, True, False)
        elif shift is not None:
            dx = _affine(x, x_scale, shift)
    needs_weight, needs_bias = ctx.needs_input_grad[1:3]
    return dx, dweight if needs_weight else None, dbias if needs_bias else None, None, None, None, None


def _plus(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a + b


def _through_moments(
    x: Tensor, mean: Tensor, grad_mean: Tensor | None, grad_var: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """a and b [C] of dx = a · x + b, the gradient that reaches x through its moments; None, None: there is none."""
    count = max(x.numel() // max(x.shape[1], 1), 1)
    if grad_var is None:
        return None, None if grad_mean is None else grad_mean / count
    a = grad_var * (2 / count)
    b = -a * mean
    return a, b if grad_mean is None else b + grad_mean / count


def _affine(x: Tensor, a: Tensor | None, b: Tensor) -> Tensor:
    wide = x.to(b.dtype)
    b = reference.per_channel(b, x.dim())
    return (b.expand_as(wide) if a is None else wide * reference.per_channel(a, x.dim()) + b).to(x.dtype)


def _moments_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(inputs[0], output[0])


def _moments_derivative(ctx: Any, grad_mean: Tensor | None, grad_var: Tensor | None) -> tuple[Tensor | None, None]:
    x, mean = ctx.saved_tensors
    a, b = _through_moments(x, mean, grad_mean, grad_var)
    return None if b is None else _affine(x, a, b), None


def _forward_fake(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float, factor: int, channels_last: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    bits = x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8)
    return reference.empty_like(x, factor, 1, channels_last), *_moments_fake(x, channels_last), bits


def _moments_fake(x: Tensor, channels_last: bool) -> tuple[Tensor, Tensor]:
    mean, var = (x.new_empty(x.shape[1], dtype=reference.accumulation_dtype(x.dtype)) for _ in range(2))
    return mean, var


# Registrations live as long as their Library object. The operator is made of others, so that it has no kernel of its own.
_LIBRARY = torch.library.Library("bigan", "FRAGMENT")


def register() -> None:
    """Define the folded operator, and register the fakes and the derivatives; called once, by the import of `bigan.ops`."""
    _LIBRARY.define(SCHEMA)
    _LIBRARY.impl("batch_norm_leaky_relu", _forward, "CompositeExplicitAutograd")
    torch.library.register_fake("bigan::batch_norm_leaky_relu", _forward_fake)
    torch.library.register_fake("bigan::channel_moments", _moments_fake)
    torch.library.register_autograd("bigan::batch_norm_leaky_relu", _derivative, setup_context=_forward_context)
    torch.library.register_autograd("bigan::channel_moments", _moments_derivative, setup_context=_moments_context)
