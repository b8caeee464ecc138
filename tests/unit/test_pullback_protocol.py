"""Layers of one's own, and what stands in the way of a recorded pullback."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigan.networks.layers import ProjectionCritic, Residual
from bigan.pullback import Cotangent, Trace, affine, kind, linear, obstacle, record, verify
from bigan.pullback.registry import _KINDS


@pytest.fixture(autouse=True)
def _registry():
    before = dict(_KINDS)
    yield
    _KINDS.clear()
    _KINDS.update(before)


def critic_of(*layers: nn.Module, features: int = 36) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 5), nn.LeakyReLU(0.2), nn.Linear(5, 1))


def images() -> Tensor:
    return torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Blur(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + x.roll(1, -1)) / 2


class Rescale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.rand(1, 1, 1)), nn.Parameter(torch.rand(1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.shift


class Points(nn.Module):
    """A critic of points in the plane, with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.a(x))
        return self.head(self.act(h + self.b(h)))


class Labelled(nn.Module):
    """A critic that adds a smooth function of its condition to its features."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.embed, self.head = nn.Linear(36, 8), nn.Sequential(nn.Linear(3, 8), nn.Tanh()), nn.Linear(8, 1)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.head(F.leaky_relu(self.a(x.flatten(1)) + self.embed(label), 0.2))


def test_a_linear_map() -> None:
    critic = critic_of(Blur())
    assert obstacle(critic) == "layer '0' (Blur) is not known to be piecewise linear"
    linear(Blur)(lambda layer, x: (layer(x), lambda g: (g + g.roll(-1, -1)) / 2))
    verify(critic, images())


@pytest.mark.parametrize("layer", [Blur(), Rescale(), Gain(), nn.ReplicationPad2d(1), nn.ConvTranspose2d(1, 1, 3, padding=1)])
def test_an_affine_map_needs_no_function(layer: nn.Module) -> None:
    affine(type(layer))
    features = layer(torch.zeros(1, 1, 6, 6)).numel()
    verify(critic_of(nn.Conv2d(1, 1, 1), nn.LeakyReLU(0.2), layer, features=features), images())
    verify(critic_of(layer, features=features), images())


def test_a_critic() -> None:
    residual = Residual

    @kind(Points)
    def points(critic: Points, x: Tensor, trace: Trace):
        return trace.chain([critic.a, critic.act, residual(critic.b), critic.act, critic.head], x)

    torch.manual_seed(0)
    verify(Points(), torch.randn(6, 2, dtype=torch.float64))


def test_a_condition_that_is_added() -> None:
    act = nn.LeakyReLU(0.2)

    @kind(Labelled, parts=lambda critic: [("a", critic.a), ("head", critic.head)])
    def labelled(critic: Labelled, x: Tensor, trace: Trace):
        h, pull_a = trace.run(critic.a, x.flatten(1))
        with trace.recording():
            shift = critic.embed(trace.condition)
        k, pull_act = trace.run(act, h + shift)
        y, pull_head = trace.run(critic.head, k)

        def pull(above: Cotangent) -> Cotangent:
            above = pull_act(pull_head(above))
            trace.add(above, shift)
            return pull_a(above).map(lambda g: g.view(-1, 1, 6, 6))

        return y, pull

    torch.manual_seed(0)
    verify(Labelled(), images(), torch.randn(4, 3, dtype=torch.float64))


def test_a_label_is_projected() -> None:
    torch.manual_seed(0)
    verify(ProjectionCritic(critic_of()[:-1], 5, nn.Embedding(3, 5)), images(), torch.tensor([0, 2, 1, 2]))


def wrong_adjoint() -> nn.Module:
    linear(Blur)(lambda layer, x: (layer(x), lambda g: (g + g.roll(1, -1)) / 2))
    return critic_of(Blur())


def affine_called_linear() -> nn.Module:
    linear(Rescale)(lambda layer, x: (layer(x), lambda g: 2 * g))
    return critic_of(Rescale())


def forgotten_shift() -> nn.Module:
    kind(Gain, parts=lambda layer: ())(lambda layer, x, trace: (layer(x), lambda above: above.map(lambda g: g * layer.gain)))
    return critic_of(Gain())


def coupled_samples() -> nn.Module:
    linear(Rescale)(lambda layer, x: (x - x.mean(0), lambda g: g))
    return critic_of(Rescale())


@pytest.mark.parametrize("mistake", [wrong_adjoint, affine_called_linear, forgotten_shift, coupled_samples])
def test_verify_finds_a_mistake(mistake) -> None:
    with pytest.raises(AssertionError, match=r"differ from autograd's by .*, with \d of 4 samples held"):
        verify(mistake(), images())


def test_the_page_of_the_documentation_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gradient-penalties.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    exec("\n".join(blocks), {"__name__": "page"})


def test_verify_wants_free_samples() -> None:
    with pytest.raises(ValueError, match="two images or more"):
        verify(critic_of(), images()[:1])


def test_linear_refuses_parameters() -> None:
    linear(Gain)(lambda layer, x: (layer(x), lambda g: g * layer.gain))
    assert "has parameters" in str(obstacle(critic_of(Gain())))


@pytest.mark.parametrize(
    ("pull", "reason"),
    [
        (lambda above: Cotangent(above.held, above.held.detach()), "dropped the free samples"),
        (lambda above: above.map(lambda g: g.flatten(1)), r"gives \[36\] a sample for \[1, 6, 6\]"),
    ],
)
def test_a_pullback_of_the_wrong_shape_is_refused(pull, reason: str) -> None:
    kind(Blur)(lambda layer, x, trace: (layer(x), pull))
    with pytest.raises(RuntimeError, match=f"pullback of Blur {reason}"):
        record(critic_of(nn.Conv2d(1, 1, 1), Blur()), images().float(), held=2)


class Viewed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view_as(x)


class Dense(nn.Module):
    """Reads its input again after a leaky ReLU of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act = nn.Conv2d(1, 1, 3, padding=1), nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.act(h) + h


def test_nothing_is_overwritten_that_is_read_again() -> None:
    @kind(Dense)
    def dense(layer: Dense, x: Tensor, trace: Trace):
        h, pull = trace.run(layer.first, x)
        y, pull_act = trace.run(layer.act, h)
        return y + h, lambda above: pull(pull_act(above).plus(above))

    linear(Viewed)(lambda layer, x: (layer(x), lambda g: g))
    x = images()
    before = x.clone()
    act = nn.LeakyReLU(0.2)
    for body in (
        Dense(),
        nn.Sequential(nn.Conv2d(1, 1, 1), Residual(nn.Sequential(act, nn.Conv2d(1, 1, 1)))),
        nn.Sequential(nn.Conv2d(1, 1, 1), Residual(nn.Sequential(nn.Identity(), act), nn.Sequential(act, nn.Conv2d(1, 1, 1)))),
        nn.Sequential(act, nn.Identity(), nn.Sequential(act), nn.Conv2d(1, 1, 1), nn.Identity(), act),
        *[
            nn.Sequential(nn.Conv2d(1, 1, 1), Residual(nn.Sequential(first, act)))
            for first in (nn.Identity(), nn.Sequential(), Viewed(), nn.Sequential(nn.Identity(), nn.Identity()))
        ],
    ):
        verify(critic_of(body), x)
    assert torch.equal(x, before)


def test_a_temporary_layer_has_its_own_weight() -> None:
    @kind(Points)
    def points(critic: Points, x: Tensor, trace: Trace):
        def scaled(layer: nn.Linear) -> nn.Linear:
            made = nn.Linear(1, 1)
            made.weight, made.bias = layer.weight, layer.bias
            return made

        h, first = trace.run(scaled(critic.a), x)
        h, second = trace.run(critic.act, h)
        y, third = trace.branches([nn.Identity(), scaled(critic.b)], h)
        z, fourth = trace.chain([critic.act, scaled(critic.head)], y)
        return z, lambda above: first(second(third(fourth(above))))

    verify(Points(), torch.randn(5, 2, dtype=torch.float64))
