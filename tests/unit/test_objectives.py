"""Adversarial losses against their closed forms: divergences by quadrature, formulas written out, finite differences."""

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.integrate import quad
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.nn.functional import relu

from bigan.objectives import (
    Adversarial,
    FDivergence,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Objective,
    Pairing,
    Wasserstein,
)

OUTPUTS = st.lists(st.floats(-30, 30), min_size=1, max_size=8).map(lambda values: torch.tensor(values, dtype=torch.float64))
SHAPED = st.tuples(st.floats(-1.5, 1.5), st.floats(0.7, 1.4))
F_NAMES = get_args(FDivergence.__dataclass_fields__["divergence"].type)
F_OBJECTIVES = [FDivergence(divergence=name) for name in F_NAMES]
LABELS = LeastSquares(real=1.5, fake=-0.5, target=0.75)
PAIRINGS: list[Pairing] = ["independent", "relativistic", "relativistic_average"]
RELATIVE = [kind(pairing=pairing) for kind in (NonSaturating, LeastSquares, Hinge) for pairing in PAIRINGS[1:]]
ALONE = [Minimax(), NonSaturating(), LeastSquares(), LABELS, Hinge(), Wasserstein()]
LOGISTIC = [Minimax(), NonSaturating()]
X = torch.linspace(-16, 16, 64_001, dtype=torch.float64)


def density(mean: float, std: float, x: Tensor = X) -> Tensor:
    return torch.exp(-((x - mean) / std).square() / 2) / (std * math.sqrt(2 * math.pi))


def best_output(objective: Adversarial, p: Tensor, q: Tensor) -> Tensor:
    """The critic at which the objective's loss is least, point by point."""
    match objective:
        case FDivergence(divergence=name):
            ratio = p / q
            return {
                "kl": lambda: 1 + ratio.log(), "reverse_kl": ratio.log, "pearson": lambda: 2 * (ratio - 1),
                "squared_hellinger": lambda: ratio.log() / 2, "jensen_shannon": ratio.log, "gan": ratio.log,
                "jeffrey": lambda: 1 + ratio.log() - 1 / ratio,
            }[name]()  # fmt: skip
        case LeastSquares():
            return (objective.real * p + objective.fake * q) / (p + q)
        case Hinge():
            return (p - q).sign()
        case _:
            return (p / q).log()


def loss_at(objective: Adversarial, output: Tensor, p: Tensor, q: Tensor) -> float:
    """E_P first + E_Q second by quadrature."""
    link = objective.link()
    return float(torch.trapezoid(p * link.first(output) + q * link.second(output), X))


def bound_at(objective: Adversarial, output: Tensor, p: Tensor, q: Tensor) -> float:
    link = objective.link()
    return link.offset - link.scale * loss_at(objective, output, p, q)


INTEGRANDS: dict[str, Callable[[float, float], float]] = {
    "KL": lambda p, q: p * math.log(p / q),
    "reverse_KL": lambda p, q: q * math.log(q / p),
    "Pearson": lambda p, q: (p - q) ** 2 / q,
    "squared_Hellinger": lambda p, q: (math.sqrt(p) - math.sqrt(q)) ** 2,
    "JSD": lambda p, q: (p * math.log(2 * p / (p + q)) + q * math.log(2 * q / (p + q))) / 2,
    "Jeffrey": lambda p, q: (p - q) * math.log(p / q),
    "TV": lambda p, q: abs(p - q) / 2,
    "triangular": lambda p, q: (p - q) ** 2 / (p + q),
}


def bell(x: float, mean: float, std: float) -> float:
    return math.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))


def divergence(title: str, one: tuple[float, float], other: tuple[float, float]) -> float:
    """By another quadrature than `loss_at`'s, and from the definition."""
    integrand = INTEGRANDS[title]
    pieces = [(low, low + 4.0) for low in range(-12, 12, 4)]
    return sum(quad(lambda x: integrand(bell(x, *one), bell(x, *other)), *piece)[0] for piece in pieces)


@pytest.mark.parametrize("objective", [*F_OBJECTIVES, *LOGISTIC, Hinge(), LeastSquares(), LABELS], ids=repr)
def test_the_best_critics_loss_is_the_divergence(objective: Adversarial) -> None:
    for one, other in [((0.0, 1.0), (0.5, 1.2)), ((0.3, 0.9), (-0.4, 1.0))]:
        p, q = density(*one), density(*other)
        wanted = divergence(objective.link().divergence, one, other)
        found = bound_at(objective, best_output(objective, p, q), p, q)
        assert wanted > 0.005
        assert found == pytest.approx(wanted, rel=1e-3)


@given(real=OUTPUTS, fake=OUTPUTS)
def test_the_best_lipschitz_critics_estimate_is_scipys_wasserstein_distance(real: Tensor, fake: Tensor) -> None:
    """On the line its slope is the sign of the difference of the distribution functions."""
    points = torch.cat([real, fake]).sort().values
    shares = [(points[:-1, None] >= samples).double().mean(1) for samples in (real, fake)]
    heights = torch.cat([torch.zeros(1), (points.diff() * (shares[1] - shares[0]).sign()).cumsum(0)])
    outputs = [heights[torch.searchsorted(points, samples)] for samples in (real, fake)]
    wanted = wasserstein_distance(real.numpy(), fake.numpy())
    assert Wasserstein().estimate(*outputs)["K*W1"].item() == pytest.approx(wanted, abs=1e-9)


def test_the_closed_forms_of_two_gaussians() -> None:
    """What the quadrature above is worth."""
    (m1, s1), (m2, s2) = one, other = (0.3, 0.9), (-0.4, 1.1)
    kl = math.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
    reverse = math.log(s1 / s2) + (s2**2 + (m1 - m2) ** 2) / (2 * s1**2) - 0.5
    overlap = math.sqrt(2 * s1 * s2 / (s1**2 + s2**2)) * math.exp(-((m1 - m2) ** 2) / (4 * (s1**2 + s2**2)))
    closed = {"KL": kl, "reverse_KL": reverse, "Jeffrey": kl + reverse, "squared_Hellinger": 2 - 2 * overlap}
    for title, value in closed.items():
        assert divergence(title, one, other) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("objective", [*F_OBJECTIVES, *LOGISTIC, Hinge(), LABELS], ids=repr)
@given(slope=st.floats(-2, 2), shift=st.floats(-2, 2))
def test_any_other_critic_bounds_it_from_below(objective: Adversarial, slope: float, shift: float) -> None:
    p, q = density(0.0, 1.0), density(0.4, 1.1)
    best = best_output(objective, p, q)
    assert bound_at(objective, best + slope * X.tanh() + shift, p, q) <= bound_at(objective, best, p, q) + 1e-9


@pytest.mark.parametrize("name", F_NAMES)
def test_against_the_best_critic_the_generator_descends_the_divergence(name: Any) -> None:
    """Its loss's gradient in (μ, σ), the critic held, is the divergence's, by finite differences (of the bound as it is)."""
    objective = FDivergence(divergence=name)
    link, p, (mean, std) = objective.link(), density(0.0, 1.0), (0.5, 1.1)
    best = best_output(objective, p, density(mean, std))

    def bound(mean: float, std: float) -> float:
        q = density(mean, std)
        return -loss_at(objective, best_output(objective, p, q), p, q)

    def loss(mean: float, std: float) -> float:
        return float(torch.trapezoid(density(mean, std) * link.descended(best), X))

    for step in ((1e-4, 0.0), (0.0, 1e-4)):
        sides = [(mean + sign * step[0], std + sign * step[1]) for sign in (1, -1)]
        wanted, found = (function(*sides[0]) - function(*sides[1]) for function in (bound, loss))
        assert abs(wanted) > 1e-6
        assert found == pytest.approx(wanted, rel=1e-3)


@given(one=SHAPED, other=SHAPED, name=st.sampled_from(["jensen_shannon", "gan", "jeffrey", "squared_hellinger"]))
def test_symmetric_divergences_do_not_care_who_is_data(one: tuple[float, float], other: tuple[float, float], name: Any) -> None:
    objective, p, q = FDivergence(divergence=name), density(*one), density(*other)
    there, back = (bound_at(objective, best_output(objective, *pair), *pair) for pair in ((p, q), (q, p)))
    assert there == pytest.approx(back, rel=1e-6, abs=1e-9)
    assert there > -1e-9


@given(real=OUTPUTS, fake=OUTPUTS)
def test_the_independent_losses_written_out(real: Tensor, fake: Tensor) -> None:
    d = torch.sigmoid
    cross_entropy = -d(real).log().mean() - d(-fake).log().mean()
    written: list[tuple[Adversarial, Tensor, Tensor]] = [
        (Minimax(), cross_entropy, d(-fake).log().mean()),
        (NonSaturating(), cross_entropy, -d(fake).log().mean()),
        (FDivergence(divergence="gan"), cross_entropy, d(-fake).log().mean()),
        (FDivergence(divergence="gan", generator_loss="non_saturating"), cross_entropy, -d(fake).log().mean()),
        (Wasserstein(), fake.mean() - real.mean(), -fake.mean()),
        (Hinge(), relu(1 - real).mean() + relu(1 + fake).mean(), -fake.mean()),
        (LeastSquares(), ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2, ((fake - 1) ** 2).mean() / 2),
        (LABELS, ((real - 1.5) ** 2).mean() / 2 + ((fake + 0.5) ** 2).mean() / 2, ((fake - 0.75) ** 2).mean() / 2),
        (FDivergence(divergence="pearson"), -real.mean() + (fake**2 / 4 + fake).mean(), -(fake**2 / 4 + fake).mean()),
    ]
    for objective, critic, generator in written:
        torch.testing.assert_close(objective.critic(real, fake), critic)
        torch.testing.assert_close(objective.generator(fake), generator)
        assert not objective.pairs
        assert not objective.coupled


@given(pairs=st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=1, max_size=6))
def test_the_relativistic_losses_written_out(pairs: list[tuple[float, float]]) -> None:
    """Jolicoeur-Martineau (2019), equations 4, 5 and section 4.2; each side's generator loss is the critic's, exchanged."""
    x, g = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    log_d = torch.nn.functional.logsigmoid
    from_fake, from_real = x - g.mean(), g - x.mean()
    written: list[tuple[Adversarial, Tensor, Tensor]] = [
        (NonSaturating(pairing="relativistic"), -log_d(x - g).mean(), -log_d(g - x).mean()),
        (LeastSquares(pairing="relativistic"), ((x - g - 1) ** 2).mean(), ((g - x - 1) ** 2).mean()),
        (Hinge(pairing="relativistic"), relu(1 - (x - g)).mean(), relu(1 - (g - x)).mean()),
        (NonSaturating(pairing="relativistic_average"),
         -log_d(from_fake).mean() - log_d(-from_real).mean(), -log_d(from_real).mean() - log_d(-from_fake).mean()),
        (LeastSquares(pairing="relativistic_average"),
         ((from_fake - 1) ** 2).mean() + ((from_real + 1) ** 2).mean(),
         ((from_real - 1) ** 2).mean() + ((from_fake + 1) ** 2).mean()),
        (Hinge(pairing="relativistic_average"),
         relu(1 - from_fake).mean() + relu(1 + from_real).mean(), relu(1 - from_real).mean() + relu(1 + from_fake).mean()),
    ]  # fmt: skip
    for objective, critic, generator in written:
        torch.testing.assert_close(objective.critic(x, g), critic)
        torch.testing.assert_close(objective.generator(g, x), generator)
        torch.testing.assert_close(objective.critic(x + 7, g + 7), critic)
        assert objective.pairs
        assert objective.coupled == (objective.pairing == "relativistic_average")
        assert objective.estimate(x, g) == {}
        torch.testing.assert_close(objective.score(x), x)


def test_the_mean_is_the_global_batchs_where_losses_are_coupled() -> None:
    real, fake = torch.randn(6), torch.randn(6)
    for objective in RELATIVE:
        asked: list[Tensor] = []

        def mean(values: Tensor, asked: list[Tensor] = asked) -> Tensor:
            asked.append(values)
            return values.mean() + 0.5

        shifted = objective.critic(real, fake, mean)
        assert [len(values) for values in asked] == ([6, 6] if objective.coupled else [])
        assert torch.equal(shifted, objective.critic(real, fake)) != objective.coupled
        objective.generator(fake, real, mean)
        assert len(asked) == (4 if objective.coupled else 0)


@pytest.mark.parametrize("objective", [*ALONE, *RELATIVE, *F_OBJECTIVES], ids=repr)
def test_gradients_are_finite_differences_and_point_the_right_way(objective: Adversarial) -> None:
    torch.manual_seed(0)
    real, fake = (torch.randn(6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(objective.critic, (real, fake))
    assert torch.autograd.gradgradcheck(objective.critic, (real, fake))
    assert torch.autograd.gradcheck(lambda g: objective.generator(g, real), (fake,))
    half = objective.link().half or 0.0
    real, fake = (torch.full((6,), half, requires_grad=True) for _ in range(2))
    up, down = torch.autograd.grad(objective.critic(real, fake), (real, fake))
    (raised,) = torch.autograd.grad(objective.generator(fake, real.detach()), fake)
    assert (up < 0).all()
    assert (down > 0).all()
    assert (raised < 0).all()


def test_a_critic_that_wins_takes_the_minimax_generators_gradient_and_not_the_others() -> None:
    outputs = torch.full((4,), -20.0, requires_grad=True)
    (saturated,) = torch.autograd.grad(Minimax().generator(outputs), outputs)
    (alive,) = torch.autograd.grad(NonSaturating().generator(outputs), outputs)
    assert float(saturated.abs().max()) < 1e-8
    assert alive.tolist() == pytest.approx([-0.25] * 4)


@pytest.mark.parametrize("objective", [Minimax(), NonSaturating(), *RELATIVE, Hinge(), FDivergence(divergence="gan")], ids=repr)
def test_no_output_overflows(objective: Adversarial) -> None:
    far = torch.tensor([-1e4, 1e4], requires_grad=True)
    value = objective.critic(far, far.flip(0)) + objective.generator(far, far.flip(0))
    (gradient,) = torch.autograd.grad(value, far)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("objective", [*ALONE[:-1], *F_OBJECTIVES], ids=repr)
def test_accuracy_counts_the_sides_of_the_output_that_cannot_tell(objective: Adversarial) -> None:
    half = float(best_output(objective, *(torch.ones(1, dtype=torch.float64),) * 2))
    real, fake = (torch.tensor(values) + half for values in ([-1.0, 1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, 1.0]))
    assert objective.right(real, fake).tolist() == [0.5, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("objective", [Wasserstein(), *RELATIVE], ids=repr)
def test_accuracy_compares_where_outputs_mean_nothing_alone(objective: Adversarial) -> None:
    assert objective.right(torch.tensor([5.0, 6.0, 7.0]), torch.tensor([4.0, 6.0, 8.0])).tolist() == [1.0, 0.0, 0.0]


def test_scores() -> None:
    v = torch.linspace(-4, 4, 9)
    for objective in (*LOGISTIC, FDivergence(divergence="gan")):
        assert objective.probability
        torch.testing.assert_close(objective.score(v), v.sigmoid())
    for objective in (LeastSquares(), Hinge(), Wasserstein(), *RELATIVE, FDivergence(divergence="pearson")):
        assert not objective.probability
        assert torch.equal(objective.score(v), v)
    torch.testing.assert_close(FDivergence(divergence="reverse_kl").score(v), -torch.exp(-v))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "least_squares", "real": 0.0}, r"real: 0.0 must be above fake, 0.0"),
        ({"kind": "least_squares", "pairing": "relativistic", "target": 0.5}, "leave out real, fake and target"),
        ({"kind": "minimax", "pairing": "relativistic"}, "should be 'independent'"),
        ({"kind": "f_divergence", "divergence": "total_variation"}, "divergence"),
        ({"kind": "f_divergence", "pairing": "relativistic_average"}, "should be 'independent'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Objective).validate_python(settings)
