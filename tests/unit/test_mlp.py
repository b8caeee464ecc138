"""Perceptrons: shapes, first weights, and which of them keep the recorded pullback."""

import math
from typing import get_args

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from bigan.config import validate
from bigan.networks import Critic, Generator
from bigan.networks.layers import Activation, gain, nonlinearity
from bigan.networks.minibatch import MinibatchDiscrimination
from bigan.networks.mlp import MLPCritic, MLPGenerator, MLPNorm
from bigan.penalties import way
from bigan.pullback import verify

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
NORMS: tuple[MLPNorm, ...] = get_args(MLPNorm)
SHAPES = [(2,), (7,), (3, 4, 5), (1, 2, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_samples_of_any_shape_are_made_and_judged(shape: tuple[int, ...], norm: MLPNorm, spectral_norm: bool) -> None:
    generator = MLPGenerator(latent=3, width=8, depth=2, norm=norm).build(shape)
    minibatch = MinibatchDiscrimination(kernels=3, dims=2, group=4) if len(shape) == 1 else None
    critic = MLPCritic(width=8, depth=2, norm=norm, spectral_norm=spectral_norm, minibatch=minibatch).build(shape)
    samples = generator(3 * torch.randn(8, 3))
    logits = critic(samples)
    assert samples.shape == (8, *shape)
    assert logits.shape == (8,)
    assert (float(samples.detach().abs().max()) <= 1) == (len(shape) == 3), "images alone lie in [-1, 1]"
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for m in (generator, critic) for p in m.parameters())


def test_width_and_depth() -> None:
    linear = [layer for layer in MLPCritic(width=8, depth=3).build((2, 3)).modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(6, 8), (8, 8), (8, 8), (8, 1)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gain_is_that_of_the_activation(activation: Activation) -> None:
    layer = nonlinearity(activation)

    def square(z: float) -> float:
        return float(layer(torch.tensor([[z]], dtype=torch.float64))) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    moment = quad(square, -10, 0)[0] + quad(square, 0, 10)[0]
    assert gain(activation) == pytest.approx(moment**-0.5, rel=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_scale_of_activations_is_kept(activation: Activation) -> None:
    critic = MLPCritic(width=256, depth=5, activation=activation).build((256,))
    scales: list[float] = []
    for layer in critic.modules():
        if isinstance(layer, nn.Linear) and layer.out_features > 1:
            layer.register_forward_hook(lambda module, inputs, output: scales.append(float(output.square().mean().sqrt())))
    with torch.no_grad():
        critic(torch.randn(64, 256))
    assert all(scale == pytest.approx(scales[0], rel=0.55) for scale in scales), scales
    linear = [layer for layer in critic.modules() if isinstance(layer, nn.Linear)]
    assert all(torch.equal(layer.bias, torch.zeros_like(layer.bias)) for layer in linear)


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_kinked_critics_keep_the_recorded_pullback(activation: Activation, spectral_norm: bool) -> None:
    critic = MLPCritic(width=8, activation=activation, spectral_norm=spectral_norm).build((2,))
    kinked = activation in ("leaky_relu", "relu")
    assert ("recorded" in way(critic, (2,))) == kinked
    if kinked:
        verify(critic, torch.randn(5, 2))


@pytest.mark.parametrize("kind", ["dcgan", "mlp"])
def test_a_config_names_the_network_by_its_kind(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    for union in (Generator, Critic):
        assert validate(union, {"kind": kind, "width": 5}, tmp_path_factory.getbasetemp(), "").kind == kind


def test_a_perceptron_has_no_instance_norm(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ValueError, match=r"game\.critic\.norm: Input should be 'batch', 'layer' or 'none' \(got 'instance'\)"):
        validate(Critic, {"kind": "mlp", "norm": "instance"}, tmp_path_factory.getbasetemp(), "game.critic.")
