"""The bodies of the CUDA kernels, run on the CPU by the `*_on_host.cpp` beside this file, against the twins."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.cpp_extension import include_paths

from bigan.ops import reference

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ctypes.CDLL]:
    """The library made of a source here."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")

    @cache
    def compile_source(name: str) -> ctypes.CDLL:
        library = tmp_path_factory.mktemp("cuda_on_host") / f"{name}.so"
        # -O1: what is tested is what the kernels say, not how fast a CPU runs them.
        flags = ["-std=c++20", "-O1", "-g0", "-ffp-contract=off", "-shared", "-fPIC"]
        includes = [f"-I{path}" for path in (CSRC, *include_paths())]
        subprocess.run([compiler, *flags, *includes, str(HERE / name), "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))

    return compile_source


def call(library: ctypes.CDLL, name: str, dtype: torch.dtype, *arguments: Tensor | int | float | bool | None) -> None:
    def converted(argument: Tensor | int | float | bool | None) -> object:
        match argument:
            case Tensor() | None:
                return ctypes.c_void_p(None if argument is None else argument.data_ptr())
            case bool():
                return ctypes.c_bool(argument)
            case int():
                return ctypes.c_int64(argument)
            case _:
                return ctypes.c_double(argument)

    getattr(library, f"{name}_{str(dtype).removeprefix('torch.')}")(*map(converted, arguments))


# [outer, channels, inner]: rows and planes; whole eights and not; more than one block, piece and row block.
EXTENTS = (
    (3, 8, 16),
    (2, 5, 9),
    (1, 1, 9001),
    (2, 3, 8200),
    (1, 2, 8193),
    (5, 33, 2),
    (300, 64, 1),
    (257, 72, 1),
    (520, 13, 1),
    (1, 100, 1),
)


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_bias_leaky_relu(compiled: Callable[[str], ctypes.CDLL], dtype: torch.dtype, vector: bool, with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    for outer, channels, inner in EXTENTS:
        x = torch.randn(outer, channels, inner, generator=generator).to(dtype)
        bias = torch.randn(channels, generator=generator).to(reference.accumulation_dtype(dtype)) if with_bias else None
        wanted = reference.bias_leaky_relu(x, bias, 0.2, False)
        library = compiled("bias_leaky_relu_on_host.cpp")
        for y in (torch.empty_like(x), x):  # the last is in place
            bits = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8)
            call(library, "forward", dtype, x, bias, outer, channels, inner, 0.2, vector, y, bits)
            assert torch.equal(y, wanted[0]), (outer, channels, inner)
            assert torch.equal(bits, wanted[1]), (outer, channels, inner)


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("with_rows", [True, False])
def test_mask_multiply(compiled: Callable[[str], ctypes.CDLL], dtype: torch.dtype, vector: bool, with_rows: bool) -> None:
    library = compiled("bias_leaky_relu_on_host.cpp")
    generator = torch.Generator().manual_seed(0)
    # A sample is one run of pixels of all channels (inner = 1) or of planes (outer = 1).
    for pixels, channels, inner in [e for e in EXTENTS if 1 in (e[0], e[2])]:
        samples = 3
        g = torch.randn(samples, pixels, channels, inner, generator=generator).to(dtype)
        accumulate = reference.accumulation_dtype(dtype)
        rows = torch.randn(samples, channels, generator=generator).to(accumulate) if with_rows else None
        bits = torch.randint(0, 256, ((g.numel() + 7) // 8,), dtype=torch.uint8, generator=generator)
        y, y_summed, sums = torch.empty_like(g), torch.empty_like(g), torch.empty(samples, channels, dtype=accumulate)
        extent = (samples, pixels, channels, inner)
        call(library, "multiply", dtype, g, rows, bits, *extent, 0.2, vector, y, y_summed, sums)
        as_nchw = g.movedim(2, 1)
        wanted, wanted_sums = reference.mask_multiply(as_nchw, rows, bits, 0.2, inner == 1, True)
        assert torch.equal(y.movedim(2, 1), wanted), extent
        assert torch.equal(y_summed, y), extent
        torch.testing.assert_close(sums, wanted_sums, rtol=1e-5, atol=3e-4)


# [N, C, H, W]: whole eights and not, along channels and lines; more than one block of pixels and piece of a plane.
PICTURES = ((2, 8, 4, 8), (3, 5, 3, 7), (1, 72, 17, 16), (2, 13, 16, 10), (1, 3, 90, 104), (2, 1, 5, 3), (1, 2, 1, 1))


def upsample(shape: tuple[int, ...], factor: int, channels_last: bool) -> tuple[int | bool, ...]:
    """What csrc/upsample_tensors.h says of a picture: samples, channels, lines, length, by_pixel, factor, width."""
    n, c, h, w = shape
    if channels_last and c > 1:
        return n, c, h * w, c, True, factor, w
    return (n, c, h, w, False, factor, w) if factor == 2 else (n, c, 1, h * w, False, factor, w)


# [N, length]: several in eight elements, whole eights and not, several blocks and pieces.
ROWS = ((10, 1), (9, 3), (3, 5), (4, 8), (7, 13), (2, 8192), (3, 8200), (2, 20001), (300, 16))


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("channels_last", [True, False])
def test_affine_leaky_relu(
    compiled: Callable[[str], ctypes.CDLL], dtype: torch.dtype, vector: bool, factor: int, channels_last: bool
) -> None:
    library = compiled("affine_leaky_relu_on_host.cpp")
    generator = torch.Generator().manual_seed(0)
    wide = reference.accumulation_dtype(dtype)
    laid_out = reference.memory_format(4, channels_last)
    for shape in PICTURES:
        n, c, h, w = shape
        x = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=laid_out)
        g = torch.randn(n, c, h * factor, w * factor, generator=generator).to(dtype).contiguous(memory_format=laid_out)
        scale, shift, x_scale = torch.randn(3, c, generator=generator).to(wide).unbind()
        extent = (*upsample(shape, factor, channels_last), 0.2, vector)
        y, bits = torch.full_like(g, -9), torch.empty((x.numel() + 7) // 8, dtype=torch.uint8)
        call(library, "forward", dtype, x, scale, shift, *extent, y, bits)
        wanted = reference.affine_leaky_relu(x, scale, shift, 0.2, factor, channels_last)
        assert torch.equal(y, wanted[0]), shape
        assert torch.equal(bits, wanted[1]), shape
        for values in ((x, scale, None, None), (x, scale, x_scale, shift), (None, None, None, None)):
            dx, dshift, dscale = torch.full_like(x, -9), torch.empty(c, dtype=wide), torch.empty(c, dtype=wide)
            dscale = None if values[0] is None else dscale
            call(library, "backward", dtype, g, bits, *values, *extent, dx, dshift, dscale)
            twin = reference.affine_leaky_relu_backward(g, bits, *values, 0.2, factor, channels_last, True, True)
            assert torch.equal(dx, twin[0]), (shape, values)
            torch.testing.assert_close(dshift, twin[1], rtol=1e-5, atol=1e-3)
            if dscale is not None:
                torch.testing.assert_close(dscale, twin[2], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels_last", [True, False])
def test_channel_moments(compiled: Callable[[str], ctypes.CDLL], dtype: torch.dtype, vector: bool, channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in (*PICTURES, (3, 70, 20, 16)):
        x = (torch.randn(shape, generator=generator) + 5).to(dtype)
        x = x.contiguous(memory_format=reference.memory_format(4, channels_last))
        mean, var = torch.empty(2, shape[1], dtype=reference.accumulation_dtype(dtype)).unbind()
        extent = upsample(shape, 1, channels_last)
        call(compiled("affine_leaky_relu_on_host.cpp"), "moments", dtype, x, *extent, vector, mean, var)
        wanted = reference.channel_moments(x.double(), channels_last)
        torch.testing.assert_close((mean.double(), var.double()), wanted, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows(compiled: Callable[[str], ctypes.CDLL], dtype: torch.dtype, vector: bool) -> None:
    library = compiled("rows_on_host.cpp")
    generator = torch.Generator().manual_seed(0)
    accumulate = reference.accumulation_dtype(dtype)
    for shape in ROWS:
        a, b = torch.randn(2, *shape, generator=generator).to(dtype)
        for right in (None, b):
            out = torch.empty(shape[0], dtype=accumulate)
            call(library, "dot", dtype, a, right, *shape, vector and shape[1] % 8 == 0, out)
            wanted = reference.squared_norm(a) if right is None else reference.row_dot(a, b)
            torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-3)
        alpha, beta = torch.randn(2, shape[0], generator=generator).to(accumulate)
        for arguments in ((alpha, b, beta), (None, b, None), (alpha, None, None), (None, b, beta)):
            wanted = reference.row_combine(a, *arguments)
            copy = a.clone()
            for left, y in ((a, torch.empty_like(a)), (copy, copy)):
                call(library, "combine", dtype, left, *arguments, *shape, vector, y)
                assert torch.equal(y, wanted), shape
