"""Gradient penalties: closed forms, the gradient itself, and the derivative that passes through it."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional as F

from bigan.batch import Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.game import Context
from bigan.games.gan import GAN
from bigan.games.wgan_gp import WGANGP
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.networks.layers import BiasLeakyReLU
from bigan.penalties import (
    DRAGAN,
    R1,
    R2,
    GradientPenalty,
    Penalty,
    WGANDiv,
    mix,
    norm,
    squared_norm,
    with_gradient,
)

SHAPE = (2, 8, 12)


def linear_critic(length: float) -> nn.Module:
    """⟨w, x⟩ with ‖w‖ = length, whose gradient is w everywhere."""
    layer = nn.Linear(192, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.mul_(length / layer.weight.norm())
    return nn.Sequential(nn.Flatten(1), layer, nn.Flatten(0))


def images(count: int = 5) -> Tensor:
    return torch.randn(count, *SHAPE, dtype=torch.float64)


def dcgan() -> nn.Sequential:
    critic = DCGANCritic(width=4).build(SHAPE).double()
    assert isinstance(critic, nn.Sequential)
    for layer in critic:
        if isinstance(layer, BiasLeakyReLU):
            nn.init.normal_(layer.bias)
    return critic


class Plain(nn.Module):
    """The same critic, with PyTorch's own leaky ReLU."""

    def __init__(self, critic: nn.Sequential) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.critic:
            x = F.leaky_relu(x + layer.bias.view(1, -1, 1, 1), layer.slope) if isinstance(layer, BiasLeakyReLU) else layer(x)
        return x


@pytest.mark.parametrize("penalty", [R1(weight=3.0), R2(weight=3.0)])
@pytest.mark.parametrize("length", [0.0, 0.5, 2.0])
def test_r1_and_r2_of_a_linear_critic(penalty: R1 | R2, length: float) -> None:
    critic = linear_critic(length)
    _, gradient = with_gradient(critic, images())
    assert penalty(gradient).item() == pytest.approx(3.0 / 2 * length**2)


@pytest.mark.parametrize(("length", "expected"), [(1.0, 0.0), (0.0, 10.0), (3.0, 40.0), (0.5, 2.5)])
def test_the_gradient_penalty_of_a_linear_critic(length: float, expected: float) -> None:
    _, gradient = with_gradient(linear_critic(length), images())
    assert GradientPenalty()(gradient).item() == pytest.approx(expected, abs=1e-12)


def test_a_penalty_is_a_mean_over_samples_of_unlike_gradients() -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert squared_norm(gradient).tolist() == [25.0, 4.0]
    assert norm(gradient).tolist() == [5.0, 2.0]
    assert R1(weight=2.0)(gradient).item() == 14.5
    assert GradientPenalty(weight=2.0)(gradient).item() == 17.0


def test_the_derivative_at_a_vanishing_gradient_is_zero() -> None:
    gradient = torch.zeros(3, 4, dtype=torch.float64)
    gradient[1] = 2.0
    gradient.requires_grad_()
    (derivative,) = torch.autograd.grad(GradientPenalty()(gradient), gradient)
    assert derivative.isfinite().all()
    assert derivative[0].abs().max() == derivative[2].abs().max() == 0
    torch.testing.assert_close(derivative[1], torch.full((4,), 10 * 2 * (4 - 1) * 0.5 / 3, dtype=torch.float64))


def test_norms_of_half_precision_are_taken_in_float32() -> None:
    gradient = torch.full((2, 100_000), 1e-3, dtype=torch.bfloat16)
    assert squared_norm(gradient).dtype == torch.float32
    assert squared_norm(gradient)[0].item() == pytest.approx(100_000 * gradient[0, 0].item() ** 2, rel=1e-4)


def test_mixed_points_lie_on_the_line() -> None:
    real, fake, at = images(3), images(3), torch.tensor([0.0, 0.25, 1.0])
    mixed = mix(real, fake, at)
    torch.testing.assert_close(mixed[0], fake[0])
    torch.testing.assert_close(mixed[1], 0.25 * real[1] + 0.75 * fake[1])
    torch.testing.assert_close(mixed[2], real[2])
    assert mixed.dtype == torch.float64


def test_the_gradient_is_each_samples_own() -> None:
    critic, x = dcgan(), images()
    logits, gradient = with_gradient(critic, x)
    parameters = dict(critic.named_parameters())

    def logit(image: Tensor) -> Tensor:
        return functional_call(Plain(critic), {f"critic.{name}": p for name, p in parameters.items()}, (image[None],))[0]

    torch.testing.assert_close(logits, critic(x))
    torch.testing.assert_close(gradient, vmap(jacrev(logit))(x), rtol=1e-10, atol=1e-12)
    assert not x.requires_grad


def test_a_condition_reaches_the_critic() -> None:
    class Conditional(nn.Module):
        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return (x.flatten(1).sum(1) * label).double()

    label = torch.tensor([2.0, 3.0])
    logits, gradient = with_gradient(Conditional(), torch.ones(2, 3), label)
    assert logits.tolist() == [6.0, 9.0]
    assert gradient.tolist() == [[2.0] * 3, [3.0] * 3]


@pytest.mark.parametrize("penalty", [R1(), R2(), GradientPenalty()])
def test_the_penalty_trains_the_dcgan_critic_as_plain_autograd_would(penalty: Penalty) -> None:
    critic, x = dcgan(), images()

    def gradients(network: nn.Module) -> list[Tensor]:
        logits, gradient = with_gradient(network, x)
        loss = F.softplus(-logits).mean() + penalty(gradient)
        found = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True, materialize_grads=True)
        return list(found)

    ours, plain = gradients(critic), gradients(Plain(critic))
    scale = torch.cat([g.flatten() for g in plain]).norm()
    assert scale > 0.01
    for one, other in zip(ours, plain, strict=True):
        assert (one - other).norm() <= 1e-10 * scale


@pytest.mark.parametrize("length", [0.5, 3.0])
def test_the_one_sided_penalty_spares_short_gradients(length: float) -> None:
    _, gradient = with_gradient(linear_critic(length), images())
    assert GradientPenalty(one_sided=True)(gradient).item() == pytest.approx(10 * max(length - 1, 0) ** 2)


def test_wgan_div_of_a_linear_critic() -> None:
    _, gradient = with_gradient(linear_critic(1.5), images())
    assert WGANDiv(weight=2.0, power=6.0)(gradient).item() == pytest.approx(2 * 1.5**6)


def test_dragan_looks_near_the_real_images() -> None:
    """One network evaluation less: the points are the real images plus normal noise of the given spread."""
    rules = GAN(generator=DCGANGenerator(latent=3, width=4), critic=DCGANCritic(width=4), penalties=(DRAGAN(spread=0.3),))
    ctx, twin = context(rules), context(rules)
    terms = rules.critic_loss(ctx)
    near = ctx.batch("real").images + 0.3 * twin.normal("near", 1, 8, 8)
    torch.testing.assert_close(terms["dragan"], DRAGAN()(with_gradient(ctx.players["critic"], near)[1]))


def context(game: GAN, step: int = 0) -> Context:
    built = game.build({"real": DataSpec(samples=4, image_shape=(1, 8, 8))})
    real = torch.rand(4, 1, 8, 8) * 2 - 1
    return Context(
        players=built.players,
        batches={"real": Batch(torch.arange(4), {"images": real})},
        draws=Draws((1,), 0, 4, torch.device("cpu")),
        clock=Clock(batch=4),
        state=built.state,
        step=step,
    )


def test_the_game_of_two_takes_each_penalty_where_it_belongs() -> None:
    """R1 at real images, R2 at fakes, the two-sided penalty on keyed lines between them; the generator gets no gradient."""
    rules = GAN(
        generator=DCGANGenerator(latent=3, width=4), critic=DCGANCritic(width=4), penalties=(R1(), R2(), GradientPenalty())
    )
    ctx = context(rules)
    terms = rules.critic_loss(ctx)
    twin = context(rules)
    critic, real = ctx.players["critic"], ctx.batch("real").images
    with torch.no_grad():
        fake = ctx.players["generator"](twin.normal("latent", 3))
    line = mix(real, fake, twin.uniform("mix"))
    for penalty, points in ((R1(), real), (R2(), fake), (GradientPenalty(), line)):
        torch.testing.assert_close(terms[penalty.kind], penalty(with_gradient(critic, points)[1]))
    sum(terms.values(), start=torch.zeros(())).backward()
    assert all(p.grad is None for p in ctx.players["generator"].parameters())
    assert set(rules.critic_loss(context(rules, step=1))) == {"adversarial", "r1", "r2", "gradient_penalty"}
    lazy = GAN(generator=rules.generator, critic=rules.critic, penalties=(R1(every=2),))
    ctx = context(lazy, step=1)
    terms = lazy.critic_loss(ctx)
    assert set(terms) == {"adversarial"}
    terms["adversarial"].backward()
    assert all(p.grad is None for p in ctx.players["generator"].parameters())


def test_a_penalty_needs_a_critic_that_judges_each_image_alone() -> None:
    with pytest.raises(ValueError, match=r"critic\.norm: a gradient penalty"):
        GAN(critic=DCGANCritic(norm="batch"), penalties=(R1(),))
    with pytest.raises(ValueError, match="name each kind once"):
        GAN(penalties=(R1(), R1(every=4)))
    with pytest.raises(ValueError, match=r"critic\.norm: a gradient penalty"):
        WGANGP(critic=DCGANCritic(norm="batch"))
