"""The public function: PyTorch's values, any order of derivative, no zeros in a double backward, autocast, compilation."""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bigan.ops import bias_leaky_relu, reference


def eager(x: Tensor, bias: Tensor | None = None, slope: float = 0.2) -> Tensor:
    if bias is not None:
        x = x + bias.view(1, -1, *[1] * (x.dim() - 2))
    return F.leaky_relu(x, slope)


class Critic(nn.Module):
    """A DCGAN critic for 32 px whose biases are added by the activation under test."""

    def __init__(self, activation: Callable[..., Tensor], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        widths = (3, 8, 16, 24)
        pairs = list(itertools.pairwise(widths))
        self.activation = activation
        self.weights = nn.ParameterList(
            torch.randn(o, i, 4, 4, generator=generator).div((16 * i) ** 0.5).to(dtype) for i, o in pairs
        )
        self.biases = nn.ParameterList(torch.randn(o, generator=generator).to(dtype) for _, o in pairs)
        self.head = nn.Parameter(torch.randn(1, widths[-1], 4, 4, generator=generator).div(20).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = self.activation(F.conv2d(x, weight, stride=2, padding=1), bias)
        return F.conv2d(x, self.head).flatten()


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(dtype)


def penalty_gradients(critic: nn.Module, x: Tensor) -> list[Tensor]:
    """Gradients of R1, the mean squared gradient of the critic at x."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    loss = gradient.square().sum() / x.shape[0]
    found = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, critic.parameters(), strict=True)]


class ZeroConvolutions(TorchDispatchMode):
    """Counts convolution backwards, and those whose incoming gradient is all zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.backwards = self.on_zeros = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.backwards += 1
            self.on_zeros += not bool(args[0].any())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", [(4, 6), (2, 5, 7, 9), (2, 8, 4, 4)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_values_and_gradients_are_pytorchs(shape: tuple[int, ...], with_bias: bool) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    bias = torch.linspace(-1, 1, shape[1]).requires_grad_() if with_bias else None
    inputs = [x] if bias is None else [x, bias]
    y, wanted = bias_leaky_relu(x, bias, 0.1), eager(x, bias, 0.1)
    assert torch.equal(y, wanted)
    weights = torch.linspace(-2, 2, y.numel()).view(shape)
    gradients = torch.autograd.grad(y, inputs, weights)
    for found, expected in zip(gradients, torch.autograd.grad(wanted, inputs, weights), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_at_zero_the_slope_is_taken() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    bias_leaky_relu(x, slope=0.25).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full_like(x, 0.25))


@pytest.mark.parametrize("bad", ["one dimension", "integers", "bias too long", "bias of two dimensions", "integer bias"])
def test_mistakes_are_named(bad: str) -> None:
    x, bias = torch.zeros(2, 3), torch.zeros(3)
    calls = {
        "one dimension": (x[0], None),
        "integers": (x.int(), None),
        "bias too long": (x, torch.zeros(4)),
        "bias of two dimensions": (x, bias[None]),
        "integer bias": (x, bias.int()),
    }
    with pytest.raises(ValueError, match="bias_leaky_relu"):
        bias_leaky_relu(*calls[bad])


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
def test_memory_format_is_kept(format_: torch.memory_format) -> None:
    x = images(torch.float32).contiguous(memory_format=format_).requires_grad_()
    y = bias_leaky_relu(x, torch.ones(3))
    y.sum().backward()
    assert x.grad is not None
    assert y.is_contiguous(memory_format=format_)
    assert x.grad.is_contiguous(memory_format=format_)


def test_a_gradient_of_the_other_memory_format_meets_the_right_bits() -> None:
    x = images().contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(3))
    (found,) = torch.autograd.grad(bias_leaky_relu(x), x, weights)
    assert torch.equal(found, torch.where(x > 0, weights, 0.2 * weights))


def test_derivatives_of_the_third_order() -> None:
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    bias = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)

    def second(function: Callable[..., Tensor], x: Tensor, bias: Tensor) -> Tensor:
        gradients = torch.autograd.grad(function(x, bias).pow(4).sum(), (x, bias), create_graph=True)
        squares = torch.cat([g.flatten() for g in gradients]).square().sum()
        again = torch.autograd.grad(squares, (x, bias), create_graph=True)
        return torch.cat([g.flatten() for g in again])

    torch.testing.assert_close(second(bias_leaky_relu, x, bias), second(eager, x, bias))
    torch.autograd.gradcheck(lambda x, bias: second(bias_leaky_relu, x, bias), (x, bias))


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
def test_penalty_gradients_are_autograds(format_: torch.memory_format) -> None:
    x = images().contiguous(memory_format=format_)
    pairs = zip(penalty_gradients(Critic(bias_leaky_relu), x), penalty_gradients(Critic(eager), x), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_penalty_sends_no_zeros_through_a_convolution() -> None:
    with ZeroConvolutions() as ours:
        penalty_gradients(Critic(bias_leaky_relu), images())
    with ZeroConvolutions() as pytorchs:
        penalty_gradients(Critic(eager), images())
    assert ours.on_zeros == 0
    assert ours.backwards < pytorchs.backwards
    assert pytorchs.on_zeros > 0, "the count must be able to see zeros"


def test_kept_for_the_backward_is_one_bit_an_element() -> None:
    x = torch.randn(4, 16, 8, 8).requires_grad_()
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        bias_leaky_relu(x, torch.zeros(16))
    assert sum(t.nbytes for t in kept) == x.numel() // 8


def test_autocast_keeps_the_bias_in_its_own_type() -> None:
    critic = Critic(bias_leaky_relu, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = critic(images(torch.float32))
    y.float().sum().backward()
    exact = Critic(eager, torch.float64)
    exact(images()).sum().backward()
    assert y.dtype == torch.bfloat16
    for bias, wanted in zip(critic.biases, exact.biases, strict=True):
        assert bias.grad is not None
        assert wanted.grad is not None
        assert bias.grad.dtype == torch.float32
        assert float((bias.grad - wanted.grad).norm()) < 0.03 * float(wanted.grad.norm())


def at_thread_counts(function: Callable[[], tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(function())
    finally:
        torch.set_num_threads(threads)
    return results


# Many samples and several chunks of a sample; so many sums that the sum over samples is divided among threads too.
@pytest.mark.parametrize("shape", [(64, 24, 16, 12), (3, 24, 60, 50), (96, 1030, 3, 2)])
@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
def test_bias_gradient_does_not_depend_on_threads(shape: tuple[int, ...], format_: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(5)
    x, g = (torch.randn(shape, generator=generator).contiguous(memory_format=format_) for _ in range(2))
    bias, rows = torch.zeros(shape[1]).requires_grad_(), torch.randn(shape[:2], generator=generator)
    bits = torch.randint(0, 256, (g.numel() // 8,), dtype=torch.uint8)

    def results() -> tuple[Tensor, ...]:
        multiplied = torch.ops.bigan.mask_multiply(g, rows, bits, 0.2, format_ == torch.channels_last, True)
        return *multiplied, *torch.autograd.grad(bias_leaky_relu(x, bias), bias, g)

    first, *others = at_thread_counts(results)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_first_samples_of_a_batch_take_the_first_of_its_bits() -> None:
    g = torch.randn(3, 5, 3, 3, generator=torch.Generator().manual_seed(6))
    bits = torch.ops.bigan.bias_leaky_relu(g, None, 0.2, False)[1]
    whole, _ = torch.ops.bigan.mask_multiply(g, None, bits, 0.2, False, False)
    for n in (1, 2):  # 45 elements a sample: the bits of the last byte are shared
        y, sums = torch.ops.bigan.mask_multiply(g[:n], None, bits, 0.2, False, True)
        assert torch.equal(y, whole[:n])
        torch.testing.assert_close(sums, whole[:n].sum((2, 3)))
    with pytest.raises(RuntimeError, match=r"bits must be \[17\] or longer"):
        torch.ops.bigan.mask_multiply(g, None, bits[:-1], 0.2, False, False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_tensors_larger_than_a_cache(dtype: torch.dtype, channels_last: bool) -> None:
    # 16 MiB and more are written by streaming stores; the ends of such a tensor are not a whole vector.
    shape = (1, 64, 257, 8192 // torch.finfo(dtype).bits)
    x = torch.linspace(-1, 1, 64 * shape[2] * shape[3]).view(shape).to(dtype)
    x = x.contiguous(memory_format=reference.memory_format(4, channels_last))
    bias, rows = torch.linspace(-0.5, 0.5, 64), torch.linspace(0.5, -0.5, 64)[None]
    y, bits = torch.ops.bigan.bias_leaky_relu(x, bias, 0.2, channels_last)
    wanted_y, wanted_bits = reference.bias_leaky_relu(x, bias, 0.2, channels_last)
    assert torch.equal(y, wanted_y)
    assert torch.equal(bits, wanted_bits)
    for add, sums in ((None, False), (rows, True)):
        found = torch.ops.bigan.mask_multiply(x, add, bits, 0.2, channels_last, sums)
        wanted = reference.mask_multiply(x, add, bits, 0.2, channels_last, sums)
        assert torch.equal(found[0], wanted[0])
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-5, atol=0.5)  # of 65792 terms up to 1.5


@pytest.mark.parametrize("rows", [torch.zeros(3), torch.zeros(5, 3), torch.zeros(3, 5, dtype=torch.float64)])
def test_rows_that_do_not_fit_are_refused(rows: Tensor) -> None:
    with pytest.raises(RuntimeError, match="rows must be"):
        torch.ops.bigan.mask_multiply(torch.zeros(3, 5, 8), rows, torch.zeros(15, dtype=torch.uint8), 0.2, False, True)


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
def test_a_critic_compiles_without_a_graph_break(format_: torch.memory_format) -> None:
    critic = Critic(bias_leaky_relu, torch.float32)
    x = images(torch.float32).contiguous(memory_format=format_)
    results = []
    for function in (critic, torch.compile(critic, fullgraph=True, backend="aot_eager")):
        critic.zero_grad()
        y = function(x)
        y.sum().backward()
        results.append([y, *[p.grad for p in critic.parameters()]])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
