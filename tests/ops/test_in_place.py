"""Operators that write over an argument: what they refuse, what autograd is told, and how they compile."""

import pytest
import torch
import torch.nn.functional as F

from bigan.ops import bias_leaky_relu, bias_leaky_relu_


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
def test_the_activation_is_written_over_its_argument(format_: torch.memory_format) -> None:
    x = torch.randn(2, 5, 7, 3).contiguous(memory_format=format_)
    bias = torch.linspace(-1, 1, 5, dtype=torch.bfloat16)
    wanted, address = bias_leaky_relu(x, bias), x.data_ptr()
    bits = bias_leaky_relu_(x, bias)
    assert x.data_ptr() == address
    assert torch.equal(x, wanted)
    gradient, _ = torch.ops.bigan.mask_multiply(torch.ones_like(x), None, bits, 0.2, format_ == torch.channels_last, False)
    assert torch.equal(gradient, torch.where(wanted > 0, 1.0, 0.2))


def test_a_slice_of_a_batch_is_written_where_it_lies() -> None:
    batch = torch.randn(3, 5, 7)
    before = batch.clone()
    bias_leaky_relu_(batch[1:2], slope=0.5)
    assert torch.equal(batch[1], F.leaky_relu(before[1], 0.5))
    assert torch.equal(batch[::2], before[::2])


def test_memory_with_gaps_is_refused() -> None:
    x = torch.randn(4, 6, 8, 8)
    with pytest.raises(ValueError, match="x must be contiguous or channels_last"):
        bias_leaky_relu_(x[:, ::2])
    for channels_last in (False, True):
        with pytest.raises(RuntimeError, match="x must be dense in the memory format"):
            torch.ops.bigan.bias_leaky_relu_(x[:, ::2], None, 0.2, channels_last)


@pytest.mark.parametrize("needs", ["x", "bias"])
def test_a_gradient_that_would_be_lost_is_refused(needs: str) -> None:
    x, bias = torch.randn(2, 3, requires_grad=needs == "x"), torch.zeros(3, requires_grad=needs == "bias")
    with pytest.raises(RuntimeError, match="bias_leaky_relu_ has no derivative: call it under"):
        bias_leaky_relu_(x, bias)
    with torch.no_grad():
        bias_leaky_relu_(x, bias)


def test_autograd_sees_that_a_saved_tensor_has_changed() -> None:
    x = torch.randn(2, 3)
    weight = torch.ones(2, 3, requires_grad=True)
    y = (x * weight).sum()
    bias_leaky_relu_(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
    with torch.inference_mode():
        bias_leaky_relu_(torch.randn(2, 3))


def test_a_chain_compiles_without_a_graph_break() -> None:
    weight, bias = torch.randn(6, 3, 3, 3), torch.randn(6)

    def chain(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            y = F.conv2d(x, weight, padding=1)
            return y, bias_leaky_relu_(y, bias)

    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(chain, fullgraph=True, backend="aot_eager")
    for found, wanted in zip(compiled(x), chain(x), strict=True):
        assert torch.equal(found, wanted)
        assert found.stride() == wanted.stride()
