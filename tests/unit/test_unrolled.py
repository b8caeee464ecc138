"""The generator's look ahead: k differentiable steps of the critic, against a loop by hand and finite differences."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from bigan.batch import ArraySpec, Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.game import Context
from bigan.games.gan import GAN
from bigan.games.unrolled import Judge, Unroll, ahead
from bigan.networks.mlp import MLPCritic, MLPGenerator
from bigan.objectives import FDivergence, Minimax, NonSaturating, Wasserstein
from bigan.penalties import R1

OBJECTIVE = NonSaturating()


def over_batch(values: Tensor) -> Tensor:
    return values.mean(0)


def network(activation: str = "tanh", **changes: object) -> nn.Module:
    critic = MLPCritic(width=6, depth=2, activation=activation, **changes).build((2,)).double()  # pyright: ignore[reportArgumentType]
    for parameter in critic.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.3)
    return critic


def looked(
    critic: nn.Module, real: Tensor, fake: Tensor, unroll: Unroll, mean: Callable[[Tensor], Tensor] = over_batch
) -> Judge:
    return ahead(unroll, critic, lambda judge: OBJECTIVE.critic(judge(real), judge(fake)), mean)


def points(count: int = 7) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 2, dtype=torch.float64), torch.randn(count, 2, dtype=torch.float64)


def perceptron(weights: list[Tensor], x: Tensor) -> Tensor:
    """The network above, by hand."""
    first, a, second, b, last, c = weights
    return (torch.tanh(torch.tanh(x @ first.T + a) @ second.T + b) @ last.T + c).squeeze(1)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_gradient_is_that_of_a_loop_by_hand(steps: int) -> None:
    critic, (real, fake) = network(), points()
    fake.requires_grad_()
    weights = [p.detach().clone().requires_grad_() for p in critic.parameters()]
    for _ in range(steps):
        loss = F.softplus(-perceptron(weights, real)).mean() + F.softplus(perceptron(weights, fake)).mean()
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        weights = [w - 0.4 * g for w, g in zip(weights, gradients, strict=True)]
    (wanted,) = torch.autograd.grad(OBJECTIVE.generator(perceptron(weights, fake)), fake)
    judge = looked(critic, real, fake, Unroll(steps=steps, lr=0.4))
    (found,) = torch.autograd.grad(OBJECTIVE.generator(judge(fake)), fake)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    (plain,) = torch.autograd.grad(OBJECTIVE.generator(critic(fake)), fake)
    still = looked(critic, real, fake.detach(), Unroll(steps=steps, lr=0.4))
    (half,) = torch.autograd.grad(OBJECTIVE.generator(still(fake)), fake)
    assert float((plain - wanted).norm()) > 0.05 * float(wanted.norm())
    assert float((half - wanted).norm()) > 0.01 * float(wanted.norm()), "the term that looks ahead is there"


@pytest.mark.parametrize("activation", ["tanh", "softplus", "leaky_relu"])
def test_the_gradient_is_that_of_finite_differences(activation: str) -> None:
    critic, (real, fake) = network(activation), points(4)

    def loss(fake: Tensor) -> Tensor:
        return OBJECTIVE.generator(looked(critic, real, fake, Unroll(steps=2, lr=0.5))(fake))

    fake.requires_grad_()
    (found,) = torch.autograd.grad(loss(fake), fake)
    wanted = torch.zeros_like(found)
    for index in range(fake.numel()):
        step = torch.zeros(fake.numel(), dtype=torch.float64)
        step[index] = 1e-6
        step = step.view_as(fake)
        wanted.view(-1)[index] = (loss(fake.detach() + step) - loss(fake.detach() - step)).detach() / 2e-6
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_the_steps_are_those_of_the_critic_and_leave_no_trace(spectral_norm: bool) -> None:
    critic, (real, fake) = network(spectral_norm=spectral_norm), points()
    before = copy.deepcopy(critic.state_dict())
    twin = copy.deepcopy(critic)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.3)
    for _ in range(3):
        optimizer.zero_grad()
        OBJECTIVE.critic(twin(real), twin(fake)).backward()
        optimizer.step()
    judge = looked(critic, real, fake, Unroll(steps=3, lr=0.3))
    torch.testing.assert_close(judge(real), twin(real), rtol=1e-10, atol=1e-12)
    judge(real).sum().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in critic.state_dict().items())
    assert all(parameter.grad is None for parameter in critic.parameters())


@dataclass
class Ranks:
    """The mean over two ranks that play one after the other: the first records, the second has its partner's share."""

    others: list[Tensor]
    seen: list[Tensor]

    def mean(self, values: Tensor) -> Tensor:
        mine = values.mean(0)
        self.seen.append(mine)
        return (mine + self.others[len(self.seen) - 1]) / 2


def test_two_ranks_step_as_one() -> None:
    critic, (real, fake) = network(), points(8)
    unroll = Unroll(steps=1, lr=0.5)
    halves = [(real[:4], fake[:4]), (real[4:], fake[4:])]
    shares: list[Tensor] = []
    for half in halves:
        looked(critic, *half, unroll, lambda values: shares.append(values.mean(0)) or values.mean(0))
    ranks = [Ranks([shares[1 - n]], []) for n in range(2)]
    judges = [looked(critic, *half, unroll, rank.mean) for half, rank in zip(halves, ranks, strict=True)]
    whole = looked(critic, real, fake, unroll)
    for judge in judges:
        torch.testing.assert_close(judge(real), whole(real), rtol=1e-10, atol=1e-12)
    assert all(len(rank.seen) == 1 for rank in ranks), "one collective a step"


def test_under_autocast_steps_are_in_float32() -> None:
    critic = network("leaky_relu").float()
    real, fake = (x.float() for x in points(64))
    fake.requires_grad_()
    exact = OBJECTIVE.generator(looked(critic, real, fake, Unroll(steps=3, lr=0.3))(fake))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = OBJECTIVE.generator(looked(critic, real, fake, Unroll(steps=3, lr=0.3))(fake).float())
    assert float(rounded.detach()) == pytest.approx(float(exact.detach()), rel=0.05)
    wanted, found = (torch.autograd.grad(loss, fake)[0] for loss in (exact, rounded))
    assert float((found - wanted).norm()) < 0.2 * float(wanted.norm())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"penalties": (R1(),)}, "looks ahead by the objective alone"),
        ({"critic": MLPCritic(norm="batch")}, "looks ahead by the objective alone"),
        ({"objective": NonSaturating()}, "descends what the critic ascends"),
        ({"objective": FDivergence(generator_loss="non_saturating")}, "descends what the critic ascends"),
    ],
    ids=str,
)
def test_what_cannot_be_unrolled_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"unroll: .*{reason}"):
        GAN(**{"generator": MLPGenerator(), "critic": MLPCritic(), "unroll": Unroll(), "objective": Minimax(), **changes})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("objective", [Minimax(), Wasserstein(), FDivergence(divergence="kl")], ids=lambda it: it.kind)
def test_the_games_generator_descends_the_value_after_k_steps(objective: Minimax | Wasserstein | FDivergence) -> None:
    """Whose real term counts: it depends on the generator through the steps."""
    points = DataSpec(samples=64, arrays=(ArraySpec(name="points", shape=(2,), dtype="float32"),))
    game = GAN(
        generator=MLPGenerator(latent=3, width=8),
        critic=MLPCritic(width=8),
        objective=objective,
        unroll=Unroll(steps=2, lr=0.2),
    )
    built = game.build({"real": points})
    generator, critic = built.players["generator"], built.players["critic"]
    real = torch.randn(6, 2)
    context = Context(
        players=built.players, batches={"real": Batch(torch.arange(6), {"points": real})}, clock=Clock(batch=6),
        draws=Draws((0,), 0, 6, torch.device("cpu")), state=nn.Module(), over_ranks=lambda values: values,
    )  # fmt: skip
    (move,) = (move for move in built.moves if move.player == "generator")
    assert (move.reads, move.coupled) == (("real",), True)
    (loss,) = move.loss(context).values()
    found = torch.autograd.grad(loss, list(generator.parameters()))
    fake = generator(Draws((0,), 0, 6, torch.device("cpu")).normal("latent", 3))
    weights: dict[str, Tensor] = dict(critic.named_parameters())
    for _ in range(2):
        value = objective.critic(functional_call(critic, weights, real), functional_call(critic, weights, fake))
        steps = torch.autograd.grad(value, list(weights.values()), create_graph=True)
        weights = {name: weight - 0.2 * step for (name, weight), step in zip(weights.items(), steps, strict=True)}
    wanted = -objective.critic(functional_call(critic, weights, real), functional_call(critic, weights, fake))
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(found, torch.autograd.grad(wanted, list(generator.parameters())), rtol=1e-4, atol=1e-6)
