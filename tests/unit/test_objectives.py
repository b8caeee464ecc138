"""Adversarial losses against their closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigan.objectives import Minimax, NonSaturating, Wasserstein

LOGITS = st.lists(st.floats(-30, 30), min_size=1, max_size=8).map(lambda values: torch.tensor(values, dtype=torch.float64))
ZEROS = torch.zeros(5, dtype=torch.float64)


def test_a_critic_that_knows_nothing() -> None:
    """At D = 1/2 everywhere: log 2 a term (Goodfellow et al., 2014, theorem 1: the value of the game is -log 4)."""
    for objective in (NonSaturating(), Minimax()):
        assert objective.critic(ZEROS, ZEROS).item() == pytest.approx(math.log(4))
    assert NonSaturating().generator(ZEROS).item() == pytest.approx(math.log(2))
    assert Minimax().generator(ZEROS).item() == pytest.approx(-math.log(2))
    assert Wasserstein().critic(ZEROS, ZEROS).item() == Wasserstein().generator(ZEROS).item() == 0


@given(real=LOGITS, fake=LOGITS)
def test_the_critic_of_the_logistic_games_is_a_cross_entropy(real: torch.Tensor, fake: torch.Tensor) -> None:
    expected = -real.sigmoid().log().mean() - (-fake).sigmoid().log().mean()
    for objective in (NonSaturating(), Minimax()):
        torch.testing.assert_close(objective.critic(real, fake), expected)
    torch.testing.assert_close(NonSaturating().generator(fake), -fake.sigmoid().log().mean())


@given(real=LOGITS, fake=LOGITS)
def test_minimax_and_wasserstein_are_zero_sum(real: torch.Tensor, fake: torch.Tensor) -> None:
    """What depends on the fakes cancels: the sum of both losses is a function of the real images alone."""
    for objective in (Minimax(), Wasserstein()):
        total = objective.critic(real, fake) + objective.generator(fake)
        torch.testing.assert_close(total, objective.critic(real, fake + 3) + objective.generator(fake + 3))
        there = fake.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective.critic(real, there) + objective.generator(there), there)
        torch.testing.assert_close(gradient, torch.zeros_like(fake))


@given(real=LOGITS, fake=LOGITS)
def test_wasserstein_is_a_difference_of_means(real: torch.Tensor, fake: torch.Tensor) -> None:
    torch.testing.assert_close(Wasserstein().critic(real, fake), fake.mean() - real.mean())
    torch.testing.assert_close(Wasserstein().generator(fake), -fake.mean())


def test_a_critic_that_wins_takes_the_minimax_generators_gradient_and_not_the_others() -> None:
    logits = torch.full((4,), -20.0, requires_grad=True)
    (saturated,) = torch.autograd.grad(Minimax().generator(logits), logits)
    (alive,) = torch.autograd.grad(NonSaturating().generator(logits), logits)
    assert float(saturated.abs().max()) < 1e-8
    assert alive.tolist() == pytest.approx([-0.25] * 4)


@pytest.mark.parametrize("objective", [NonSaturating(), Minimax(), Wasserstein()])
def test_descent_moves_logits_the_right_way(objective: NonSaturating | Minimax | Wasserstein) -> None:
    real, fake = torch.randn(6, requires_grad=True), torch.randn(6, requires_grad=True)
    up, down = torch.autograd.grad(objective.critic(real, fake), (real, fake))
    (generator,) = torch.autograd.grad(objective.generator(fake), fake)
    assert (up < 0).all()
    assert (down > 0).all()
    assert (generator < 0).all()


@pytest.mark.parametrize("objective", [NonSaturating(), Minimax()])
def test_no_logit_overflows(objective: NonSaturating | Minimax) -> None:
    far = torch.tensor([-1e4, 1e4], requires_grad=True)
    value = objective.critic(far, far) + objective.generator(far)
    (gradient,) = torch.autograd.grad(value, far)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert objective.critic(far, far).item() == pytest.approx(1e4)
