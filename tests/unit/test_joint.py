"""Critics of pairs and critics with two heads: their recorded pullbacks, and that a condition counts."""

import pytest
import torch
from torch import Tensor, nn

from bigan.batch import DataSpec
from bigan.conditions import Caption, Label, OneHot
from bigan.networks.dcgan import DCGANCritic
from bigan.networks.joint import Conditioned, Headed, How, JointCritic, beside, conditional_critic, headed
from bigan.networks.layers import BiasLeakyReLU
from bigan.pullback import obstacle, verify

CRITIC = DCGANCritic(width=4)
SHAPE = (1, 16, 16)
LABELS = torch.tensor([0, 1, 2, 1])


def images(channels: int = 1) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(4, channels, 16, 16, dtype=torch.float64)


def unlike(network: nn.Module) -> nn.Module:
    """With biases that are not 0, of which a pullback could lose one."""
    for layer in network.modules():
        if isinstance(layer, BiasLeakyReLU | nn.Linear) and layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.3)
    return network


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("how", ["projection", "concatenation"])
def test_a_conditional_critic_is_recorded(how: How, spectral_norm: bool) -> None:
    torch.manual_seed(0)
    critic = DCGANCritic(width=4, spectral_norm=spectral_norm)
    verify(unlike(conditional_critic(critic, SHAPE, OneHot(3), 3, how, 8)), images(), LABELS)


def test_a_critic_of_captions_is_recorded() -> None:
    torch.manual_seed(0)
    spec = DataSpec(samples=4, image_shape=SHAPE, caption_bytes=9, words=("blue", "red", "two"))
    given = Caption(width=6, length=3).fit({"real": spec}, "real")
    critic = conditional_critic(CRITIC, SHAPE, given.encoder(), given.size, "concatenation", 8)
    verify(unlike(critic), images(), torch.tensor([[2, 3, 0], [4, 0, 0], [1, 2, 3], [0, 0, 0]]))


def test_a_pair_of_images_is_judged_at_the_input() -> None:
    torch.manual_seed(0)
    critic = JointCritic(nn.Identity(), nn.Identity(), unlike(CRITIC.build((3, 16, 16))))
    verify(critic, images(), images(2))
    one_hot = JointCritic(nn.Identity(), OneHot(3), unlike(CRITIC.build((4, 16, 16))))
    verify(one_hot, images(), LABELS)


def test_two_features_meet_above() -> None:
    """BiGAN's: below and above the pair are networks, and what it is paired with is no image."""
    torch.manual_seed(0)
    above = nn.Sequential(nn.Linear(13, 6), nn.LeakyReLU(), nn.Linear(6, 1), nn.Flatten(0))
    embed = nn.Sequential(nn.Linear(2, 5), nn.LeakyReLU())
    verify(unlike(JointCritic(CRITIC.build(SHAPE, 8), embed, above)), images(), torch.randn(4, 2, dtype=torch.float64))


@pytest.mark.parametrize("hidden", [0, 5])
def test_a_headed_critic_is_its_first_head(hidden: int) -> None:
    torch.manual_seed(0)
    critic = unlike(headed(CRITIC, SHAPE, 8, 3, hidden)).double()
    verify(critic, images())
    logits, outputs = critic(images(), both=True) if isinstance(critic, Headed) else (None, None)
    assert logits is not None
    torch.testing.assert_close(logits, critic(images()))
    assert outputs is not None
    assert outputs.shape == (4, 3)


def test_a_layer_below_that_is_not_known_is_named() -> None:
    critic = JointCritic(nn.Sequential(nn.Flatten(), nn.SiLU()), OneHot(3), nn.Linear(259, 1))
    assert "layer 'below.1' (SiLU)" in str(obstacle(critic))


def test_the_condition_counts() -> None:
    torch.manual_seed(0)
    networks = [
        Conditioned(nn.Linear(2 + 3, 4), OneHot(3)),
        conditional_critic(CRITIC, SHAPE, OneHot(3), 3, "projection", 8),
        conditional_critic(CRITIC, SHAPE, OneHot(3), 3, "concatenation", 8),
    ]
    for network, x in zip(networks, (torch.ones(2, 2), *[torch.ones(2, *SHAPE)] * 2), strict=True):
        first, second = network(x, torch.tensor([0, 1]))
        assert not torch.allclose(first, second)


def test_a_code_stands_at_every_pixel() -> None:
    code = torch.tensor([[1.0, 2.0]])
    joined = beside(torch.zeros(1, 1, 2, 3), code)
    assert joined.shape == (1, 3, 2, 3)
    assert (joined[0, 1] == 1).all()
    assert (joined[0, 2] == 2).all()
    assert torch.equal(beside(torch.zeros(1, 1), code), torch.tensor([[0.0, 1.0, 2.0]]))


def test_labels_have_a_code() -> None:
    given = Label().fit({"real": DataSpec(samples=4, classes=("a", "b", "c"))}, "real")
    assert given.encoder()(LABELS).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
