"""What runs where kernels are missing, and that every instruction set gives the same bits. Each case is a process."""

import os
import subprocess
import sys

import pytest
import torch

import bigan.ops
from bigan.ops import _load, reference
from bigan.ops.batch_norm_leaky_relu import SCHEMA

PROBE = """
import hashlib, sys
if "without" in sys.argv: sys.modules["bigan._C"] = None
import torch, bigan.ops, bigan.ops.reference as reference
torch.manual_seed(0)
values, sums = hashlib.sha256(), hashlib.sha256()
for dtype in reference.DTYPES:
    for shape in ((3, 24, 9, 7), (2, 5, 31, 3), (9, 40), (6, 1, 11, 11)):
        for last in (False, True) if len(shape) == 4 else (False,):
            x = torch.randn(shape).to(dtype)
            x[0, 0] = float("inf"); x[1, 0] = float("nan"); x[1, -1] = 1e-40
            bias = torch.randn(shape[1]).to(reference.accumulation_dtype(dtype))
            y, bits = torch.ops.bigan.bias_leaky_relu(x, bias, 0.2, last)
            rows = torch.randn(shape[:2]).to(bias.dtype)
            for more in (None, rows):
                dx, total = torch.ops.bigan.mask_multiply(torch.randn(shape).to(dtype), more, bits, 0.2, last, True)
                values.update(dx.contiguous().view(torch.uint8).numpy().tobytes())
                sums.update(total.view(torch.uint8).numpy().tobytes())
            combined = torch.ops.bigan.row_combine(x, rows[:, 0], dx, rows[:, -1])
            values.update(combined.nan_to_num(7.0).contiguous().view(torch.uint8).numpy().tobytes())
            for total in (torch.ops.bigan.squared_norm(dx), torch.ops.bigan.row_dot(dx, torch.randn(shape).to(dtype))):
                sums.update(total.view(torch.uint8).numpy().tobytes())
            outputs = [(values, y.nan_to_num(7.0)), (values, bits)]
            for factor in (1, 2) if len(shape) == 4 else (1,):
                y, bits = torch.ops.bigan.affine_leaky_relu(x, bias - 0.3, bias, 0.2, factor, last)
                arguments = (torch.randn(y.shape).to(dtype), bits, torch.randn(shape).to(dtype), bias, bias - 1, bias)
                back = torch.ops.bigan.affine_leaky_relu_backward(*arguments, 0.2, factor, last, True, True)
                outputs += [(values, y.nan_to_num(7.0)), (values, bits), (values, back[0]), (sums, back[1]), (sums, back[2])]
            finite = x.nan_to_num(2.0, 3.0, -3.0)
            outputs += [(sums, moment) for moment in torch.ops.bigan.channel_moments(finite, last)]
            for digest, t in outputs:
                digest.update(t.contiguous().view(torch.uint8).numpy().tobytes())
print(bigan.ops.backend().build.get("cpu_capability"), values.hexdigest(), sums.hexdigest())
print(bigan.ops.describe()[0])
"""


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROBE, *arguments],
        env={**os.environ, "BIGAN_REQUIRE_KERNELS": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compiled() -> bool:
    return bigan.ops.backend().name != "reference"


needs_kernels = pytest.mark.skipif(not compiled(), reason="bigan._C is not built")


@needs_kernels
def test_every_instruction_set_and_the_reference_give_the_same_bits() -> None:
    names = ("default", "avx2", "avx512")
    processes = [start(BIGAN_CPU_CAPABILITY=name) for name in names] + [start("without")]
    found, values, sums = zip(*[p.communicate()[0].split()[:3] for p in processes], strict=True)
    assert found[0] == "default"
    assert all(name in names[: i + 1] for i, name in enumerate(found[:3])), "the variable lowers the choice, never raises it"
    assert len(set(values)) == 1
    assert len(set(sums[:3])) == 1, "the order of a sum is the kernels' own, but one for all of them"


@needs_kernels
def test_the_reference_has_the_compiled_schemas() -> None:
    compiled = {str(schema) for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("bigan::")}
    assert compiled == {str(torch._C.parse_schema(f"bigan::{schema}")) for schema in (*reference.SCHEMAS, SCHEMA)}


@needs_kernels
def test_an_unknown_instruction_set_is_refused() -> None:
    process = start(BIGAN_CPU_CAPABILITY="sse9")
    assert "BIGAN_CPU_CAPABILITY must be default, avx2 or avx512, got sse9" in process.communicate()[1]
    assert process.returncode != 0


def test_without_kernels_the_reference_runs_and_says_so_in_one_line() -> None:
    process = start("without")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors.splitlines() == ["bigan.ops runs on the plain PyTorch reference: bigan._C is not built"]
    assert output.splitlines()[1] == "kernels: reference (bigan._C is not built)"


def test_required_kernels_that_are_missing_are_an_error() -> None:
    process = start("without", BIGAN_REQUIRE_KERNELS="1")
    _, errors = process.communicate()
    assert process.returncode != 0
    assert "KernelsMissingError: BIGAN_REQUIRE_KERNELS=1, but bigan._C is not built" in errors


def test_a_device_without_a_kernel_is_refused_where_kernels_are_required() -> None:
    refuse = _load._refuse("mask_multiply", "bigan._C_cuda is not built")
    with pytest.raises(bigan.ops.KernelsMissingError, match="mask_multiply has no kernel for this device"):
        refuse(torch.zeros(1))


def test_the_backend_describes_itself() -> None:
    backend = bigan.ops.backend()
    assert backend.name in {"compiled cpu+cuda", "compiled cpu", "reference"}
    assert bool(backend.reason) == (backend.name != "compiled cpu+cuda")
    assert bigan.ops.describe()[0] == f"kernels: {backend}"
    if compiled():
        assert {"torch", "compiler", "cuda_compiler", "cuda_arches", "cpu_capability", "threads"} == set(backend.build)
