"""The seven f-divergences of f-GAN in one table, each by the critic's output activation and the conjugate that its bound takes.

D_f(P‖Q) = ∫ q f(p/q) ≥ E_P T - E_Q f*(T) for any T in the domain of f* (Nowozin et al., f-GAN, 2016, equation 4), T = g(v), v
the critic's raw output (the same, tables 1, 2 and 6). P is the data's distribution, Q the generator's.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Name = Literal["kl", "reverse_kl", "pearson", "squared_hellinger", "jensen_shannon", "jeffrey", "gan"]
Map = Callable[[Tensor], Tensor]

_LOG2 = math.log(2)
_NEWTON_STEPS = 5  # bring float64 to its last bits from where `log_omega` starts, for every finite x


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """One row of the table; all maps are of tensors, elementwise, and differentiable to any order.

    Attributes:
        title: how its estimate is logged.
        f: the generating function, of u = p/q > 0.
        derivative: f'(u), which is the optimal T.
        activation: g(v), of the critic's raw output, into the domain.
        inverse: g⁻¹(t).
        conjugate: f*(t) = sup over u of ut - f(u).
        composite: f*(g(v)) in one piece, which neither overflows early nor cancels.
        domain: the open interval of t on which f* is finite.
        scale, offset: scale · bound + offset is the divergence as `title` usually has it.
    """

    title: str
    f: Map
    derivative: Map
    activation: Map
    inverse: Map
    conjugate: Map
    composite: Map
    domain: tuple[float, float] = (-math.inf, math.inf)
    scale: float = 1.0
    offset: float = 0.0

    def optimal(self, ratio: Tensor) -> Tensor:
        """The raw output v* of the critic for which the bound is tight, of p/q."""
        return self.inverse(self.derivative(ratio))

    @cached_property
    def half(self) -> float:
        """v* where p = q."""
        return self.optimal(torch.ones((), dtype=torch.float64)).item()


class _LogOmega(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # s + e^s is convex and the start lies right of the root, so that Newton's steps fall to it from there.
        s = torch.where(x > 1, x.clamp_min(1).log(), x)
        for _ in range(_NEWTON_STEPS):
            power = s.exp()
            s = s - (s + power - x) / (1 + power)
        ctx.save_for_backward(s)
        return s

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (s,) = ctx.saved_tensors
        return gradients[0] * torch.sigmoid(-s)


def log_omega(x: Tensor) -> Tensor:
    """log ω(x), ω Wright's omega function: the s with s + e^s = x; ω(x) = W(e^x), W Lambert's, but never overflows.

    Differentiable to any order, ds/dx = 1/(1 + e^s) (Corless & Jeffrey, "The Wright omega function", 2002).
    """
    return _LogOmega.apply(x)  # pyright: ignore[reportReturnType]


def _jeffrey_conjugate(t: Tensor) -> Tensor:
    """W(e^{1-t}) + 1/W(e^{1-t}) + t - 2, which at u = 1/W is u - 1 + log u."""
    log_u = -log_omega(1 - t)
    return log_u.expm1() + log_u


def _same(v: Tensor) -> Tensor:
    return v


DIVERGENCES: Mapping[Name, Divergence] = {
    "kl": Divergence(
        title="KL",
        f=lambda u: u * u.log(),
        derivative=lambda u: 1 + u.log(),
        activation=_same,
        inverse=_same,
        conjugate=lambda t: (t - 1).exp(),
        composite=lambda v: (v - 1).exp(),
    ),
    "reverse_kl": Divergence(
        title="reverse_KL",
        f=lambda u: -u.log(),
        derivative=lambda u: -1 / u,
        activation=lambda v: -(-v).exp(),
        inverse=lambda t: -(-t).log(),
        conjugate=lambda t: -1 - (-t).log(),
        composite=lambda v: v - 1,
        domain=(-math.inf, 0.0),
    ),
    # ∫ (p - q)²/q. The conjugate is that over all real u, as in the paper; over u ≥ 0 it would be -1 below t = -2.
    "pearson": Divergence(
        title="Pearson",
        f=lambda u: (u - 1).square(),
        derivative=lambda u: 2 * (u - 1),
        activation=_same,
        inverse=_same,
        conjugate=lambda t: t.square() / 4 + t,
        composite=lambda v: v.square() / 4 + v,
    ),
    # ∫ (√p - √q)², in [0, 2], without the factor ½ that some give it.
    "squared_hellinger": Divergence(
        title="squared_Hellinger",
        f=lambda u: (u.sqrt() - 1).square(),
        derivative=lambda u: 1 - u.rsqrt(),
        activation=lambda v: -(-v).expm1(),
        inverse=lambda t: -(-t).log1p(),
        conjugate=lambda t: t / (1 - t),
        composite=lambda v: v.expm1(),
        domain=(-math.inf, 1.0),
    ),
    # The paper's is KL(p‖m) + KL(q‖m), m = (p + q)/2: twice the usual one.
    "jensen_shannon": Divergence(
        title="JSD",
        f=lambda u: u * u.log() - (1 + u) * ((1 + u) / 2).log(),
        derivative=lambda u: (2 * u / (1 + u)).log(),
        activation=lambda v: _LOG2 + F.logsigmoid(v),
        inverse=lambda t: t - (2 - t.exp()).log(),
        conjugate=lambda t: -(2 - t.exp()).log(),
        composite=lambda v: F.softplus(v) - _LOG2,
        domain=(-math.inf, _LOG2),
        scale=0.5,
    ),
    # KL(p‖q) + KL(q‖p).
    "jeffrey": Divergence(
        title="Jeffrey",
        f=lambda u: (u - 1) * u.log(),
        derivative=lambda u: 1 - 1 / u + u.log(),
        activation=_same,
        inverse=_same,
        conjugate=_jeffrey_conjugate,
        composite=_jeffrey_conjugate,
    ),
    # 2·JSD - log 4: the value of the game of 2014.
    "gan": Divergence(
        title="JSD",
        f=lambda u: u * u.log() - (1 + u) * u.log1p(),
        derivative=lambda u: (u / (1 + u)).log(),
        activation=F.logsigmoid,
        inverse=lambda t: t - (-t.expm1()).log(),
        conjugate=lambda t: -(-t.expm1()).log(),
        composite=F.softplus,
        domain=(-math.inf, 0.0),
        scale=0.5,
        offset=_LOG2,
    ),
}
