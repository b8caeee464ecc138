"""The table of operators on a GPU: the rows that tests/ops holds the CPU to, and what a GPU alone can get wrong."""

import pytest
import torch

import bigan.ops

from ..ops.check import DTYPES, check_compiled, check_op
from ..ops.table import TABLE

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or bigan.ops.backend().name != "compiled cpu+cuda",
    reason=f"needs a GPU and bigan._C_cuda (kernels: {bigan.ops.backend()})",
)
GPU = torch.device("cuda", 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", TABLE)
def test_operator(name: str, dtype: torch.dtype) -> None:
    case = TABLE[name]
    check_op(case, list(case.samples(dtype, GPU)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", TABLE)
def test_operator_compiles_once_for_all_sizes(name: str, dtype: torch.dtype) -> None:
    shapes = [(2, 5, 9, 4), (4, 6, 3, 5), (7, 12, 8, 9)]
    check_compiled(TABLE[name], [TABLE[name].sample(shape, dtype, "contiguous", GPU) for shape in shapes])


def test_kernels_run_on_the_current_stream() -> None:
    x = torch.randn(64, 64, 32, 32, device=GPU)
    wanted = bigan.ops.bias_leaky_relu(x)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # long enough that a kernel on another stream would read x before it is filled
        late = torch.empty_like(x).copy_(x)
        found = bigan.ops.bias_leaky_relu(late)
    stream.synchronize()
    assert torch.equal(found, wanted)


def test_a_graph_captures_forward_and_backward() -> None:
    x = torch.randn(8, 16, 16, 16, device=GPU, requires_grad=True)
    bias = torch.randn(16, device=GPU, requires_grad=True)
    y = bigan.ops.bias_leaky_relu(x, bias)
    wanted = [y, *torch.autograd.grad(y.sum(), (x, bias))]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.autograd.grad(bigan.ops.bias_leaky_relu(x, bias).sum(), (x, bias))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # a synchronisation with the host would raise here
        y = bigan.ops.bias_leaky_relu(x, bias)
        captured = [y, *torch.autograd.grad(y.sum(), (x, bias))]
    for tensor in captured:
        tensor.detach().zero_()
    graph.replay()
    for found, expected in zip(captured, wanted, strict=True):
        assert torch.equal(found, expected)


def test_the_second_device_is_used_where_the_tensor_lies() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    x = torch.randn(4, 8, 5, 5, device="cuda:1")
    assert torch.equal(bigan.ops.bias_leaky_relu(x).cpu(), bigan.ops.bias_leaky_relu(x.cpu()))


def test_bias_gradient_is_deterministic() -> None:
    g = torch.randn(64, 48, 33, 31, device=GPU)
    bits = torch.randint(0, 256, ((g.numel() + 7) // 8,), dtype=torch.uint8, device=GPU)
    for channels_last in (False, True):
        first, *others = [torch.ops.bigan.mask_multiply(g, None, bits, 0.2, channels_last, True)[1] for _ in range(5)]
        assert all(torch.equal(first, other) for other in others)
