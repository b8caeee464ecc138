"""The nodes that autograd records: a map with weights, a kink, and the logits themselves.

They are differentiable once, as free samples' activations are kept as constants.
"""

from typing import Any

import torch
from torch import Tensor

from bigan.ops import row_combine, row_combine_
from bigan.ops.reference import accumulation_dtype
from bigan.pullback.maps import Bilinear, dense_format


class WeightedPullback(torch.autograd.Function):
    """(cotangent, weight) → the cotangent at the input, held and whole, and the free samples' terms, of no value."""

    @staticmethod
    def forward(
        ctx: Any, held: Tensor, weight: Tensor, whole: Tensor, free: Tensor, over: Bilinear, first_layer: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.over = over
        ctx.save_for_backward(weight, whole, free)
        below = over.transpose(whole[: len(held)] if first_layer else whole, weight)
        terms = free.new_zeros(len(free), dtype=accumulation_dtype(free.dtype))
        ctx.mark_non_differentiable(below)
        return below[: len(held)], below, terms

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        _refuse_second_order()
        a, _, c = grad_outputs
        if a is None:
            _refuse_lost_cotangent(c)
            return None, None, None, None, None, None
        weight, whole, free = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            tangent = ctx.over.forward(a, weight) if ctx.needs_input_grad[0] else None
            if not ctx.needs_input_grad[1]:
                return tangent, None, None, None, None, None
            x, g = (a, whole[: len(a)]) if c is None else (_input_tangent(a, free, c), whole)
            return tangent, ctx.over.weight_gradient(x, g, weight), None, None, None, None


def _input_tangent(a: Tensor, free: Tensor, c: Tensor) -> Tensor:
    # A free sample's tangent is its activation, times the derivative of the loss with respect to its logit.
    if not len(free):
        return a
    shape = (len(a) + len(free), *free.shape[1:])
    x = torch.empty(shape, dtype=a.dtype, device=a.device, memory_format=dense_format(free))
    x[: len(a)].copy_(a)
    row_combine_(x[len(a) :], free, c)
    return x


class KinkPullback(torch.autograd.Function):
    """cotangent → held, whole, and both summed over all but samples and channels, through the mask of a leaky ReLU."""

    @staticmethod
    def forward(
        ctx: Any, held: Tensor, whole: Tensor, bits: Tensor, slope: float, channels_last: bool, sums: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.slope, ctx.channels_last, ctx.sums = slope, channels_last, sums
        ctx.save_for_backward(bits)
        below, totals = torch.ops.bigan.mask_multiply.default(whole, None, bits, slope, channels_last, sums)
        ctx.mark_non_differentiable(below, totals)
        return below[: len(held)], below, totals[: len(held)], totals

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        _refuse_second_order()
        a, _, sums, _ = grad_outputs
        rows = sums if ctx.sums else None  # a compiler hands in zeros for what is empty
        if a is None:
            _refuse_lost_cotangent(rows)
            return None, None, None, None, None, None
        (bits,) = ctx.saved_tensors
        tangent, _ = torch.ops.bigan.mask_multiply.default(a, rows, bits, ctx.slope, ctx.channels_last, False)
        return tangent, None, None, None, None, None


class HungLogits(torch.autograd.Function):
    """The logits, hung on the pullback: their value is the forward's, their derivative that of ⟨g_0, x⟩ + Σ terms.

    `terms`: those of the held samples, [P] each, then those of the free ones.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, gradient: Tensor, images: Tensor, held_terms: int, *terms: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.held_terms, ctx.free_terms = held_terms, len(terms) - held_terms
        ctx.save_for_backward(images)
        return logits.view_as(logits), gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        _refuse_second_order()
        c, u = grad_outputs
        if c is None:
            return None, u, None, None, *[None] * (ctx.held_terms + ctx.free_terms)
        (images,) = ctx.saved_tensors
        c = c.reshape(-1)
        held, free = c[: len(images)], c[len(images) :]
        above = row_combine(images, held) if u is None else row_combine(u, None, images, held)
        return None, above, None, None, *[held] * ctx.held_terms, *[free] * ctx.free_terms


def _refuse_second_order() -> None:
    # Not once_differentiable: it objects only where an incoming gradient is differentiable, which WGAN's is not.
    if torch.is_grad_enabled():
        raise RuntimeError("a recorded pullback is differentiable once; use bigan.penalties.by_autograd for more")


def _refuse_lost_cotangent(other: Tensor | None) -> None:
    if other is not None:
        raise RuntimeError("a layer's pullback dropped a cotangent that the logits depend on; see Trace.add")
