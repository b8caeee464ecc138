"""The bodies of the CUDA kernels, run on the CPU by `cuda_on_host.cpp`, against the twins."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths

from bigan.ops import reference

SOURCE = Path(__file__).with_name("cuda_on_host.cpp")
CSRC = SOURCE.parents[2] / "csrc"


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    library = tmp_path_factory.mktemp("cuda_on_host") / "kernels.so"
    # -O1: what is tested is what the kernels say, not how fast a CPU runs them.
    flags = [
        "-std=c++20",
        "-O1",
        "-g0",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        f"-I{CSRC}",
        *[f"-I{p}" for p in include_paths()],
    ]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_kernel_bodies(kernels: ctypes.CDLL, dtype: torch.dtype, vector: bool, with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    for outer, channels, inner in EXTENTS:
        x, g = torch.randn(2, outer, channels, inner, generator=generator).to(dtype)
        accumulate = reference.accumulation_dtype(dtype)
        bias = torch.randn(channels, generator=generator).to(accumulate) if with_bias else None
        y, dx, dx_summed = torch.empty(3, *x.shape, dtype=dtype).unbind()
        bits = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8)
        db = torch.empty(channels, dtype=accumulate)
        pointers = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in (x, bias, g)]
        outputs = [ctypes.c_void_p(t.data_ptr()) for t in (y, bits, dx, dx_summed, db)]
        extent = [ctypes.c_int64(n) for n in (outer, channels, inner)]
        run = getattr(kernels, f"run_{str(dtype).removeprefix('torch.')}")
        run(*pointers, *extent, ctypes.c_double(0.2), ctypes.c_bool(vector), *outputs)
        wanted_y, wanted_bits = reference.bias_leaky_relu(x, bias, 0.2, False)
        wanted_dx, wanted_db = reference.mask_multiply(g, wanted_bits, 0.2, False, True)
        for found, wanted in ((y, wanted_y), (bits, wanted_bits), (dx, wanted_dx), (dx_summed, wanted_dx)):
            assert torch.equal(found, wanted), (outer, channels, inner)
        torch.testing.assert_close(db, wanted_db, rtol=1e-5, atol=2e-4)
