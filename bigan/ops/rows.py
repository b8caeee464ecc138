"""Arithmetic on the samples of a batch, each one row: what gradient penalties and interpolation are made of.

A penalty is a function of the norms of the samples of a gradient, and its derivative is that gradient, each sample times a
factor. With these operators both are one pass over memory, in fp32 whatever the gradient's type, and so is every further
derivative: the four are closed under differentiation.
"""

from typing import Any

import torch
from torch import Tensor

from bigan.ops import _in_place, reference


def squared_norm(g: Tensor) -> Tensor:
    """Return `Σ g[n]²` of every sample n, in one pass.

    Differentiable to any order; deterministic, and independent of the number of threads.

    Args:
        g: [N, *], fp32, bf16, fp16 or fp64. Contiguous and channels_last tensors are read as they lie.

    Returns:
        [N] in fp32 (fp64 for fp64).

    Raises:
        ValueError: g is a scalar or of another type.
    """
    _check("squared_norm", g)
    return torch.ops.bigan.squared_norm.default(g)


def row_dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product `Σ a[n] · b[n]` of every sample n, in one pass.

    Differentiable to any order; deterministic, and independent of the number of threads.

    Args:
        a: [N, *], as in `squared_norm`.
        b: of a's shape and type; read as it lies where it lies as a does.

    Returns:
        [N] in fp32 (fp64 for fp64).

    Raises:
        ValueError: a is a scalar or of another type, or b does not fit it.
    """
    _check("row_dot", a, b=b)
    return torch.ops.bigan.row_dot.default(a, b)


def row_combine(a: Tensor, alpha: Tensor | None = None, b: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
    """Return `alpha[n] · a[n] + beta[n] · b[n]` for every sample n, computed in fp32 and rounded once.

    Differentiable to any order in all four.

    Args:
        a: [N, *], as in `squared_norm`.
        alpha: [N], of any floating type; None is 1.
        b: of a's shape and type; None: only the first term.
        beta: as alpha.

    Returns:
        A tensor of a's shape, type and memory format.

    Raises:
        ValueError: a is a scalar or of another type, an argument does not fit it, or beta is given without b.
    """
    alpha, beta = _check("row_combine", a, b=b, alpha=alpha, beta=beta)
    return torch.ops.bigan.row_combine.default(a, alpha, b, beta)


def row_combine_(
    out: Tensor, a: Tensor, alpha: Tensor | None = None, b: Tensor | None = None, beta: Tensor | None = None
) -> None:
    """Write `row_combine(a, alpha, b, beta)` over out; it has no derivative.

    Args:
        out: of a's shape and type, contiguous or channels_last: also the samples `[i:j]` of a larger batch. It may be a or
            b itself; memory that overlaps them otherwise is not looked for.
        a: as in `row_combine`, and so the rest.
        alpha: as there.
        b: as there.
        beta: as there.

    Raises:
        ValueError: as in `row_combine`, or out does not fit a or lies in neither memory format.
        RuntimeError: an argument requires a gradient, and gradients are recorded.
    """
    alpha, beta = _check("row_combine_", a, b=b, alpha=alpha, beta=beta, out=out)
    if not (out.is_contiguous() or reference.lies_channels_last(out)):
        raise ValueError(f"row_combine_: out must be contiguous or channels_last, got strides {out.stride()}")
    torch.ops.bigan.row_combine_.default(out, a, alpha, b, beta)


def _check(
    name: str,
    a: Tensor,
    *,
    b: Tensor | None = None,
    out: Tensor | None = None,
    alpha: Tensor | None = None,
    beta: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Return alpha and beta in the accumulation type."""
    if a.dim() < 1 or a.dtype not in reference.DTYPES:
        raise ValueError(f"{name}: needs [N, *] in fp32, bf16, fp16 or fp64, got {list(a.shape)} in {a.dtype}")
    for what, like in (("b", b), ("out", out)):
        if like is not None and (like.shape, like.dtype, like.device) != (a.shape, a.dtype, a.device):
            raise ValueError(f"{name}: {what} must have a's shape, type and device, {_described(a)}; got {_described(like)}")
    for what, factor in (("alpha", alpha), ("beta", beta)):
        if factor is not None and not (
            factor.shape == a.shape[:1] and factor.is_floating_point() and factor.device == a.device
        ):
            raise ValueError(f"{name}: {what} must be [{a.shape[0]}], floating, on {a.device}; got {_described(factor)}")
    if beta is not None and b is None:
        raise ValueError(f"{name}: beta is given without b")
    wide = reference.accumulation_dtype(a.dtype)
    return None if alpha is None else alpha.to(wide), None if beta is None else beta.to(wide)


def _described(x: Tensor) -> str:
    return f"{list(x.shape)} in {x.dtype} on {x.device}"


def _scaled(x: Tensor, factor: Tensor | None) -> Tensor:
    return x if factor is None else torch.ops.bigan.row_combine.default(x, factor, None, None)


def _squared_norm_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs)


def _squared_norm_derivative(ctx: Any, grad: Tensor | None) -> Tensor | None:
    (g,) = ctx.saved_tensors
    return None if grad is None else _scaled(g, 2 * grad)


def _row_dot_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    needs_a, needs_b = ctx.needs_input_grad[:2]
    ctx.save_for_backward(inputs[0] if needs_b else None, inputs[1] if needs_a else None)


def _row_dot_derivative(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    if grad is None:
        return None, None
    a, b = ctx.saved_tensors
    return None if b is None else _scaled(b, grad), None if a is None else _scaled(a, grad)


def _row_combine_context(ctx: Any, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    a, alpha, b, beta = inputs
    needs_a, needs_alpha, needs_b, needs_beta = ctx.needs_input_grad[:4]
    ctx.save_for_backward(
        a if needs_alpha else None, alpha if needs_a else None, b if needs_beta else None, beta if needs_b else None
    )


def _row_combine_derivative(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None
    a, alpha, b, beta = ctx.saved_tensors
    needs_a, _, needs_b, _ = ctx.needs_input_grad[:4]
    dot = torch.ops.bigan.row_dot.default
    return (
        _scaled(grad, alpha) if needs_a else None,
        None if a is None else dot(grad, a),
        _scaled(grad, beta) if needs_b else None,
        None if b is None else dot(grad, b),
    )


def _sums_fake(a: Tensor, _b: Tensor | None = None) -> Tensor:
    return a.new_empty(a.shape[0], dtype=reference.accumulation_dtype(a.dtype))


def _row_combine_fake(a: Tensor, _alpha: Tensor | None, _b: Tensor | None, _beta: Tensor | None) -> Tensor:
    like = a.contiguous(memory_format=reference.memory_format(a.dim(), reference.lies_channels_last(a)))
    return torch.empty_like(like)


def _nothing_fake(*_args: Any) -> None:
    return None


def register() -> None:
    """Register the fakes and the derivatives; called once, by the import of `bigan.ops`, after the kernels."""
    torch.library.register_fake("bigan::squared_norm", _sums_fake)
    torch.library.register_fake("bigan::row_dot", _sums_fake)
    torch.library.register_fake("bigan::row_combine", _row_combine_fake)
    torch.library.register_fake("bigan::row_combine_", _nothing_fake)
    for name, derivative, context in (
        ("squared_norm", _squared_norm_derivative, _squared_norm_context),
        ("row_dot", _row_dot_derivative, _row_dot_context),
        ("row_combine", _row_combine_derivative, _row_combine_context),
    ):
        torch.library.register_autograd(f"bigan::{name}", derivative, setup_context=context)
    _in_place.register("row_combine_")
