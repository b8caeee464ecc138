"""The table of operators: one row each. The tests on the CPU and those on a GPU run the same rows."""

import torch

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


def mask_multiply_sample(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device) -> Sample:
    """Without the sum where the batch is 3 samples."""
    g = lay(normal(shape, dtype, device), layout)
    bits = reference.pack_bits(normal(shape, torch.float32, device) > 0.3, layout == "channels_last")
    return Sample((g, bits, 0.2, layout == "channels_last", shape[0] != 3), _smooth(shape, dtype, layout))


TABLE = {
    "bias_leaky_relu": Case(
        torch.ops.bigan.bias_leaky_relu.default, reference.bias_leaky_relu, bias_leaky_relu_sample, (0.0, 0.0)
    ),
    "mask_multiply": Case(torch.ops.bigan.mask_multiply.default, reference.mask_multiply, mask_multiply_sample, (0.0, 1e-5)),
}
