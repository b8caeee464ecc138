"""Architectures: shapes, sizes that are refused, and the statistics of first weights."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bigan.networks.dcgan import DCGANCritic, DCGANGenerator, Upsampling
from bigan.networks.layers import BiasLeakyReLU, LeakyReLU, Norm, activation, init_kaiming, normalisation, pyramid
from bigan.networks.upsampling import UpsampleConv2d

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 48, 64), (3, 64, 48), (3, 20, 64), (4, 56, 56)]
NORMS: list[Norm] = ["batch", "instance", "layer", "none"]
UPSAMPLINGS: list[Upsampling] = ["folded", "nearest", "transposed"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("upsample", UPSAMPLINGS)
def test_a_generator_makes_images_and_a_critic_judges_them(
    shape: tuple[int, int, int], norm: Norm, upsample: Upsampling
) -> None:
    generator = DCGANGenerator(latent=5, width=4, norm=norm, upsample=upsample).build(shape)
    critic = DCGANCritic(width=4, norm=norm).build(shape)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, *shape)
    assert float(images.detach().abs().max()) <= 1.0
    logits = critic(images)
    assert logits.shape == (3,)
    logits.sum().backward()
    for module in (generator, critic):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_one_sample_is_a_batch_too() -> None:
    generator, critic = DCGANGenerator(norm="none", width=4).build((1, 8, 8)), DCGANCritic(width=4).build((1, 8, 8))
    assert critic(generator(torch.randn(1, 100))).shape == (1,)


@settings(max_examples=300)
@given(height=st.integers(1, 600), width=st.integers(1, 600))
def test_a_size_is_halved_to_a_small_base_or_one_that_works_is_named(height: int, width: int) -> None:
    k = next((k for k in range(1, 10) if 4 <= min(height, width) / 2**k < 8), 0)
    if k and height % 2**k == 0 == width % 2**k:
        assert pyramid((3, height, width)) == (k, (height >> k, width >> k))
        return
    with pytest.raises(ValueError, match=rf"^images of {height}x{width} do .* bigan pack … --size \d+ \(") as caught:
        pyramid((3, height, width))
    size = int(str(caught.value).partition("--size ")[2].split()[0])
    assert pyramid((3, size, size))[0] >= 1


@pytest.mark.parametrize("shape", [(3, 30, 30), (3, 7, 7), (1, 36, 36), (3, 64, 65), (3, 100, 100)], ids=str)
def test_networks_refuse_the_sizes_that_the_pyramid_refuses(shape: tuple[int, int, int]) -> None:
    for network in (DCGANGenerator(), DCGANCritic()):
        with pytest.raises(ValueError, match=rf"images of {shape[1]}x{shape[2]} do not fit the network; pack them at"):
            network.build(shape)


def test_samples_that_are_no_images_are_sent_elsewhere() -> None:
    for network in (DCGANGenerator(), DCGANCritic()):
        with pytest.raises(ValueError, match=r"samples of shape \[2\] are no images; take networks of kind mlp"):
            network.build((2,))


def test_widths_double_up_to_their_bound() -> None:
    critic = DCGANCritic(width=4, max_width=8).build((3, 64, 64))
    outs = [layer.out_channels for layer in critic.modules() if isinstance(layer, nn.Conv2d)]
    assert outs == [4, 8, 8, 8, 1]
    generator = DCGANGenerator(width=4, max_width=8, upsample="transposed").build((3, 64, 64))
    outs = [layer.out_channels for layer in generator.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert outs == [8, 8, 8, 4, 3]
    folded = DCGANGenerator(width=4, max_width=8).build((3, 64, 64))
    assert [tuple(layer.weight.shape[:2]) for layer in folded.modules() if isinstance(layer, UpsampleConv2d)] == [
        (8, 8),
        (8, 8),
        (8, 4),
        (4, 3),
    ]


def test_the_first_layer_of_a_critic_has_no_batch_norm() -> None:
    layers = list(DCGANCritic(width=4, norm="batch").build((3, 32, 32)).children())
    assert isinstance(layers[1], BiasLeakyReLU)
    assert sum(isinstance(layer, nn.BatchNorm2d) for block in layers for layer in block.modules()) == 2
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in DCGANCritic(width=4).build((3, 32, 32)).modules())
    generator = DCGANGenerator(width=4, norm="none").build((3, 32, 32))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in generator.modules())


@pytest.mark.parametrize("upsample", UPSAMPLINGS)
def test_the_papers_first_weights_of_a_generator(upsample: Upsampling) -> None:
    generator = DCGANGenerator(width=32, upsample=upsample).build((3, 64, 64))
    weights = [p for p in generator.parameters() if p.dim() == 4]
    assert len(weights) == 5
    assert all(w.std().item() == pytest.approx(0.02, rel=0.1) for w in weights)
    norms = [layer for layer in generator.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 4
    assert all(norm.weight.std().item() == pytest.approx(0.02, rel=0.6) for norm in norms)


def test_the_papers_first_weights() -> None:
    critic = DCGANCritic(width=32, norm="batch").build((3, 64, 64))
    for layer in critic.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1.0, abs=0.02)
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.6)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (3, 256, 256)], ids=str)
@pytest.mark.parametrize("upsample", UPSAMPLINGS)
def test_a_generator_without_norms_keeps_the_scale_of_its_activations(
    shape: tuple[int, int, int], upsample: Upsampling
) -> None:
    """He et al., 2015: the variance before every activation is the same, however deep the network is.

    Over several networks: where neighbouring pixels are alike, so are the taps that read them, and with few channels the
    variance of a single network's layer is drawn from a wide distribution.
    """
    variances: list[list[float]] = []
    images = []
    for _ in range(8):
        generator = DCGANGenerator(norm="none", width=16, max_width=64, upsample=upsample).build(shape)
        of_network: list[float] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, to: list[float] = of_network) -> None:
            to.append(float(output.square().mean()))

        for layer in generator.modules():
            if isinstance(layer, nn.ConvTranspose2d | nn.Conv2d | UpsampleConv2d):
                layer.register_forward_hook(keep)
        with torch.no_grad():
            images.append(generator(torch.randn(8, 100)))
        variances.append(of_network)
    scales = torch.tensor(variances).mean(0).sqrt().tolist()
    assert len(scales) >= 3
    assert all(0.7 < scale < 2.5 for scale in scales), scales
    assert 0.3 < float(torch.cat(images).std()) < 0.9
    assert float((torch.cat(images).abs() > 0.999).float().mean()) < 0.05


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (3, 256, 256)], ids=str)
def test_a_critic_without_norms_keeps_the_scale_of_its_activations(shape: tuple[int, int, int]) -> None:
    critic = DCGANCritic(width=8, max_width=64).build(shape)
    scales: list[float] = []
    for layer in critic.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda module, inputs, output: scales.append(float(output.square().mean().sqrt())))
    with torch.no_grad():
        critic(torch.randn(16, *shape))
    assert all(0.4 < scale < 3.5 for scale in scales), scales


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)], ids=str)
@pytest.mark.parametrize("upsample", UPSAMPLINGS)
def test_a_generator_with_norms_starts_off_the_ends_of_the_tanh(shape: tuple[int, int, int], upsample: Upsampling) -> None:
    with torch.no_grad():
        images = DCGANGenerator(upsample=upsample).build(shape)(torch.randn(16, 100))
    assert 0.05 < float(images.std()) < 0.6
    assert abs(float(images.mean())) < 0.1


def test_biases_start_at_zero() -> None:
    layer = nn.Linear(3, 3)
    init_kaiming(layer)
    assert layer.bias.abs().max() == 0


@pytest.mark.parametrize("bias", [True, False])
def test_the_leaky_relu_layers_are_pytorchs(bias: bool) -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    layer = (BiasLeakyReLU(3, 0.3) if bias else LeakyReLU(0.3)).double()
    shift: Tensor | float = 0.0
    if isinstance(layer, BiasLeakyReLU):
        nn.init.normal_(layer.bias)
        shift = layer.bias.detach().view(1, 3, 1, 1)
    expected = nn.functional.leaky_relu(x + shift, 0.3)
    torch.testing.assert_close(layer(x), expected)
    (ours,), (theirs,) = torch.autograd.grad(layer(x).square().sum(), x), torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(ours, theirs)


def test_what_follows_a_convolution() -> None:
    assert isinstance(activation(4, "none"), BiasLeakyReLU)
    layers: dict[Norm, type[nn.Module]] = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d, "layer": nn.GroupNorm}
    for norm, layer in layers.items():
        assert [type(part) for part in activation(4, norm).children()] == [layer, LeakyReLU]


@pytest.mark.parametrize(("norm", "over"), [("batch", (0, 2, 3)), ("instance", (2, 3)), ("layer", (1, 2, 3))])
def test_what_a_norm_normalises(norm: Literal["batch", "instance", "layer"], over: tuple[int, ...]) -> None:
    x = 3 + 2 * torch.randn(6, 4, 5, 5)
    layer = normalisation(4, norm)
    nn.init.constant_(layer.get_parameter("weight"), 2.0)
    nn.init.constant_(layer.get_parameter("bias"), 0.5)
    var, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    torch.testing.assert_close(layer(x), 2 * (x - mean) / (var + 1e-5).sqrt() + 0.5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "layer"])
@pytest.mark.parametrize("upsample", UPSAMPLINGS)
def test_other_norms_start_as_batch_norm_does_and_see_each_image_alone(norm: Norm, upsample: Upsampling) -> None:
    generator = DCGANGenerator(width=32, norm=norm, upsample=upsample).build((3, 64, 64))
    assert all(p.std().item() == pytest.approx(0.02, rel=0.1) for p in generator.parameters() if p.dim() == 4)
    norms = [layer for layer in generator.modules() if isinstance(layer, nn.InstanceNorm2d | nn.GroupNorm)]
    assert len(norms) == 4
    assert all(layer.weight.std().item() == pytest.approx(0.02, rel=0.6) for layer in norms)
    critic, z = DCGANCritic(width=8, norm=norm).build((3, 64, 64)), torch.randn(4, 100)
    images = generator(z)
    assert 0.05 < float(images.detach().std()) < 0.6
    torch.testing.assert_close(generator(z[:1]), images[:1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(critic(images[:1]), critic(images)[:1], rtol=1e-4, atol=1e-5)
