"""Spectral norm: what it divides by, when its estimate moves, and that neither accumulation nor a restart shows in it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigan.clock import Clock
from bigan.distributed.group import Alone
from bigan.distributed.player import Player, seat
from bigan.distributed.zero import Division
from bigan.game import Context, Game, Move
from bigan.networks.dcgan import DCGANCritic
from bigan.networks.mlp import MLPCritic
from bigan.networks.spectral import SpectralNorm, normalise_spectrally
from bigan.optimizers import Adam
from bigan.penalties import GradientPenalty, by_autograd, judge, with_gradient
from bigan.play import Meter, frozen, play
from bigan.pullback import obstacle, verify

CPU = torch.device("cpu")


def estimates(network: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in network.buffers()]


def weights(network: nn.Module) -> list[Tensor]:
    """The normalised weights, as matrices."""
    with torch.no_grad():
        return [layer.weight.flatten(1) for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def largest(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix.detach().double(), 2))


CRITICS = {
    "dcgan": (DCGANCritic(width=4, spectral_norm=True), (1, 16, 16)),
    "mlp": (MLPCritic(width=16, spectral_norm=True), (3,)),
}


@pytest.fixture(params=sorted(CRITICS))
def critic(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[int, ...]]:
    settings, shape = CRITICS[request.param]
    return settings.build(shape), shape


def test_weights_are_initialised_and_then_divided_by_their_norm() -> None:
    for settings, shape in CRITICS.values():
        torch.manual_seed(1)
        plain = type(settings)(width=settings.width).build(shape)
        torch.manual_seed(1)
        network = settings.build(shape).eval()
        for normalised, layer in zip(weights(network), weights(plain), strict=True):
            torch.testing.assert_close(normalised * largest(layer), layer, rtol=2e-2, atol=1e-4)


def test_the_largest_singular_value_stays_one_while_the_weights_move(critic: tuple[nn.Module, tuple[int, ...]]) -> None:
    network, shape = critic
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    originals = [p.detach().clone() for p in network.parameters() if p.dim() > 1]
    for _ in range(30):
        loss = F.softplus(-network(torch.randn(8, *shape))).mean() + F.softplus(network(2 + torch.randn(8, *shape))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = [p for p in network.parameters() if p.dim() > 1]
    assert all(float((p - q).detach().norm() / q.norm()) > 0.05 for p, q in zip(moved, originals, strict=True))
    assert all(largest(matrix) == pytest.approx(1.0, abs=0.03) for matrix in weights(network))


def test_a_critic_is_lipschitz() -> None:
    network = MLPCritic(width=16, depth=4, spectral_norm=True).build((3,))
    _, gradient = by_autograd(network, torch.randn(100, 3))
    assert float(gradient.detach().norm(dim=1).max()) <= 1.05


def test_the_weight_is_pytorchs_at_equal_estimates() -> None:
    """And so is its gradient, through σ, of which the singular vectors are constants."""
    torch.manual_seed(3)
    mine, theirs = nn.Linear(5, 4).double(), nn.Linear(5, 4).double()
    theirs.load_state_dict(mine.state_dict())
    normalise_spectrally(mine)
    nn.utils.parametrizations.spectral_norm(theirs)
    ours: Any = mine.parametrizations
    other: Any = theirs.parametrizations
    with torch.no_grad():
        other.weight[0]._u.copy_(ours.weight[0].u)
        other.weight[0]._v.copy_(ours.weight[0].v)
    theirs.eval()
    torch.testing.assert_close(mine.weight, theirs.weight, rtol=1e-10, atol=1e-12)
    x = torch.randn(6, 5, dtype=torch.float64)
    found = [torch.autograd.grad(layer(x).tanh().sum(), list(layer.parameters())) for layer in (mine, theirs)]
    for a, b in zip(*(sorted(grads, key=torch.numel) for grads in found), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_estimate_moves_once_for_each_change_of_the_weight(critic: tuple[nn.Module, tuple[int, ...]]) -> None:
    network, shape = critic
    x = torch.randn(4, *shape)
    first = estimates(network)
    for _ in range(3):
        network(x)
        with_gradient(network, x)
        judge(network, (GradientPenalty(),), 0, {n: lambda out: out.copy_(x) for n in ("real", "fake", "mix")}, x)
    assert all(torch.equal(a, b) for a, b in zip(first, estimates(network), strict=True))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    moved = []
    for _ in range(2):
        network(x)
        moved.append(estimates(network))
    assert not any(torch.equal(a, b) for a, b in zip(first, moved[0], strict=True) if a.numel() > 1)
    assert all(torch.equal(a, b) for a, b in zip(*moved, strict=True))


@pytest.mark.parametrize("how", ["frozen", "eval"])
def test_it_rests_where_the_weight_is_not_trained(critic: tuple[nn.Module, tuple[int, ...]], how: str) -> None:
    network, shape = critic
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    before = estimates(network)
    network.train(how != "eval").requires_grad_(how != "frozen")
    network(torch.randn(2, *shape))
    assert all(torch.equal(a, b) for a, b in zip(before, estimates(network), strict=True))
    # A weight that grew as a whole has the same singular vectors.
    assert all(largest(matrix) == pytest.approx(1.0, abs=0.03) for matrix in weights(network))


def test_an_average_of_estimates_is_of_unit_length() -> None:
    norm = SpectralNorm(torch.randn(4, 6)).eval()
    weight, before = torch.randn(4, 6), norm(torch.ones(4, 6))
    found = norm(weight)
    norm.u.mul_(0.5)
    norm.v.mul_(0.25)
    torch.testing.assert_close(norm(weight), found)
    torch.testing.assert_close(norm(torch.ones(4, 6)), before)


def test_the_recorded_pullback_is_autograds(critic: tuple[nn.Module, tuple[int, ...]]) -> None:
    network, shape = critic
    assert obstacle(network) is None
    verify(network, torch.randn(5, *shape))


def test_under_autocast_it_is_computed_in_float32(critic: tuple[nn.Module, tuple[int, ...]]) -> None:
    network, shape = critic
    exact = weights(network)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(exact, weights(network), strict=True))
        network(torch.randn(4, *shape)).float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


def test_it_compiles_without_a_graph_break(critic: tuple[nn.Module, tuple[int, ...]]) -> None:
    network, shape = critic
    x, found = torch.randn(4, *shape), []
    for module in (copy.deepcopy(network), network):
        function = module if module is not network else torch.compile(module, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(1.1)
        logits = function(x)
        logits.sum().backward()
        found.append([logits, *[p.grad for p in module.parameters()], *module.buffers()])
    torch.testing.assert_close(*found)


def loss(ctx: Context) -> dict[str, Tensor]:
    critic, real = ctx.players["critic"], ctx.batch("real").images.float()
    fake = ctx.normal("fake", 3)
    points: dict[str, Callable[[Tensor], object]] = {"real": lambda out: out.copy_(real), "fake": lambda out: out.copy_(fake)}
    logits, _, _ = judge(critic, (), ctx.step, points, real)
    return {"hinge": F.relu(1 - logits["real"]).mean() + F.relu(1 + logits["fake"]).mean()}


def game() -> Game:
    torch.manual_seed(2)
    network = MLPCritic(width=8, depth=2, spectral_norm=True).build((3,))
    return Game(players={"critic": network}, moves=(Move(player="critic", loss=loss, reads=("real",)),), sample=lambda ctx: {})


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_micro_batches_are_the_whole_batch(table: Callable[..., Any], micro_batch: int) -> None:
    states = []
    for size in (8, micro_batch):
        seats, clock = table(game(), micro_batch=size, lr=0.3), Clock(batch=8)
        before = estimates(seats.modules["critic"])
        for _ in range(4):
            clock = play(seats, clock, Meter())
        assert float((estimates(seats.modules["critic"])[0] - before[0]).norm()) > 1e-3
        states.append(dict(seats.modules["critic"].state_dict()))
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-6)


def test_a_restart_does_not_show() -> None:
    """Iterations after a restart are those of the player that went on, to the last bit."""

    def player(saved: dict[str, Tensor] | None = None) -> Player:
        division = Division(micro_batch=8, accumulation=1)
        return seat(game().players["critic"], Adam(lr=1e-2), None, division, Alone(), CPU, saved)

    def go(it: Player, steps: range) -> dict[str, Tensor]:
        for step in steps:
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            it.update(F.softplus(-it.module(x)).mean() + it.module(x + 1).square().mean(), Clock(batch=8), last=True)
            with frozen([it.module]):
                it.module(x)
        return {name: tensor.clone() for name, tensor in it.tensors().items()}

    whole = player()
    saved = go(whole, range(3))
    expected = go(whole, range(3, 6))
    found = go(player(saved), range(3, 6))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
