"""A critic's step: points judged in one batch or one by one, lazy penalties, and what the run says of its way."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bigan.batch import DataSpec
from bigan.games.gan import GAN
from bigan.networks.layers import ProjectionCritic
from bigan.penalties import DRAGAN, R1, R2, GradientPenalty, Penalty, WGANDiv, by_autograd, judge, way, with_gradient

from .test_penalties import SHAPE, dcgan, images, linear_critic


def counted(critic: nn.Module, calls: list[int]) -> nn.Module:
    """With a hook, which makes the critic take the autograd way."""
    critic.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    return critic


def points(*names: str, count: int = 3) -> dict[str, Callable[[Tensor], object]]:
    return {name: lambda out: out.copy_(images(count)) for name in names}


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("step", range(9))
def test_a_lazy_penalty_is_scaled_by_its_interval(step: int, recorded: bool) -> None:
    penalties = (R1(weight=2.0, every=4), R2(weight=1.0, every=1), GradientPenalty(weight=1.0, every=3))
    calls: list[int] = []
    critic = linear_critic(2.0) if recorded else counted(linear_critic(2.0), calls)
    logits, terms, _ = judge(critic, penalties, step, points("real", "fake", "mix"), images(3))
    expected = (
        {"r2": 2.0} | ({"r1": 4 * 4.0} if step % 4 == 0 else {}) | ({"gradient_penalty": 3 * 1.0} if step % 3 == 0 else {})
    )
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected)
    assert set(logits) == {"real", "fake"} | ({"mix"} if step % 3 == 0 else set())
    assert len(calls) == (0 if recorded else len(logits))


def test_two_penalties_at_one_point_share_a_forward() -> None:
    calls: list[int] = []
    judge(counted(linear_critic(1.0), calls), (R1(), R2()), 0, points("real", "fake"), images(3))
    assert calls == [3, 3]


PENALTIES = [
    (),
    (R1(),),
    (R2(),),
    (R1(), R2()),
    (GradientPenalty(),),
    (R1(), GradientPenalty(one_sided=True), WGANDiv(), DRAGAN()),
]


@pytest.mark.parametrize(
    "penalties", PENALTIES, ids=lambda penalties: "+".join(penalty.kind for penalty in penalties) or "none"
)
def test_both_ways_of_judging_agree(penalties: tuple[Penalty, ...]) -> None:
    """All points in one batch through the pullback, or one after the other through autograd: logits, terms, gradients."""
    torch.manual_seed(0)
    critic, given = dcgan(), {name: images(3) for name in ("real", "fake", "mix", "near")}
    results = []
    for network in (critic, counted(copy.deepcopy(critic), [])):
        writers: dict[str, Callable[[Tensor], object]] = {
            name: lambda out, value=value: out.copy_(value) for name, value in given.items()
        }
        logits, terms, _ = judge(network, penalties, 0, writers, given["real"])
        loss = F.softplus(logits["fake"] - logits["real"].mean()).mean() + sum(terms.values(), start=torch.zeros(()))
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        results.append(logits | terms | {str(k): gradient for k, gradient in enumerate(gradients)})
    found, wanted = results
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-10)


def test_the_condition_goes_with_every_point() -> None:
    torch.manual_seed(0)
    critic = ProjectionCritic(nn.Flatten(), 192, nn.Embedding(3, 192)).double()
    given, labels = {name: images(4) for name in ("real", "fake")}, torch.tensor([0, 1, 2, 1])
    writers: dict[str, Callable[[Tensor], object]] = {
        name: lambda out, value=value: out.copy_(value) for name, value in given.items()
    }
    logits, terms, _ = judge(critic, (R2(),), 0, writers, given["real"], labels)
    for name, value in given.items():
        torch.testing.assert_close(logits[name], critic(value, labels))
    torch.testing.assert_close(terms["r2"], R2()(by_autograd(critic, given["fake"], labels)[1]))


@pytest.mark.parametrize("recorded", [True, False])
def test_each_point_may_have_its_own_condition(recorded: bool) -> None:
    torch.manual_seed(0)
    smooth = nn.Flatten() if recorded else nn.Sequential(nn.Flatten(), nn.SiLU())
    critic = ProjectionCritic(smooth, 192, nn.Embedding(3, 192)).double()
    given = {name: images(4) for name in ("real", "fake")}
    labels = {"real": torch.tensor([0, 1, 2, 1]), "fake": torch.tensor([2, 2, 0, 1])}
    writers: dict[str, Callable[[Tensor], object]] = {
        name: lambda out, value=value: out.copy_(value) for name, value in given.items()
    }
    logits, terms, _ = judge(critic, (R2(),), 0, writers, given["real"], labels)
    for name, value in given.items():
        torch.testing.assert_close(logits[name], critic(value, labels[name]))
    torch.testing.assert_close(terms["r2"], R2()(by_autograd(critic, given["fake"], labels["fake"])[1]))
    with pytest.raises(ValueError, match="no condition at 'mix' points, only at real, fake"):
        judge(critic, (GradientPenalty(),), 0, writers | {"mix": writers["real"]}, given["real"], labels)


def test_a_game_says_at_its_start_how_its_critic_is_differentiated() -> None:
    data = {"real": DataSpec(samples=4, image_shape=(1, 8, 8))}
    assert GAN(penalties=(R1(),)).build(data).notes == ("gradient penalties: recorded pullback",)
    assert GAN().build(data).notes == ()


def test_the_way_is_said() -> None:
    assert way(dcgan()) == "gradient penalties: recorded pullback"
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3))
    reason = "layer '1' (InstanceNorm2d) is not known to be piecewise linear"
    assert way(layers) == f"gradient penalties: double backward, because {reason}"


def test_a_critic_without_penalties_says_nothing_of_them(caplog: pytest.LogCaptureFixture) -> None:
    critic = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 1)).double()
    logits, terms, _ = judge(critic, (), 0, points("real", "fake"), images(3))
    assert set(logits) == {"real", "fake"}
    assert terms == {}
    assert caplog.records == []


def test_what_only_an_input_tells_is_said_at_the_start() -> None:
    critic = nn.Sequential(nn.Conv2d(2, 1, 3), nn.Flatten(0))
    assert way(critic) == "gradient penalties: recorded pullback"
    assert way(critic, SHAPE).endswith("double backward, because Flatten(0) of [1, 1, 6, 10] joins samples")


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        judge(linear_critic(1.0), (), 0, points("real", "fake", count=0), images(0))


def test_a_critic_whose_input_has_no_pullback_takes_the_other_way(caplog: pytest.LogCaptureFixture) -> None:
    critic = nn.Sequential(nn.Conv2d(2, 1, 3), nn.Flatten(0)).double()  # one number a patch
    logits, gradient = [with_gradient(critic, images(3)) for _ in range(2)][-1]
    assert logits.shape == (3 * 6 * 10,)
    assert gradient.shape == (3, *SHAPE)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["gradient penalties take autograd's double backward: Flatten(0) of [3, 1, 6, 10] joins samples"]
