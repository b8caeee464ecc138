"""Networks of translation: shapes, sizes that are refused, and what an output pixel sees of the input."""

import pytest
import torch
from torch import Tensor, nn

from bigan.networks import Translator
from bigan.networks.layers import Norm
from bigan.networks.mlp import MLPNorm, MLPTranslator
from bigan.networks.patch import PatchCritic
from bigan.networks.resnet import ResNetTranslator
from bigan.networks.unet import UNet
from bigan.pullback import obstacle, verify

CONVOLUTIONAL: list[UNet | ResNetTranslator] = [UNet(width=4), ResNetTranslator(width=4, blocks=2)]
TRANSLATORS: list[Translator] = [*CONVOLUTIONAL, MLPTranslator(width=4), MLPTranslator(depth=0)]
NORMS: list[Norm] = ["batch", "instance", "layer", "none"]


def seen(network: nn.Module, x: Tensor, at: tuple[int, ...]) -> Tensor:
    """Which pixels [H, W] of the input one value of the output depends on."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[at], x)
    return gradient[0].abs().sum(0) > 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("translator", CONVOLUTIONAL, ids=lambda it: it.kind)
@pytest.mark.parametrize("size", [(16, 16), (32, 48)], ids=str)
def test_a_translator_keeps_the_size(translator: UNet | ResNetTranslator, size: tuple[int, int], norm: Norm) -> None:
    network = type(translator)(width=4, norm=norm).build((1, *size), (3, *size))
    images = network(torch.randn(2, 1, *size))
    assert images.shape == (2, 3, *size)
    assert images.abs().max() <= 1
    images.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("translator", TRANSLATORS, ids=lambda it: it.kind)
def test_one_image_is_a_batch_too(translator: Translator) -> None:
    network = translator.build((1, 16, 16), (1, 16, 16))
    both = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(network(both[:1]), network(both)[:1])


@pytest.mark.parametrize("translator", CONVOLUTIONAL, ids=lambda it: it.kind)
def test_a_translator_refuses_sizes(translator: Translator) -> None:
    for source, target in (((1, 15, 15), (1, 15, 15)), ((1, 16, 16), (1, 32, 32))):
        with pytest.raises(ValueError, match=rf"images of {source[1]}x{source[1]} and .* do not fit .*must be of one"):
            translator.build(source, target)


@pytest.mark.parametrize("translator", TRANSLATORS, ids=lambda it: it.kind)
def test_a_plane_of_one_value_is_seen(translator: Translator) -> None:
    """The code of a condition is such; instance norm of the first layer would take it away, and StarGAN would be blind."""
    network = translator.build((2, 16, 16), (1, 16, 16))
    x = torch.randn(1, 2, 16, 16)
    x[:, 1] = 0.0
    other = x.clone()
    other[:, 1] = 1.0
    assert (network(x) - network(other)).abs().max() > 1e-3


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_a_perceptron_translates_between_any_sizes(norm: MLPNorm) -> None:
    images = MLPTranslator(width=4, depth=2, norm=norm).build((1, 5, 6), (3, 7, 8))(torch.randn(2, 1, 5, 6))
    assert images.shape == (2, 3, 7, 8)
    assert images.abs().max() <= 1


def test_without_hidden_layers_it_is_linear() -> None:
    network = MLPTranslator(depth=0, bounded=False).build((1, 4, 4), (1, 4, 4))
    one, other, none = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    torch.testing.assert_close(network(one) + network(other), network(one + other) + network(none))
    assert network(1000 * one).abs().max() > 1
    assert network.eval()(1000 * one).abs().max() == 1
    assert seen(network, one, (0, 0, 3, 3)).all()


def test_a_unet_is_as_deep_as_the_size_allows() -> None:
    for height, depth in ((16, 4), (24, 3), (64, 5), (6, 1)):
        network = UNet(width=4, depth=5).build((1, height, height), (1, height, height))
        assert len([*network.get_submodule("down").children()]) == depth
        assert network(torch.randn(2, 1, height, height)).shape[-1] == height


def test_a_unet_sees_details_through_its_skips_and_the_whole_image_below() -> None:
    network = UNet(width=4, norm="none").build((1, 32, 32), (1, 32, 32))
    assert seen(network, torch.randn(1, 1, 32, 32), (0, 0, 0, 0)).float().mean() > 0.9


def test_dropout_is_of_three_layers_and_of_training_alone() -> None:
    network = UNet(width=4, dropout=0.5).build((1, 64, 64), (1, 64, 64))
    assert sum(isinstance(layer, nn.Dropout) for layer in network.modules()) == 3
    x = torch.randn(1, 1, 64, 64)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_has_its_size(layers: int, field: int) -> None:
    network = PatchCritic(width=2, layers=layers, norm="none").build((1, 160, 160))
    logits = network(torch.zeros(1, 1, 160, 160))
    middle = (0, logits.shape[1] // 2, logits.shape[2] // 2)
    patch = seen(network, torch.randn(1, 1, 160, 160), middle)
    assert patch.any(0).sum() == field
    assert patch.any(1).sum() == field


def test_outputs_are_the_mean_of_the_patches() -> None:
    settings = PatchCritic(width=4, layers=2)
    patches, mean = settings.build((3, 24, 32)), settings.build((3, 24, 32), 1)
    mean.load_state_dict(patches.state_dict())
    images = torch.randn(2, 3, 24, 32)
    assert patches(images).shape == (2, 4, 6)
    torch.testing.assert_close(mean(images)[:, 0], patches(images).mean((1, 2)))
    assert settings.build((3, 24, 32), 5)(images).shape == (2, 5)


@pytest.mark.parametrize(("size", "layers", "most"), [(23, 3, "set layers to 2"), (5, 1, "pack them at 6 or more")])
def test_a_patch_critic_refuses_small_images(size: int, layers: int, most: str) -> None:
    with pytest.raises(ValueError, match=f"images of {size}x{size} are too small for {layers} layers .*{most}"):
        PatchCritic(layers=layers).build((3, size, size))
    with pytest.raises(ValueError, match=r"samples of shape \[2\] are no images"):
        PatchCritic().build((2,))


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_patch_critic_with_outputs_is_recorded(spectral_norm: bool) -> None:
    critic = PatchCritic(width=4, layers=2, norm="none", spectral_norm=spectral_norm).build((3, 16, 16), 1)
    critic = nn.Sequential(critic, nn.Flatten(0))
    assert obstacle(critic) is None
    verify(critic, torch.randn(3, 3, 16, 16))
