"""The recorded pullback against autograd's double backward, over critics composed of all that it knows."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from bigan.networks.dcgan import DCGANCritic
from bigan.networks.layers import BiasLeakyReLU, LeakyReLU
from bigan.penalties import by_autograd
from bigan.pullback import obstacle, record
from bigan.pullback.maps import Convolution

from .critics import Drawn, critics, error, gradients, one_loss, relativistic

many = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def condition_of(drawn: Drawn, rows: slice) -> Tensor | None:
    return None if drawn.condition is None else drawn.condition[rows]


@many
@given(critics())
def test_gradients_are_autograds(drawn: Drawn) -> None:
    assert obstacle(drawn.critic) is None
    found, wanted = [], []
    for way, into in ((record, found), (by_autograd, wanted)):
        critic = copy.deepcopy(drawn.critic)
        into += gradients(critic, one_loss(way(critic, drawn.images, drawn.condition)))
        into += critic.buffers()  # spectral norm's estimates move once a pass
    assert error(found, wanted) <= 1e-12


@many
@given(critics())
def test_gradients_of_relativistic_losses_are_autograds(drawn: Drawn) -> None:
    found, wanted = [], []
    for way, into in ((record, found), (by_autograd, wanted)):
        critic = copy.deepcopy(drawn.critic)
        pairs = [way(critic, drawn.images[rows], condition_of(drawn, rows)) for rows in (slice(0, 2), slice(2, None))]
        into += gradients(critic, relativistic(*pairs))
    assert error(found, wanted) <= 1e-12


@many
@given(critics(), st.data())
def test_free_samples_are_judged_with_the_held_ones(drawn: Drawn, data: st.DataObject) -> None:
    """A batch of which only the first samples' gradients are asked for, and a loss that couples all of it."""
    held = data.draw(st.integers(1, len(drawn.images)))

    def loss(logits: Tensor, gradient: Tensor) -> Tensor:
        return one_loss((logits, gradient)) + logits.flatten().square().mean().exp()

    critic, plain = drawn.critic.eval(), copy.deepcopy(drawn.critic).eval()
    found = gradients(critic, loss(*record(critic, drawn.images, drawn.condition, held)))
    _, gradient = by_autograd(plain, drawn.images[:held], condition_of(drawn, slice(held)))
    logits = plain(drawn.images) if drawn.condition is None else plain(drawn.images, drawn.condition)
    assert error(found, gradients(plain, loss(logits, gradient))) <= 1e-12


class Margins(list[float]):
    """How near the kinks of a critic its activations come, beside their size."""

    def watch(self, critic: nn.Module) -> None:
        for layer in critic.modules():
            if isinstance(layer, nn.LeakyReLU | nn.ReLU):
                layer.register_forward_pre_hook(lambda layer, inputs: self.add(inputs[0]))
            elif isinstance(layer, BiasLeakyReLU | LeakyReLU):
                layer.register_forward_pre_hook(lambda layer, inputs: self.add(inputs[0] + shift(layer, inputs[0])))

    def add(self, z: Tensor) -> None:
        self.append(float(z.detach().abs().min() / z.detach().abs().max()))


def shift(layer: nn.Module, x: Tensor) -> Tensor | float:
    return layer.bias.view(-1, *[1] * (x.dim() - 2)) if isinstance(layer, BiasLeakyReLU) else 0.0


@many
@given(critics())
def test_gradients_in_float32(drawn: Drawn) -> None:
    exact, margins = copy.deepcopy(drawn.critic), Margins()
    margins.watch(exact)
    wanted = gradients(exact, one_loss(by_autograd(exact, drawn.images, drawn.condition)))
    assume(all(margin > 1e-5 for margin in margins))  # the same masks in both types
    narrow = drawn.to(torch.float32)
    found = gradients(narrow.critic, one_loss(record(narrow.critic, narrow.images, narrow.condition)))
    assert error(found, wanted) <= 1e-5


@many
@given(critics(), st.data())
def test_every_critic_runs_under_autocast(drawn: Drawn, data: st.DataObject) -> None:
    """In bf16: near the gradients of fp64, as far as its kinks allow, and in the types that are promised."""
    held = data.draw(st.integers(1, len(drawn.images)))
    narrow = drawn.to(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        logits, gradient = record(narrow.critic, narrow.images, narrow.condition, held)
        loss = F.softplus(-logits).mean() + gradient.square().sum()
    assert logits.dtype == gradient.dtype == torch.float32
    found = gradients(narrow.critic, loss)
    assert all(g.isfinite().all() for g in found)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        twin = drawn.to(torch.float32).critic
        plain = twin(narrow.images) if narrow.condition is None else twin(narrow.images, narrow.condition)
    assert error([logits.detach()], [plain.float()]) < 0.1 or float(plain.abs().max()) < 0.1


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("held", [2, 6])
def test_under_autocast_the_error_is_autograds(format_: torch.memory_format, held: int) -> None:
    torch.manual_seed(0)
    exact = DCGANCritic(width=16).build((3, 32, 32)).double().to(memory_format=format_)
    images = torch.randn(6, 3, 32, 32, dtype=torch.float64).contiguous(memory_format=format_)
    for parameter in exact.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.3)

    def loss(logits: Tensor, gradient: Tensor) -> Tensor:
        assert logits.dtype in (torch.float32, torch.float64)
        return F.softplus(-logits).mean() + 5 * gradient.square().flatten(1).sum(1).mean()

    def separately(critic: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([by_autograd(critic, x[:held])[0], by_autograd(critic, x[held:])[0]]), by_autograd(critic, x[:held])[1]

    wanted = gradients(exact, loss(*separately(exact, images)))
    errors = []
    for way in (lambda critic, x: record(critic, x, None, held), separately):
        critic = copy.deepcopy(exact).float()
        with torch.autocast("cpu", torch.bfloat16):
            total = loss(*way(critic, images.float()))
        errors.append(error(gradients(critic, total), wanted))
    ours, autograds = errors
    assert 1e-4 < ours <= 1.1 * autograds


def test_the_values_are_the_critics() -> None:
    torch.manual_seed(0)
    critic, x = DCGANCritic(width=4).build((1, 16, 16)).double(), torch.randn(5, 1, 16, 16, dtype=torch.float64)
    logits, gradient = record(critic, x, held=3)
    torch.testing.assert_close(logits, critic(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, by_autograd(critic, x[:3])[1], rtol=1e-12, atol=1e-12)
    assert not x.requires_grad


def test_images_are_left_as_they_were() -> None:
    x = torch.randn(4, 3)
    before = x.clone()
    record(nn.Sequential(nn.LeakyReLU(), nn.Flatten(), nn.LeakyReLU(), nn.Linear(3, 1)), x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("held", [1, 2])
def test_it_cannot_be_differentiated_twice(held: int) -> None:
    """Not even where the loss is linear in the logits, as WGAN's."""
    critic = DCGANCritic(width=4).build((1, 8, 8))
    logits, _ = record(critic, torch.randn(2, 1, 8, 8), held=held)
    with pytest.raises(RuntimeError, match=r"differentiable once; use bigan\.penalties\.by_autograd"):
        torch.autograd.grad(logits.mean(), next(critic.parameters()), create_graph=True)


def test_at_a_kink_the_slope_is_taken() -> None:
    critic = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.LeakyReLU(0.25), nn.Linear(3, 1))
    zeros = torch.zeros(2, 2)
    for found, wanted in zip(record(critic, zeros), by_autograd(critic, zeros), strict=True):
        torch.testing.assert_close(found, wanted)


def test_spectral_norm_moves_once_a_pass() -> None:
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(4, 4))
    critic = nn.Sequential(layer, nn.LeakyReLU(), layer, nn.LeakyReLU(), nn.Linear(4, 1))
    twin = copy.deepcopy(layer)
    record(critic, torch.randn(3, 4))
    _ = twin.weight
    for found, wanted in zip(layer.buffers(), twin.buffers(), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("channels", [3, 7, 300])
@pytest.mark.parametrize("size", [(4, 4), (5, 6)])
@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last], ids=str)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_convolutions_as_matrix_products(
    channels: int,
    size: tuple[int, int],
    format_: torch.memory_format,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    bias: bool,
) -> None:
    """Few pixels under many channels, and few channels, are computed another way on a CPU."""
    assume(all(side + 2 * padding > dilation * (kernel - 1) for side in size))
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 40, kernel, stride, padding, dilation, bias=bias).double().to(memory_format=format_)
    x = torch.randn(2, channels, *size, dtype=torch.float64).contiguous(memory_format=format_).requires_grad_()
    y = layer(x)
    g = torch.randn_like(y)
    over = Convolution(layer.stride, (padding, padding), layer.dilation, 1, size)
    wanted = [y, *torch.autograd.grad(y, (x, layer.weight), g)]
    with torch.no_grad():
        found = [over.forward(x, layer.weight, layer.bias), over.transpose(g, layer.weight)]
        found.append(over.weight_gradient(x, g, layer.weight))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_it_compiles_without_a_graph_break() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.2), DCGANCritic(width=4, max_width=8).build((4, 16, 16)))
    x, parameters = torch.randn(5, 1, 18, 18), list(critic.parameters())

    def step(x: Tensor) -> Tensor:
        logits, gradient = record(critic, x, held=3)
        return F.softplus(-logits).mean() + gradient.square().sum()

    found = torch.autograd.grad(torch.compile(step, fullgraph=True, backend="aot_eager")(x), parameters)
    for ours, wanted in zip(found, torch.autograd.grad(step(x), parameters), strict=True):
        torch.testing.assert_close(ours, wanted)
