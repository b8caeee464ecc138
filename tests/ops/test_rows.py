"""The public functions on the samples of a batch: PyTorch's values, any order of derivative, and what they refuse."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bigan.ops import row_combine, row_combine_, row_dot, squared_norm


def pair(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    a, b = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7)).to(dtype)
    return a, b


@pytest.mark.parametrize("shape", [(5,), (3, 7), (2, 3, 5, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_are_pytorchs(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a, b = pair(shape, dtype)
    alpha, beta = pair(shape[:1], dtype)
    wide = [t.float().view(shape[0], -1) for t in (a, b)]
    torch.testing.assert_close(squared_norm(a), wide[0].square().sum(1))
    torch.testing.assert_close(row_dot(a, b), (wide[0] * wide[1]).sum(1))
    found = row_combine(a, alpha, b, beta)
    wanted = (alpha.float()[:, None] * wide[0] + beta.float()[:, None] * wide[1]).to(dtype).view(shape)
    assert found.dtype == dtype
    assert torch.equal(found, wanted)
    assert torch.equal(row_combine(a), a)


def test_a_norm_does_not_overflow_a_half() -> None:
    g = torch.full((2, 10000), 100.0, dtype=torch.float16)
    assert torch.equal(squared_norm(g), torch.full((2,), 1e8))


def test_an_operand_of_another_memory_format_meets_its_own_elements() -> None:
    a, b = pair((2, 3, 5, 4))
    wanted = row_combine(a, None, b), row_dot(a, b)
    for left, right in ((a, b.contiguous(memory_format=torch.channels_last)), (a.mT.contiguous().mT, b)):
        assert torch.equal(row_combine(left, None, right), wanted[0])
        torch.testing.assert_close(row_dot(left, right), wanted[1])
    out = torch.empty_like(a, memory_format=torch.channels_last)
    row_combine_(out, a, None, b)
    assert torch.equal(out, wanted[0])


def test_a_penalty_is_differentiated_to_the_third_order() -> None:
    def penalty(norms: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        gradient = x.pow(3) + x
        return (norms(gradient).sqrt() - 1).square().sum()

    def eager(g: Tensor) -> Tensor:
        return g.square().sum(1)

    def third(norms: Callable[[Tensor], Tensor]) -> Tensor:
        x = pair((2, 4))[0].requires_grad_()
        value = penalty(norms, x)
        for _ in range(3):
            (value,) = torch.autograd.grad(value.sin().sum(), x, create_graph=True)
        return value

    torch.testing.assert_close(third(squared_norm), third(eager))


def test_interpolation_is_differentiated_in_all_four() -> None:
    def interpolate(a: Tensor, alpha: Tensor, b: Tensor) -> Tensor:
        return squared_norm(row_combine(a, alpha, b, 1 - alpha)) * row_dot(a, b)

    inputs = [t.requires_grad_() for t in (*pair((2, 3, 4)), pair((2,))[0])]
    function = lambda a, b, alpha: interpolate(a, alpha, b)  # noqa: E731
    torch.autograd.gradcheck(function, inputs)
    torch.autograd.gradgradcheck(function, inputs)


def test_only_what_a_derivative_needs_is_kept() -> None:
    a, alpha = torch.randn(4, 100).requires_grad_(), torch.ones(4)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        row_combine(a, alpha, torch.randn(4, 100))
    assert [t.shape for t in kept] == [(4,)]


def test_sums_do_not_depend_on_threads() -> None:
    a, b = pair((3, 100003), torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append((squared_norm(a), row_dot(a, b), row_combine(a, None, b)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_tensors_larger_than_a_cache() -> None:
    a, b = pair((3, 16, 100003), torch.float32)[0].unbind(1)[:2]  # two that have gaps, of 1.2 MB
    large = pair((2, 1 << 21), torch.float32)
    wide = [t.double() for t in (a, b, *large)]
    for x, y, wide_x, wide_y in ((a, b, wide[0], wide[1]), (*large, wide[2], wide[3])):
        torch.testing.assert_close(squared_norm(x), wide_x.square().sum(1).float(), rtol=1e-6, atol=0)
        torch.testing.assert_close(row_dot(x, y), (wide_x * wide_y).sum(1).float(), rtol=1e-4, atol=0)
        assert torch.equal(row_combine(x, None, y), x + y)


def test_samples_of_a_larger_batch_are_written_where_they_lie() -> None:
    a, b = pair((2, 3, 5, 7), torch.float32)
    eps = torch.tensor([0.25, 0.5])
    for format_ in (torch.contiguous_format, torch.channels_last):
        batch = torch.zeros(6, 3, 5, 7).contiguous(memory_format=format_)
        row_combine_(batch[2:4], a, eps, b, 1 - eps)
        assert torch.equal(batch[2:4], row_combine(a, eps, b, 1 - eps))
        assert not batch[:2].any()
        assert not batch[4:].any()
        row_combine_(batch[2:4], batch[2:4], 2 * torch.ones(2))
        assert torch.equal(batch[2:4], 2 * row_combine(a, eps, b, 1 - eps))


@pytest.mark.parametrize(
    "call",
    [
        lambda a: squared_norm(a[0, 0]),
        lambda a: squared_norm(a.int()),
        lambda a: row_dot(a, a[:1]),
        lambda a: row_dot(a, a.double()),
        lambda a: row_combine(a, torch.ones(3)),
        lambda a: row_combine(a, torch.ones(2, dtype=torch.int64)),
        lambda a: row_combine(a, None, None, torch.ones(2)),
        lambda a: row_combine_(a[:1], a),
        lambda a: row_combine_(torch.zeros(4, 2).T, a),
    ],
)
def test_mistakes_are_named(call: Callable[[Tensor], object]) -> None:
    with pytest.raises(ValueError, match=r"^(squared_norm|row_dot|row_combine_?): "):
        call(torch.zeros(2, 4))


def test_a_gradient_that_would_be_lost_is_refused() -> None:
    a = torch.randn(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="row_combine_ has no derivative"):
        row_combine_(torch.empty(2, 3), a)
