"""The folded batch norm against PyTorch's own: values, moments, derivatives to second order, what it keeps, compilation."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bigan.ops import batch_norm_leaky_relu, channel_moments, reference

from .check import Case, Sample, check_compiled, check_derivatives, check_registrations

OP = torch.ops.bigan.batch_norm_leaky_relu.default
FORMATS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(3, 8, 4, 8), (2, 5, 3, 7), (6, 3), (4, 2, 5)]


def eager(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, upsample: int) -> Tensor:
    y = F.leaky_relu(F.batch_norm(x, None, None, weight, bias, training=True, eps=eps), 0.2)
    return y if upsample == 1 else F.interpolate(y, scale_factor=2, mode="nearest")


def inputs(shape: tuple[int, ...], dtype: torch.dtype, affine: bool = True) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(shape, generator=generator, dtype=dtype) + 3
    values = torch.randn(2, shape[1], generator=generator, dtype=dtype).unbind() if affine else (None, None)
    return [x, *values]


def unfused(*args: object) -> tuple[Tensor, ...]:
    raise AssertionError("the table's twin is not asked for")


CASE = Case(OP, unfused, lambda *_: Sample(()), ())


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(("shape", "upsample"), [(s, f) for s, f in itertools.product(SHAPES, (1, 2)) if f == 1 or len(s) == 4])
@pytest.mark.parametrize("affine", [True, False])
def test_values_and_derivatives_to_second_order_are_pytorchs(
    shape: tuple[int, ...], upsample: int, affine: bool, format_: torch.memory_format
) -> None:
    x, weight, bias = inputs(shape, torch.float64, affine)
    assert x is not None
    x = x.contiguous(memory_format=format_) if len(shape) == 4 else x
    leaves = [a.requires_grad_() for a in (x, weight, bias) if a is not None]
    mine, mean, var = batch_norm_leaky_relu(x, weight, bias, 0.1, 0.2, upsample)
    others = [d for d in range(len(shape)) if d != 1]
    torch.testing.assert_close(mean, x.mean(others))
    torch.testing.assert_close(var, x.var(others, correction=0))
    found = []
    for y in (mine, eager(x, weight, bias, 0.1, upsample)):
        weights = torch.linspace(-2, 2, y.numel(), dtype=torch.float64).view(y.shape)
        first = torch.autograd.grad((y.tanh() * weights).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), leaves)
        found.append([y, *first, *second])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_finite_differences_judge_the_derivatives(shape: tuple[int, ...], affine: bool) -> None:
    """Those of the moments too, which may feed a loss of their own."""
    args = (*inputs(shape, torch.float64, affine), 0.3, 0.2, 2 if len(shape) == 4 else 1, False)
    check_derivatives(CASE, Sample(args))
    check_registrations(CASE, Sample(args))


def test_the_moments_alone_have_derivatives() -> None:
    x = inputs((2, 5, 3, 7), torch.float64)[0]
    assert x is not None
    for output in range(2):
        torch.autograd.gradcheck(lambda x, k=output: channel_moments(x)[k], x.requires_grad_())
        torch.autograd.gradgradcheck(lambda x, k=output: channel_moments(x)[k], x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("format_", FORMATS)
def test_the_types_of_training_are_as_close_as_pytorchs(dtype: torch.dtype, format_: torch.memory_format) -> None:
    """Against float64, about means far from 0."""
    shape = (16, 24, 12, 12)
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(2)) + 10).to(dtype).contiguous(memory_format=format_)
    weight, bias = torch.linspace(0.5, 1.5, 24), torch.linspace(-1, 1, 24)
    errors = []
    for ours in (True, False):
        results = []
        for wide in (False, True):
            leaves = a, b, c = [(t.double() if wide else t).detach().requires_grad_() for t in (x, weight, bias)]
            y = batch_norm_leaky_relu(a, b, c, upsample=2)[0] if ours else eager(a, b, c, 1e-5, 2)
            g = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
            results.append([y, *torch.autograd.grad(y, leaves, g.to(y.dtype).contiguous(memory_format=format_))])
        errors.append(
            [float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in zip(*results, strict=True)]
        )
    for mine, theirs in zip(*errors, strict=True):
        assert mine <= 1.5 * theirs + 1e-5  # folding costs the rounding of mean / deviation, here 10


def test_kept_for_the_backward_are_x_and_one_bit_an_element() -> None:
    x, weight, bias = (a.requires_grad_() for a in inputs((4, 16, 8, 8), torch.float32) if a is not None)
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        batch_norm_leaky_relu(x, weight, bias)
    assert sum(kept) == x.nbytes + x.numel() // 8 + 3 * 16 * 4


@pytest.mark.parametrize("format_", FORMATS)
def test_the_moments_do_not_depend_on_threads(format_: torch.memory_format) -> None:
    x = torch.randn(64, 27, 13, 12, generator=torch.Generator().manual_seed(5)).contiguous(memory_format=format_)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(channel_moments(x))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for found in results[1:] for a, b in zip(found, results[0], strict=True))


def test_it_compiles_once_for_all_sizes() -> None:
    samples = [
        Sample((*inputs(shape, torch.float32), 0.3, 0.2, 2, False)) for shape in ((2, 5, 9, 4), (4, 6, 3, 5), (7, 12, 8, 9))
    ]
    check_compiled(CASE, samples)


def test_the_moments_of_nothing_are_zero() -> None:
    for shape in ((0, 3, 4, 4), (2, 0, 3)):
        mean, var = channel_moments(torch.zeros(shape))
        torch.testing.assert_close(mean, torch.zeros(shape[1]))
        torch.testing.assert_close(var, reference.channel_moments(torch.zeros(shape), False)[1])
