"""Plain PyTorch twins of the operators in `csrc`: the definition that every kernel is tested against.

They have the schemas of `csrc/ops.cpp`, compute in the accumulation type, and stand in for a kernel that is not built.
"""

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

SCHEMAS = (
    "bias_leaky_relu(Tensor x, Tensor? bias, float slope, bool channels_last) -> (Tensor y, Tensor bits)",
    "bias_leaky_relu_(Tensor(a!) x, Tensor? bias, float slope, bool channels_last) -> Tensor bits",
    "mask_multiply(Tensor g, Tensor? rows, Tensor bits, float slope, bool channels_last, bool sums) -> (Tensor y, Tensor sums)",
    "affine_leaky_relu(Tensor x, Tensor? scale, Tensor? shift, float slope, int factor, bool channels_last) -> "
    "(Tensor y, Tensor bits)",
    "affine_leaky_relu_backward(Tensor g, Tensor bits, Tensor? x, Tensor? scale, Tensor? x_scale, Tensor? shift, "
    "float slope, int factor, bool channels_last, bool write, bool sums) -> (Tensor dx, Tensor dshift, Tensor dscale)",
    "channel_moments(Tensor x, bool channels_last) -> (Tensor mean, Tensor var)",
    "squared_norm(Tensor g) -> Tensor",
    "row_dot(Tensor a, Tensor b) -> Tensor",
    "row_combine(Tensor a, Tensor? alpha, Tensor? b, Tensor? beta) -> Tensor",
    "row_combine_(Tensor(a!) out, Tensor a, Tensor? alpha, Tensor? b, Tensor? beta) -> ()",
)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which an element is computed and a sum is kept: fp64 for fp64, otherwise fp32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def memory_format(dim: int, channels_last: bool) -> torch.memory_format:
    """Return the memory format of a tensor of `dim` dimensions; `channels_last` exists for 4 and 5."""
    if not channels_last:
        return torch.contiguous_format
    return torch.channels_last if dim == 4 else torch.channels_last_3d


def empty_like(x: Tensor, numerator: int, denominator: int, channels_last: bool) -> Tensor:
    """An empty tensor in the memory format, like x but with H and W scaled by numerator / denominator where they differ."""
    laid_out = memory_format(x.dim(), channels_last)
    if numerator == denominator:
        return torch.empty_like(x.contiguous(memory_format=laid_out))
    n, c, h, w = x.shape
    size = (n, c, h * numerator // denominator, w * numerator // denominator)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=laid_out)


def lies_channels_last(x: Tensor) -> bool:
    """Return whether x lies channels_last; where both formats describe the same memory, contiguous is the name for it."""
    if x.dim() not in (4, 5) or x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=memory_format(x.dim(), channels_last=True))


def per_channel(values: Tensor, dim: int) -> Tensor:
    """View `values: [C]` as `[1, C, 1, …]`, to broadcast against a tensor of `dim` dimensions."""
    return values.view(1, -1, *[1] * (dim - 2))


def per_row(values: Tensor, dim: int) -> Tensor:
    """View `values: [N, C]` as `[N, C, 1, …]`, to broadcast against a tensor of `dim` dimensions."""
    return values.view(*values.shape, *[1] * (dim - 2))


def pack_bits(positive: Tensor, channels_last: bool) -> Tensor:
    """Pack `positive: [N, C, *] bool` in memory order into `[ceil(numel / 8)] uint8`, lowest bit first, zero-padded."""
    order = positive.movedim(1, -1) if channels_last else positive
    flat = torch.nn.functional.pad(order.reshape(-1), (0, -positive.numel() % 8))
    weights = torch.tensor([1 << k for k in range(8)], dtype=torch.uint8, device=positive.device)
    return (flat.view(-1, 8) * weights).sum(1, dtype=torch.uint8)


def unpack_bits(bits: Tensor, shape: torch.Size, channels_last: bool) -> Tensor:
    """Undo `pack_bits`: return a bool tensor of `shape` from the first `shape.numel()` bits."""
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    flat = (bits.view(-1, 1) >> shifts & 1).bool().view(-1)[: shape.numel()]
    if not channels_last:
        return flat.view(shape)
    return flat.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


def bias_leaky_relu(x: Tensor, bias: Tensor | None, slope: float, channels_last: bool) -> tuple[Tensor, Tensor]:
    """Return `(leaky_relu(x + bias), packed signs)`; see `bigan.ops.bias_leaky_relu`.

    x: [N, C, *]; bias: [C] in the accumulation type of x. The result lies in the memory format that `channels_last` says.
    """
    x = x.contiguous(memory_format=memory_format(x.dim(), channels_last))
    z = x.to(accumulation_dtype(x.dtype))
    if bias is not None:
        z = z + per_channel(bias, x.dim())
    positive = z > 0
    y = torch.empty_like(x).copy_(torch.where(positive, z, z * slope))
    return y, pack_bits(positive, channels_last)


def bias_leaky_relu_(x: Tensor, bias: Tensor | None, slope: float, channels_last: bool) -> Tensor:
    """Write `bias_leaky_relu`'s y over x and return its bits."""
    y, bits = bias_leaky_relu(x, bias, slope, channels_last)
    x.copy_(y)
    return bits


def mask_multiply(
    g: Tensor, rows: Tensor | None, bits: Tensor, slope: float, channels_last: bool, sums: bool
) -> tuple[Tensor, Tensor]:
    """Return `y = m · (g + rows)`, where m is 1 where the bit is set and `slope` elsewhere, and y's sums before rounding.

    g: [N, C, *]; rows: [N, C] in the accumulation type, added to every pixel; bits: [ceil(numel / 8)] or longer, in the
    memory order that `channels_last` says. The sums over pixels are [N, C] in the accumulation type; [0] unless `sums`.
    """
    g = g.contiguous(memory_format=memory_format(g.dim(), channels_last))
    wide = g.to(accumulation_dtype(g.dtype))
    if rows is not None:
        wide = wide + per_row(rows, g.dim())
    product = torch.where(unpack_bits(bits, g.shape, channels_last), wide, wide * slope)
    pixels = list(range(2, g.dim()))
    total = (product.sum(pixels) if pixels else product.clone()) if sums else product.new_empty(0)
    return torch.empty_like(g).copy_(product), total


def upsample_nearest(x: Tensor, factor: int) -> Tensor:
    """Repeat every pixel factor × factor times: [N, C, H, W] → [N, C, factor · H, factor · W]; factor 1: x itself."""
    if factor == 1:
        return x
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, factor, w, factor).reshape(n, c, h * factor, w * factor)


def affine_leaky_relu(
    x: Tensor, scale: Tensor | None, shift: Tensor | None, slope: float, factor: int, channels_last: bool
) -> tuple[Tensor, Tensor]:
    """Return `(leaky_relu(x · scale + shift) upsampled, packed signs)`; see `bigan.ops.affine_leaky_relu`.

    x: [N, C, *]; scale, shift: [C] in the accumulation type of x. The result lies in the memory format that `channels_last`
    says.
    """
    x = x.contiguous(memory_format=memory_format(x.dim(), channels_last))
    z = x.to(accumulation_dtype(x.dtype))
    if scale is not None:
        z = z * per_channel(scale, x.dim())
    if shift is not None:
        z = z + per_channel(shift, x.dim())
    positive = z > 0
    y = empty_like(x, factor, 1, channels_last)
    return y.copy_(upsample_nearest(torch.where(positive, z, z * slope), factor)), pack_bits(positive, channels_last)


def affine_leaky_relu_backward(
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
    """Return `(gz · scale + x · x_scale + shift, Σ gz, Σ gz · x)`, where gz = m · (g summed over each pixel's copies).

    g: [N, C, *], or [N, C, 2 H, 2 W] for factor 2; m: 1 where the bit is set and `slope` elsewhere; scale, x_scale, shift:
    [C] in the accumulation type of g, as are the sums. A term whose factor is None is left out (scale: is 1); the
    first result is [0] unless `write`, the sums are unless `sums`, and the last one is without x.
    """
    gz = g.to(accumulation_dtype(g.dtype))
    if factor == 2:
        lines = gz[:, :, 0::2] + gz[:, :, 1::2]
        gz = lines[..., 0::2] + lines[..., 1::2]
    gz = torch.where(unpack_bits(bits, gz.shape, channels_last), gz, gz * slope)
    dx = gz if scale is None else gz * per_channel(scale, g.dim())
    if x is not None and x_scale is not None:
        dx = dx + x.to(gz.dtype) * per_channel(x_scale, g.dim())
    if shift is not None:
        dx = dx + per_channel(shift, g.dim())
    others = [d for d in range(g.dim()) if d != 1]
    dshift = gz.sum(others) if sums else gz.new_empty(0)
    dscale = (gz * x).sum(others) if sums and x is not None else gz.new_empty(0)
    return empty_like(g, 1, factor, channels_last).copy_(dx) if write else g.new_empty(0), dshift, dscale


def channel_moments(x: Tensor, channels_last: bool) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance [C], [C] of x: [N, C, *] over all dimensions but 1, in x's accumulation type.

    Zeros where there is nothing to take moments of. `channels_last` says how x lies, for the kernels.
    """
    wide = x.to(accumulation_dtype(x.dtype))
    others = [d for d in range(x.dim()) if d != 1]
    count = max(x.numel() // max(x.shape[1], 1), 1)
    mean = wide.sum(others) / count
    return mean, (wide - per_channel(mean, x.dim())).square().sum(others) / count


def squared_norm(g: Tensor) -> Tensor:
    """Return the sum of squares of each sample of g: [N, *], [N] in the accumulation type."""
    return row_dot(g, g)


def row_dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products of the samples of a and b: [N, *], [N] in the accumulation type."""
    wide = accumulation_dtype(a.dtype)
    product = a.to(wide) * b.to(wide)
    return product.sum(list(range(1, a.dim()))) if a.dim() > 1 else product


def row_combine(a: Tensor, alpha: Tensor | None, b: Tensor | None, beta: Tensor | None) -> Tensor:
    """Return `alpha[n] · a[n] + beta[n] · b[n]`, rounded once, in a's type and memory format.

    a, b: [N, *]; alpha, beta: [N] in the accumulation type, None for 1. Without b: the first term.
    """
    if b is None and beta is not None:
        raise ValueError("row_combine: beta needs b")
    a = a.contiguous(memory_format=memory_format(a.dim(), lies_channels_last(a)))

    def term(x: Tensor, factor: Tensor | None) -> Tensor:
        wide = x.to(accumulation_dtype(x.dtype))
        return wide if factor is None else wide * factor.view(-1, *[1] * (x.dim() - 1))

    total = term(a, alpha) if b is None else term(a, alpha) + term(b, beta)
    return torch.empty_like(a).copy_(total)


def row_combine_(out: Tensor, a: Tensor, alpha: Tensor | None, b: Tensor | None, beta: Tensor | None) -> None:
    """Write `row_combine(a, alpha, b, beta)` over out."""
    out.copy_(row_combine(a, alpha, b, beta))
