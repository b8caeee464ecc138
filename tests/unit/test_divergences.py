"""The table of f-divergences: each row against the definitions of its entries, by other means."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import wrightomega
from torch import Tensor

from bigan.divergences import DIVERGENCES, Name, log_omega

NAMES = list(DIVERGENCES)
RATIOS = torch.logspace(-3, 3, 61, dtype=torch.float64)
OUTPUTS = torch.linspace(-6, 6, 61, dtype=torch.float64)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_of_one_piece(name: Name) -> None:
    row = DIVERGENCES[name]
    t = row.activation(OUTPUTS)
    torch.testing.assert_close(row.composite(OUTPUTS), row.conjugate(t))
    torch.testing.assert_close(row.inverse(t), OUTPUTS)
    u = RATIOS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(row.f(u).sum(), u)
    torch.testing.assert_close(row.derivative(RATIOS), slope)
    torch.testing.assert_close(row.activation(row.optimal(RATIOS)), slope)
    assert row.half == pytest.approx(float(row.optimal(number(1.0))))


@pytest.mark.parametrize("name", NAMES)
def test_f_is_convex_and_a_divergence(name: Name) -> None:
    """f(1) is 0, but of the game of 2014, whose bound begins at -log 4."""
    row = DIVERGENCES[name]
    assert row.scale * float(row.f(number(1.0))) + row.offset == pytest.approx(0.0, abs=1e-15)
    middle = (RATIOS[1:] + RATIOS[:-1]) / 2
    assert (row.f(middle) < (row.f(RATIOS[1:]) + row.f(RATIOS[:-1])) / 2).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_activation_stays_in_the_domain_and_fills_it(name: Name) -> None:
    row = DIVERGENCES[name]
    low, high = row.domain
    t = row.activation(torch.linspace(-30, 30, 201, dtype=torch.float64))
    assert ((low < t) & (t < high)).all()
    assert (t.diff() > 0).all()
    assert t[0] < -20 if low == -math.inf else t[0] < low + 1e-9
    assert t[-1] > 20 if high == math.inf else t[-1] > high - 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_the_conjugate_is_a_supremum(name: Name) -> None:
    """f*(t) = sup of ut - f(u), over u > 0; of Pearson's over all u, as the paper has it."""
    row = DIVERGENCES[name]
    for t in row.activation(OUTPUTS):
        if name == "pearson":
            u = torch.linspace(-10, 10, 2_000_001, dtype=torch.float64)
            found = float((u * t - row.f(u)).max())
        else:
            best = minimize_scalar(
                lambda log_u, t=t: float(row.f(number(math.exp(log_u))) - math.exp(log_u) * t),
                bounds=(-25, 12), method="bounded", options={"xatol": 1e-10},
            )  # fmt: skip
            found = -float(best.fun)
        assert float(row.conjugate(t)) == pytest.approx(found, rel=1e-6, abs=1e-6), float(t)


@given(name=st.sampled_from(NAMES), u=st.floats(1e-3, 1e3), t=st.floats(-20, 20))
def test_young_and_fenchel(name: Name, u: float, t: float) -> None:
    """f(u) + f*(t) ≥ ut, and equal at t = f'(u)."""
    row, ratio = DIVERGENCES[name], number(u)
    best = row.derivative(ratio)
    torch.testing.assert_close(row.f(ratio) + row.conjugate(best), ratio * best, rtol=1e-9, atol=1e-9)
    if row.domain[0] < t < row.domain[1]:
        assert float(row.f(ratio) + row.conjugate(number(t))) >= u * t - 1e-9 * (1 + abs(u * t))


@given(name=st.sampled_from(["squared_hellinger", "jensen_shannon", "jeffrey", "gan"]), u=st.floats(1e-3, 1e3))
def test_what_is_symmetric_is_so(name: Name, u: float) -> None:
    """u·f(1/u) = f(u): the roles of P and Q may be exchanged."""
    f = DIVERGENCES[name].f
    torch.testing.assert_close(u * f(number(1 / u)), f(number(u)), rtol=1e-9, atol=1e-12)


@given(u=st.floats(1e-3, 1e3))
def test_kl_and_its_reverse_make_jeffreys(u: float) -> None:
    kl, reverse, jeffrey = (DIVERGENCES[name].f(number(u)) for name in ("kl", "reverse_kl", "jeffrey"))
    torch.testing.assert_close(u * DIVERGENCES["kl"].f(number(1 / u)), reverse, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(kl + reverse, jeffrey, rtol=1e-9, atol=1e-12)


def test_wrights_omega() -> None:
    x = torch.cat([torch.linspace(-700, 700, 20_001, dtype=torch.float64), torch.linspace(-4, 4, 8_001, dtype=torch.float64)])
    np.testing.assert_allclose(log_omega(x).exp().numpy(), wrightomega(x.numpy()), rtol=1e-12)
    far = torch.tensor([-1e30, -1e4, 1e4, 1e30])
    s = log_omega(far)
    torch.testing.assert_close(s[:2], far[:2])
    torch.testing.assert_close(s[2:], torch.tensor([9.2094, 69.0776]), rtol=1e-5, atol=0)


def test_wrights_omega_can_be_differentiated_again_and_again() -> None:
    x = torch.linspace(-6, 6, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_omega, x)
    assert torch.autograd.gradgradcheck(log_omega, x)
    grad = torch.autograd.grad
    (first,) = grad(log_omega(x).sum(), x, create_graph=True)
    (second,) = grad(first.sum(), x, create_graph=True)
    (third,) = grad(second.sum(), x)
    w = log_omega(x.detach()).exp()
    torch.testing.assert_close(third, -w * (1 - 2 * w) / (1 + w) ** 5)


@pytest.mark.parametrize("name", NAMES)
def test_what_an_objective_takes_can_be_differentiated_twice(name: Name) -> None:
    v = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    for function in (DIVERGENCES[name].activation, DIVERGENCES[name].composite):
        assert torch.autograd.gradcheck(function, v)
        assert torch.autograd.gradgradcheck(function, v)
