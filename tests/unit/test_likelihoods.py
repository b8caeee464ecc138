"""What decoders say of samples, against torch's distributions and closed forms."""

import math

import pytest
import torch
from torch import distributions

from bigan.games.vae import kl
from bigan.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood

SHAPE = (2, 3, 4)
ALL: list[Likelihood] = [Gaussian(std=0.3), Bernoulli(), Categorical(levels=5)]


def outputs(likelihood: Likelihood, count: int = 6) -> torch.Tensor:
    return torch.randn(count, *likelihood.output(SHAPE), dtype=torch.float64)


def test_the_divergence_from_the_prior_is_torchs() -> None:
    mean, log_variance = torch.randn(2, 5, 3, dtype=torch.float64)
    posterior = distributions.Normal(mean, (log_variance / 2).exp())
    prior = distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(kl(mean, log_variance), distributions.kl_divergence(posterior, prior).sum(1))


def test_a_gaussian_is_a_density() -> None:
    output, samples = torch.randn(2, 6, *SHAPE, dtype=torch.float64)
    expected = -distributions.Normal(output, 0.3).log_prob(samples).flatten(1).sum(1)
    torch.testing.assert_close(Gaussian(std=0.3).nll(output, samples), expected)


def test_black_and_white_are_a_coins_faces() -> None:
    output = outputs(Bernoulli())
    samples = torch.randint(0, 2, output.shape).double()
    expected = -distributions.Bernoulli(logits=output).log_prob(samples).flatten(1).sum(1)
    torch.testing.assert_close(Bernoulli().nll(output, 2 * samples - 1), expected)


def test_levels_are_categories() -> None:
    likelihood, levels = Categorical(levels=5), torch.randint(0, 5, (6, *SHAPE))
    output = outputs(likelihood)
    assert output.shape == (6, 10, 3, 4)
    logits = output.view(6, 5, *SHAPE).movedim(1, -1)
    expected = -distributions.Categorical(logits=logits).log_prob(levels).flatten(1).sum(1)
    torch.testing.assert_close(likelihood.nll(output, levels.double() / 2 - 1), expected)


def test_the_256_levels_of_bytes_are_found_again() -> None:
    likelihood, levels = Categorical(), torch.arange(256).view(1, 1, 16, 16)
    output = torch.nn.functional.one_hot(levels, 256).movedim(-1, 1).flatten(1, 2).float() * 100
    images = levels.float() / 127.5 - 1
    torch.testing.assert_close(likelihood.centre(output), images)
    assert likelihood.nll(output, images).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("likelihood", ALL, ids=lambda it: it.kind)
def test_a_centre_is_an_image(likelihood: Likelihood) -> None:
    centre = likelihood.centre(outputs(likelihood).tanh() if likelihood.bounded else outputs(likelihood))
    assert centre.shape == (6, *SHAPE)
    assert centre.abs().max() <= 1


def test_the_centre_of_a_coin_is_its_mean() -> None:
    output = torch.tensor([[math.log(3.0)]])
    assert Bernoulli().centre(output).item() == pytest.approx(2 * 0.75 - 1)


@pytest.mark.parametrize("levels", [2, 3])
def test_probabilities_sum_to_one(levels: int) -> None:
    likelihood = Categorical(levels=levels)
    output = torch.randn(1, *likelihood.output((1, 1, 2))).expand(levels**2, -1, -1, -1)
    values = torch.linspace(-1, 1, levels)
    every = torch.cartesian_prod(values, values).view(-1, 1, 1, 2)
    assert likelihood.nll(output, every).neg().exp().sum().item() == pytest.approx(1, abs=1e-5)
