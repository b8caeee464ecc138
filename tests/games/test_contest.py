"""A contest of a critic with two heads: what each head says, and how often the trunk is passed."""

import pytest
import torch
from torch import Tensor, nn

from bigan.clock import Draws
from bigan.games.contest import Outcome, contest, contest_headed
from bigan.networks.joint import Headed, both, headed
from bigan.networks.mlp import MLPCritic
from bigan.objectives import NonSaturating
from bigan.penalties import R1

HALF = (R1(every=2),)
REAL, FAKE = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def critic() -> Headed:
    torch.manual_seed(1)
    return headed(MLPCritic(width=8, depth=1), (3,), 5, 4)


def judged(critic: Headed, step: int, asked: tuple[str, ...]) -> tuple[Outcome, dict[str, Tensor]]:
    draws = Draws((0,), 0, 6, torch.device("cpu"))
    return contest_headed(critic, NonSaturating(), HALF, draws, step, REAL, FAKE, asked)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("asked", [("real",), ("fake",), ("real", "fake")])
def test_both_heads_say_what_they_say_alone(critic: Headed, step: int, asked: tuple[str, ...]) -> None:
    outcome, said = judged(critic, step, asked)
    alone = contest(critic, NonSaturating(), HALF, Draws((0,), 0, 6, torch.device("cpu")), step, REAL, FAKE)
    assert outcome.terms.keys() == alone.terms.keys() == ({"adversarial", "r1"} if step == 0 else {"adversarial"})
    for name, term in alone.terms.items():
        torch.testing.assert_close(outcome.terms[name], term)
    for side, samples in {"real": REAL, "fake": FAKE}.items():
        torch.testing.assert_close(outcome.logits[side], critic(samples))
        if side in asked:
            torch.testing.assert_close(said[side], both(critic, samples)[1])
    assert said.keys() == set(asked)
    sum([*outcome.terms.values(), *(value.sum() for value in said.values())], torch.zeros(())).backward()
    assert all(p.grad is not None for p in critic.parameters())


def test_a_side_passes_the_trunk_once_where_no_penalty_is_due(critic: Headed) -> None:
    passed: list[int] = []
    called: list[nn.Module] = []
    critic.trunk.register_forward_hook(lambda module, inputs, output: passed.append(len(output)))
    critic.register_forward_hook(lambda module, inputs, output: called.append(module))
    judged(critic, 1, ("real", "fake"))
    assert passed == [6, 6]
    assert called == [critic, critic]  # a compiled network is compiled as it is called
