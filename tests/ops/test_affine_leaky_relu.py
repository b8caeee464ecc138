"""The public function: PyTorch's values and derivatives, what it keeps, threads, arguments that it refuses."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bigan.ops import affine_leaky_relu

FORMATS = [torch.contiguous_format, torch.channels_last]


def eager(x: Tensor, scale: Tensor | None, shift: Tensor | None, slope: float, upsample: int) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    x = x if scale is None else x * scale.view(shape)
    x = F.leaky_relu(x if shift is None else x + shift.view(shape), slope)
    return x if upsample == 1 else F.interpolate(x, scale_factor=2, mode="nearest")


def inputs(shape: tuple[int, ...], dtype: torch.dtype, given: tuple[bool, bool]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
    scale, shift = (torch.randn(shape[1], generator=generator, dtype=dtype).requires_grad_() if g else None for g in given)
    return x, scale, shift


@pytest.mark.parametrize("shape", [(4, 6), (2, 5, 7, 9), (2, 8, 4, 4), (2, 24, 3, 16)], ids=str)
@pytest.mark.parametrize("given", list(itertools.product((False, True), repeat=2)), ids=str)
@pytest.mark.parametrize("upsample", [1, 2])
def test_values_and_gradients_to_second_order_are_pytorchs(
    shape: tuple[int, ...], given: tuple[bool, bool], upsample: int
) -> None:
    upsample = upsample if len(shape) == 4 else 1
    args = inputs(shape, torch.float64, given)
    leaves = [a for a in args if a is not None]
    found = []
    for function in (affine_leaky_relu, eager):
        y = function(*args, 0.1, upsample)
        weights = torch.linspace(-2, 2, y.numel(), dtype=torch.float64).view(y.shape)
        first = torch.autograd.grad((y.tanh() * weights).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), leaves)
        found.append([y, *first, *second])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("format_", FORMATS)
def test_kept_for_the_backward_is_one_bit_an_element_and_x_for_a_scale(format_: torch.memory_format) -> None:
    x = torch.randn(4, 16, 8, 8).contiguous(memory_format=format_).requires_grad_()
    for scale, bytes_ in ((None, 0), (torch.ones(16), 64), (torch.ones(16, requires_grad=True), 64 + x.nbytes)):
        kept = []

        def keep(tensor: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = affine_leaky_relu(x, scale, torch.zeros(16), upsample=2)
        assert sum(kept) == x.numel() // 8 + bytes_
        assert y.is_contiguous(memory_format=format_)


def test_bfloat16_is_rounded_once() -> None:
    x, scale, shift = torch.randn(2, 16, 4, 4).bfloat16(), torch.randn(16), torch.randn(16)
    y = affine_leaky_relu(x, scale.requires_grad_(), shift, upsample=2)
    wanted = eager(x.double(), scale.double(), shift.double(), 0.2, 2)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), wanted, rtol=2**-8, atol=1e-6)
    (gradient,) = torch.autograd.grad(y.float().sum(), scale)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), scale)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("size", [(16, 12), (5, 7)], ids=str)
def test_nothing_depends_on_the_number_of_threads(format_: torch.memory_format, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(64, 27, *size, generator=generator).contiguous(memory_format=format_)
    g = torch.randn(64, 27, 2 * size[0], 2 * size[1], generator=generator).contiguous(memory_format=format_)
    scale, shift, last = torch.randn(27), torch.randn(27), format_ == torch.channels_last
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y, bits = torch.ops.bigan.affine_leaky_relu(x, scale, shift, 0.2, 2, last)
            back = torch.ops.bigan.affine_leaky_relu_backward(g, bits, x, scale, None, None, 0.2, 2, last, True, True)
            results.append([y, bits, *back])
    finally:
        torch.set_num_threads(threads)
    for found in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found, results[0], strict=True))


def test_outputs_past_the_caches_are_the_same() -> None:
    """Stores that go past the caches are taken from 16 MiB on."""
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(8, 64, 64, 64).to(dtype).contiguous(memory_format=torch.channels_last)
        scale = torch.randn(64)
        whole = affine_leaky_relu(x, scale, upsample=2)
        parts = torch.cat([affine_leaky_relu(part, scale, upsample=2) for part in x.split(1)])
        assert torch.equal(whole, parts)


def test_arguments_that_do_not_fit_are_refused() -> None:
    x = torch.randn(2, 3, 4, 4)
    for match, call in {
        r"x must be \[N, C, \*\]": lambda: affine_leaky_relu(x[0, 0, 0]),
        "x must be fp32, bf16, fp16 or fp64, got torch.int64": lambda: affine_leaky_relu(x.long()),
        r"scale must be \[3\]": lambda: affine_leaky_relu(x, torch.ones(4)),
        r"shift must be \[3\]": lambda: affine_leaky_relu(x, None, torch.ones(3, 1)),
        "shift must be floating and on cpu": lambda: affine_leaky_relu(x, None, torch.ones(3, device="meta")),
        "upsample must be 1, or 2": lambda: affine_leaky_relu(x, upsample=3),
        "upsample must be 1, or 2 for an x": lambda: affine_leaky_relu(x[..., 0], upsample=2),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()
