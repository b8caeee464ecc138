"""The table of operators: one row each. The tests on the CPU and those on a GPU run the same rows."""

from functools import partial

import torch
from torch import Tensor

import bigan.ops  # noqa: F401 (registers torch.ops.bigan)
from bigan.ops import reference

from .check import Case, Sample, lay, normal

SMOOTH = {(3, 8), (5, 13), (2, 5, 9), (2, 3, 7, 5), (2, 0, 3)}


def _smooth(shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> bool:
    # An argument that overlaps itself has no finite differences.
    return dtype == torch.float64 and layout in ("contiguous", "channels_last") and shape in SMOOTH


def bias_leaky_relu_sample(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device) -> Sample:
    """Without a bias where the number of dimensions is 2."""
    x = lay(normal(shape, dtype, device), layout)
    bias = normal(shape[1:2], reference.accumulation_dtype(dtype), device) if len(shape) > 2 else None
    return Sample((x, bias, 0.2, layout == "channels_last"), _smooth(shape, dtype, layout))


def bias_leaky_relu_in_place_sample(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device) -> Sample:
    """Dense, as the operator asks."""
    layout = "contiguous" if layout in ("strided", "broadcast") else layout
    return bias_leaky_relu_sample(shape, dtype, layout, device)


def mask_multiply_sample(
    with_rows: bool, sums: bool, shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device
) -> Sample:
    """With more bits than g needs where it has rows and sums."""
    g = lay(normal(shape, dtype, device), layout)
    rows = normal(shape[:2], reference.accumulation_dtype(dtype), device) if with_rows else None
    longer = (shape[0] + with_rows * sums, *shape[1:])
    bits = reference.pack_bits(normal(longer, torch.float32, device) > 0.3, layout == "channels_last")
    return Sample((g, rows, bits, 0.2, layout == "channels_last", sums), _smooth(shape, dtype, layout))


def affine_leaky_relu_sample(
    factor: int, with_scale: bool, shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device
) -> Sample:
    """Upsampled only where the shape is [N, C, H, W]; without a shift where the number of dimensions is 2."""
    x = lay(normal(shape, dtype, device), layout)
    wide = reference.accumulation_dtype(dtype)
    scale = normal(shape[1:2], wide, device).sub(0.2) if with_scale else None
    shift = normal(shape[1:2], wide, device) if len(shape) > 2 else None
    args = (x, scale, shift, 0.2, factor if len(shape) == 4 else 1, layout == "channels_last")
    return Sample(args, _smooth(shape, dtype, layout))


# What is given and asked for: by the activation alone, by one with a scale, and by a batch norm's two passes.
BACKWARDS = {
    "of a shift": {"write": True, "sums": True},
    "of a scale and a shift": {"x": True, "scale": True, "write": True, "sums": True},
    "that only sums": {"x": True, "sums": True},
    "that only writes": {"x": True, "scale": True, "x_scale": True, "shift": True, "write": True},
}


def affine_leaky_relu_backward_sample(
    factor: int, what: str, shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device
) -> Sample:
    """`shape` is x's; upsampled only where it is [N, C, H, W]."""
    factor = factor if len(shape) == 4 else 1
    g = lay(normal((*shape[:2], *(n * factor for n in shape[2:])), dtype, device), layout)
    bits = reference.pack_bits(normal(shape, torch.float32, device) > 0.3, layout == "channels_last")
    asked = BACKWARDS[what]
    x = lay(normal(shape, dtype, device), layout) if "x" in asked else None
    wide = reference.accumulation_dtype(dtype)
    names = ("scale", "x_scale", "shift")
    values = [normal(shape[1:2], wide, device).add(k) if name in asked else None for k, name in enumerate(names)]
    how = (0.2, factor, layout == "channels_last", asked.get("write", False), asked.get("sums", False))
    return Sample((g, bits, x, *values, *how), _smooth(shape, dtype, layout))


def channel_moments_sample(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device) -> Sample:
    """About a mean that is not 0."""
    x = lay(normal(shape, dtype, device).add(2), layout)
    return Sample((x, layout == "channels_last"), _smooth(shape, dtype, layout))


def rows_sample(arguments: str, shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device) -> Sample:
    """`arguments`: which of an operator's there are, in order; `-` is None. `out` is dense, `b` and `beta` have gaps."""
    wide = reference.accumulation_dtype(dtype)
    dense = "contiguous" if layout in ("strided", "broadcast") else layout

    def second(*sizes: int, dtype: torch.dtype) -> Tensor:
        values = normal((*sizes, 2), dtype, device)[..., 1]
        return values.contiguous() if layout == "contiguous" else values

    made = {
        "out": lambda: lay(normal(shape, dtype, device), dense),
        "a": lambda: lay(normal(shape, dtype, device), layout),
        "b": lambda: second(*shape, dtype=dtype),
        "alpha": lambda: normal(shape[:1], wide, device),
        "beta": lambda: second(shape[0], dtype=wide),
    }
    return Sample(tuple(made[a]() if a != "-" else None for a in arguments.split()), _smooth(shape, dtype, layout))


TABLE = {
    "bias_leaky_relu": Case(
        torch.ops.bigan.bias_leaky_relu.default, reference.bias_leaky_relu, bias_leaky_relu_sample, (0.0, 0.0)
    ),
    "bias_leaky_relu_": Case(
        torch.ops.bigan.bias_leaky_relu_.default,
        reference.bias_leaky_relu_,
        bias_leaky_relu_in_place_sample,
        (0.0, 0.0),
        mutates=True,
    ),
    **{
        f"mask_multiply{' with rows' * with_rows}{' with sums' * sums}": Case(
            torch.ops.bigan.mask_multiply.default,
            reference.mask_multiply,
            partial(mask_multiply_sample, with_rows, sums),
            (0.0, 1e-5),
        )
        for with_rows in (False, True)
        for sums in (False, True)
    },
    **{
        f"affine_leaky_relu{' with scale' * with_scale}{' upsampled' * (factor == 2)}": Case(
            torch.ops.bigan.affine_leaky_relu.default,
            reference.affine_leaky_relu,
            partial(affine_leaky_relu_sample, factor, with_scale),
            (0.0, 0.0),
        )
        for factor, with_scale in ((1, False), (2, True))
    },
    **{
        f"affine_leaky_relu_backward {what}{' upsampled' * (factor == 2)}": Case(
            torch.ops.bigan.affine_leaky_relu_backward.default,
            reference.affine_leaky_relu_backward,
            partial(affine_leaky_relu_backward_sample, factor, what),
            (0.0, 1e-5, 1e-5),
        )
        for factor, what in zip((1, 2, 2, 1), BACKWARDS, strict=True)
    },
    "channel_moments": Case(
        torch.ops.bigan.channel_moments.default, reference.channel_moments, channel_moments_sample, (1e-5, 1e-5)
    ),
    **{
        f"{name}({arguments})": Case(
            getattr(torch.ops.bigan, name).default,
            getattr(reference, name),
            partial(rows_sample, arguments),
            (tolerance,),
            mutates=name.endswith("_"),
        )
        for name, arguments, tolerance in (
            ("squared_norm", "a", 1e-5),
            ("row_dot", "a b", 1e-5),
            ("row_combine", "a alpha - -", 0.0),
            ("row_combine", "a - b beta", 0.0),
            ("row_combine", "a alpha b beta", 0.0),
            ("row_combine_", "out a alpha b beta", 0.0),
            ("row_combine_", "out a - - -", 0.0),
        )
    },
}
