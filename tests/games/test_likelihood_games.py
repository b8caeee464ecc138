"""The autoencoder and the VAE: what they descend, and what of it reaches the encoder."""

import pytest
import torch
from torch import Tensor, nn

from bigan.batch import ArraySpec, Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.game import Context, Game
from bigan.games.autoencoder import Autoencoder
from bigan.games.vae import VAE, Variational
from bigan.likelihoods import Categorical, Gaussian
from bigan.networks import Critic, Generator
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.networks.minibatch import MinibatchDiscrimination
from bigan.networks.mlp import MLPCritic, MLPGenerator

IMAGES = {"real": DataSpec(samples=8, image_shape=(1, 4, 4))}
POINTS = {"real": DataSpec(samples=8, arrays=(ArraySpec(name="points", shape=(2,), dtype="float32"),))}
ENCODER, DECODER = MLPCritic(width=8, depth=1), MLPGenerator(latent=3, width=8, depth=1)


def context(game: Game, fields: dict[str, Tensor]) -> Context:
    count = len(next(iter(fields.values())))
    return Context(
        players=game.players, batches={"real": Batch(torch.arange(count), fields)}, state=game.state,
        draws=Draws((0,), 0, count, torch.device("cpu")), clock=Clock(batch=count),
    )  # fmt: skip


class Line(nn.Module):
    """q(z | x) = N(a x, s²): x [N, 1] → [N, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.log_variance = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-1.0))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.slope * x, self.log_variance.expand(len(x), 1)], 1)


def test_the_bound_of_a_linear_model_is_its_closed_form() -> None:
    """p(z) = N(0, 1), p(x | z) = N(w z, σ²): E log p(x | z) = log N(x; w a x, σ²) - w² s² / 2σ² (Kingma & Welling, 2014)."""
    encoder, weight, std = Line(), 1.5, 0.7
    decoder = nn.Linear(1, 1, bias=False)
    nn.init.constant_(decoder.weight, weight)
    game = VAE(likelihood=Gaussian(std=std))
    x = torch.full((200_000, 1), 0.8)
    network = Variational(encoder, decoder)
    ctx = context(Game(players={"vae": network}, moves=(), sample=lambda ctx: {}), {"points": x})
    one_latent = VAE(decoder=MLPGenerator(latent=1), likelihood=game.likelihood)
    terms = one_latent.loss(ctx)
    mean, variance = 0.5 * 0.8, torch.tensor(-1.0).exp().item()
    density = torch.distributions.Normal(weight * mean, std).log_prob(torch.tensor(0.8)).item()
    exact = -density + weight**2 * variance / (2 * std**2)
    divergence = (mean**2 + variance - 1 + 1.0) / 2
    torch.testing.assert_close(terms["KL"].item(), divergence, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(terms["reconstruction"].item(), exact, atol=0.02, rtol=0)
    evidence = torch.distributions.Normal(0.0, (weight**2 + std**2) ** 0.5).log_prob(torch.tensor(0.8)).item()
    assert -(exact + divergence) < evidence  # a lower bound, which q's own shape does not reach


def test_gradients_reach_the_encoder_through_the_draw() -> None:
    """d/da E (x - w z)² = -2 w x (x - w a x) and d/d(log s²) = w² s², which a score-function estimate would give noisily."""
    encoder, decoder = Line(), nn.Linear(1, 1, bias=False)
    nn.init.constant_(decoder.weight, 1.5)
    x = torch.full((200_000, 1), 0.8)
    noise = Draws((1,), 0, len(x), torch.device("cpu")).normal("noise", 1)
    output, _, _ = Variational(encoder, decoder)(x, noise)
    (x - output).square().mean().backward()
    assert encoder.slope.grad is not None
    assert encoder.log_variance.grad is not None
    torch.testing.assert_close(encoder.slope.grad.item(), -2 * 1.5 * 0.8 * (0.8 - 1.5 * 0.4), atol=0.02, rtol=0)
    torch.testing.assert_close(encoder.log_variance.grad.item(), 1.5**2 * torch.tensor(-1.0).exp().item(), atol=0.02, rtol=0)


def test_beta_weighs_the_divergence_alone() -> None:
    images = torch.rand(4, 1, 4, 4) * 2 - 1
    plain, heavy = (VAE(encoder=ENCODER, decoder=DECODER, beta=beta) for beta in (1.0, 3.0))
    game = plain.build(IMAGES)
    once, thrice = (settings.loss(context(game, {"images": images})) for settings in (plain, heavy))
    torch.testing.assert_close(thrice["KL"], 3 * once["KL"])
    torch.testing.assert_close(thrice["reconstruction"], once["reconstruction"])


def test_a_categorical_decoder_learns_levels_and_samples_them() -> None:
    """Discrete data have a gradient: the loss is a function of probabilities, and not of the levels drawn from them."""
    settings = VAE(encoder=ENCODER, decoder=DECODER, likelihood=Categorical(levels=3))
    game = settings.build(IMAGES)
    images = (torch.arange(64).view(4, 1, 4, 4) % 3 - 1).float()
    optimizer = torch.optim.Adam(game.players["vae"].parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        terms = settings.loss(context(game, {"images": images}))
        loss = torch.stack([*terms.values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    samples = game.sample(context(game, {"images": images}))["images"]
    assert samples.shape == images.shape
    assert set(samples.unique().tolist()) <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("encoder", [DCGANCritic(width=4), MLPCritic(width=4)], ids=lambda it: it.kind)
def test_a_critics_network_is_an_encoder(encoder: Critic) -> None:
    images = torch.randn(3, 1, 16, 16)
    assert encoder.build((1, 16, 16))(images).shape == (3,)
    assert encoder.build((1, 16, 16), 5)(images).shape == (3, 5)
    assert encoder.build((1, 16, 16), 1)(images).shape == (3, 1)


@pytest.mark.parametrize("decoder", [DCGANGenerator(latent=3, width=4, norm="none"), DECODER], ids=lambda it: it.kind)
def test_a_generators_network_says_logits_or_images(decoder: Generator) -> None:
    z = 50 * torch.randn(8, 3)
    assert decoder.build((1, 16, 16))(z).abs().max() <= 1
    assert decoder.build((4, 16, 16), bounded=False)(z).abs().max() > 1


def test_points_are_no_categories() -> None:
    with pytest.raises(ValueError, match=r"likelihood: categorical is one of images, and data\.real has none; set gaussian"):
        VAE(encoder=ENCODER, decoder=DECODER, likelihood=Categorical(levels=2)).build(POINTS)


def test_points_are_decoded_without_bounds() -> None:
    game = Autoencoder(encoder=ENCODER, decoder=DECODER).build(POINTS)
    with torch.no_grad():
        for parameter in game.players["autoencoder"].parameters():
            parameter.mul_(10)
    samples = game.sample(context(game, {"points": torch.zeros(64, 2)}))["points"]
    assert samples.shape == (64, 2)
    assert samples.abs().max() > 1


def test_an_autoencoder_descends_its_squared_error() -> None:
    game = Autoencoder(encoder=ENCODER, decoder=DECODER).build(IMAGES)
    images = torch.rand(4, 1, 4, 4)
    (term,) = game.moves[0].loss(context(game, {"images": images})).values()
    made = game.players["autoencoder"](images)
    torch.testing.assert_close(term, (made - images).square().sum((1, 2, 3)).mean() / 16)


@pytest.mark.parametrize("kind", [VAE, Autoencoder])
def test_an_encoder_that_compares_samples_is_given_whole_groups(kind: type[VAE | Autoencoder]) -> None:
    encoder = MLPCritic(width=8, depth=1, minibatch=MinibatchDiscrimination(group=4))
    assert [move.group for move in kind(encoder=encoder, decoder=DECODER).build(POINTS).moves] == [4]
    assert [move.group for move in kind(encoder=ENCODER, decoder=DECODER).build(POINTS).moves] == [1]
