"""A scale and a shift per channel, leaky ReLU and nearest upsampling in one pass, forward and backward.

What a generator does between two convolutions: a batch norm, folded into one scale and one shift a channel, its
activation and the doubling of the image. Kept for the backward is one bit an element, and x where a scale is trained.
"""

from typing import Any

import torch
from torch import Tensor

from bigan.ops import arguments, reference


def affine_leaky_relu(
    x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None, slope: float = 0.2, upsample: int = 1
) -> Tensor:
    """Return leaky_relu(x · scale + shift) with every pixel repeated `upsample` × `upsample` times.

    The derivative at x · scale + shift = 0 is `slope`'s. Computed in fp32 (fp64 for fp64) and rounded once;
    differentiable to any order. The sums of the gradients are deterministic and do not depend on the number of threads.

    Args:
        x: [N, C, *] (two dimensions or more; [N, C, H, W] to upsample), fp32, bf16, fp16 or fp64. Contiguous and
            channels_last tensors are read as they lie, and the result has their format; others are made contiguous.
        scale: [C], of any floating type; its gradient has its own type. None: 1.
        shift: the same; None: 0.
        slope: factor of the negative side.
        upsample: 1, or 2 for nearest upsampling.

    Returns:
        [N, C, *], or [N, C, 2 H, 2 W], of the type of x.

    Raises:
        ValueError: a shape, type or device that does not fit.
    """
    op = "affine_leaky_relu"
    arguments.check_input(op, x)
    arguments.check_upsample(op, x, upsample)
    scale, shift = arguments.per_channel(op, "scale", scale, x), arguments.per_channel(op, "shift", shift, x)
    lies_last = reference.lies_channels_last(x)
    y, _ = torch.ops.bigan.affine_leaky_relu.default(x, scale, shift, slope, upsample, lies_last)
    return y


def _forward_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    x, scale, _, ctx.slope, ctx.factor, ctx.channels_last = inputs
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, scale, output[1])


def _forward_derivative(ctx: Any, grad_y: Tensor | None, _grad_bits: None) -> tuple[Tensor | None, ...]:
    if grad_y is None:
        return None, None, None, None, None, None
    x, scale, bits = ctx.saved_tensors
    needs_x, needs_scale, needs_shift = ctx.needs_input_grad[:3]
    how = (ctx.slope, ctx.factor, ctx.channels_last, needs_x, needs_scale or needs_shift)
    dx, dshift, dscale = torch.ops.bigan.affine_leaky_relu_backward.default(grad_y, bits, x, scale, None, None, *how)
    return dx if needs_x else None, dscale if needs_scale else None, dshift if needs_shift else None, None, None, None


def _backward_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    g, bits, x, scale, x_scale, _, ctx.slope, ctx.factor, ctx.channels_last, ctx.write, ctx.sums = inputs
    ctx.save_for_backward(g, bits, x, scale, x_scale)


def _backward_derivative(ctx: Any, u: Tensor | None, t: Tensor | None, s: Tensor | None) -> tuple[Tensor | None, ...]:
    # With gz = m · (g summed over the copies), ⟨u, scale · gz + x_scale · x + shift⟩ + ⟨t, Σ gz⟩ + ⟨s, Σ gz · x⟩ is
    # ⟨scale · u + s · x + t, gz⟩ + ⟨u, x_scale · x + shift⟩.
    g, bits, x, scale, x_scale = ctx.saved_tensors
    needs_g, _, needs_x, needs_scale, needs_x_scale, needs_shift = ctx.needs_input_grad[:6]
    u = u if ctx.write else None
    s, t = (s if x is not None else None, t) if ctx.sums else (None, None)
    how = (ctx.slope, ctx.factor, ctx.channels_last)
    dg = dx = dscale = None
    if needs_g and not (u is None and s is None and t is None):
        dg = _spread(u, scale, s, x, t, g, bits, *how)
    by_gz = needs_x and s is not None, needs_scale and u is not None
    if any(by_gz):
        of_u = u if by_gz[1] else None
        dx, _, dscale = torch.ops.bigan.affine_leaky_relu_backward.default(g, bits, of_u, s, None, None, *how, *by_gz)
    dx, dscale = dx if by_gz[0] else None, dscale if by_gz[1] else None
    dx_scale = dshift = None
    if u is not None:
        wide = u.to(reference.accumulation_dtype(g.dtype))
        others = [d for d in range(u.dim()) if d != 1]
        if needs_x and x_scale is not None:
            term = (wide * reference.per_channel(x_scale, u.dim())).to(g.dtype)
            dx = term if dx is None else dx + term
        if needs_x_scale and x is not None:
            dx_scale = (wide * x).sum(others)
        if needs_shift:
            dshift = wide.sum(others)
    return dg, None, dx, dscale, dx_scale, dshift, None, None, None, None, None


def _spread(
    u: Tensor | None,
    scale: Tensor | None,
    s: Tensor | None,
    x: Tensor | None,
    t: Tensor | None,
    g: Tensor,
    bits: Tensor,
    slope: float,
    factor: int,
    channels_last: bool,
) -> Tensor:
    """m · (scale · u + s · x + t), each pixel repeated: the adjoint of gz. Only second derivatives come here."""
    wide, dim = reference.accumulation_dtype(g.dtype), g.dim()
    terms = []
    if u is not None:
        terms.append(u.to(wide) if scale is None else u.to(wide) * reference.per_channel(scale, dim))
    if s is not None and x is not None:
        terms.append(x.to(wide) * reference.per_channel(s, dim))
    if t is not None:
        terms.append(reference.per_channel(t, dim))
    size = g.shape if factor == 1 else (*g.shape[:2], g.shape[2] // 2, g.shape[3] // 2)
    z = sum(terms[1:], start=terms[0]).expand(size).to(g.dtype)
    y, _ = torch.ops.bigan.mask_multiply.default(z, None, bits, slope, channels_last, False)
    return reference.upsample_nearest(y, factor)


def _forward_fake(
    x: Tensor, scale: Tensor | None, shift: Tensor | None, slope: float, factor: int, channels_last: bool
) -> tuple[Tensor, Tensor]:
    return reference.empty_like(x, factor, 1, channels_last), x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8)


def _backward_fake(
    g: Tensor,
    bits: Tensor,
    x: Tensor | None,
    scale: Tensor | None,
    x_scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
    factor: int,
    channels_last: bool,
    write: bool,
    sums: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dx = reference.empty_like(g, 1, factor, channels_last) if write else g.new_empty(0)
    wide = reference.accumulation_dtype(g.dtype)
    dshift, dscale = (g.new_empty(g.shape[1] if asked else 0, dtype=wide) for asked in (sums, sums and x is not None))
    return dx, dshift, dscale


def register() -> None:
    """Register the fakes and the derivatives; called once, by the import of `bigan.ops`, after the kernels."""
    forward, backward = "bigan::affine_leaky_relu", "bigan::affine_leaky_relu_backward"
    torch.library.register_fake(forward, _forward_fake)
    torch.library.register_fake(backward, _backward_fake)
    torch.library.register_autograd(forward, _forward_derivative, setup_context=_forward_context)
    torch.library.register_autograd(backward, _backward_derivative, setup_context=_backward_context)
