"""What latents are drawn from: moments, bounds, and that a row's draw is its own."""

import math

import pytest
import torch
from torch import Tensor, nn

from bigan.clock import Clock, Draws
from bigan.game import Context
from bigan.latents import Latent, Normal, Truncated, Uniform
from bigan.validation import validate

SIZE = 3
LATENTS = [Normal(), Uniform(), Truncated(), Truncated(bound=0.5), Truncated(bound=9.0)]


def draw(latent: Normal | Uniform | Truncated, start: int, count: int, seed: int = 0) -> Tensor:
    draws = Draws((seed, "test"), start, count, torch.device("cpu"))
    context = Context(players={}, batches={}, draws=draws, clock=Clock(batch=count), state=nn.Module())
    return latent.draw(context, SIZE)


def moments(latent: Normal | Uniform | Truncated) -> tuple[float, float]:
    """Second and fourth moment."""
    if isinstance(latent, Normal):
        return 1.0, 3.0
    if isinstance(latent, Uniform):
        return 1 / 3, 1 / 5
    b = latent.bound
    tail = 2 * b * math.exp(-b * b / 2) / math.sqrt(2 * math.pi) / math.erf(b / math.sqrt(2))
    return 1 - tail, 3 * (1 - tail) - b * b * tail


@pytest.mark.parametrize("latent", LATENTS, ids=str)
def test_distributions(latent: Normal | Uniform | Truncated) -> None:
    count = 60_000
    z = draw(latent, 0, count)
    second, fourth = moments(latent)
    assert z.shape == (count, SIZE)
    assert z.dtype == torch.float32
    within = 4 * math.sqrt(1 / (count * SIZE))
    assert abs(float(z.mean())) < within * math.sqrt(second)
    assert abs(float(z.square().mean()) - second) < within * math.sqrt(fourth - second**2)
    assert float(z.double().pow(4).mean()) == pytest.approx(fourth, rel=0.05)
    bound = {Normal: math.inf, Uniform: 1.0}.get(type(latent), latent.bound if isinstance(latent, Truncated) else 0.0)
    assert float(z.abs().max()) <= bound
    correlation = torch.corrcoef(z.T) - torch.eye(SIZE)
    assert float(correlation.abs().max()) < 5 / math.sqrt(count)


@pytest.mark.parametrize("latent", LATENTS, ids=str)
def test_a_row_is_a_function_of_seed_and_row(latent: Normal | Uniform | Truncated) -> None:
    whole = draw(latent, 0, 8)
    assert torch.equal(torch.cat([draw(latent, 0, 5), draw(latent, 5, 3)]), whole)
    assert not torch.equal(draw(latent, 0, 8, seed=1), whole)
    assert len(whole.unique()) == whole.numel()


def test_the_ends_of_a_uniform_are_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded to float32, a uniform number may be 0 or 1."""
    monkeypatch.setattr(Draws, "uniform", lambda draws, name, *shape: torch.tensor([[0.0, 0.5, 1.0]]))
    for bound in (2.0, 9.0, 50.0):
        torch.testing.assert_close(draw(Truncated(bound=bound), 0, 1), torch.tensor([[-bound, 0.0, bound]]))


def test_normal_latents_are_the_draws_of_that_name() -> None:
    assert torch.equal(draw(Normal(), 0, 4), Draws((0, "test"), 0, 4, torch.device("cpu")).normal("latent", SIZE))


def test_a_config_names_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.getbasetemp()
    assert validate(Latent, {"kind": "truncated", "bound": 1}, place, "") == Truncated(bound=1.0)
    with pytest.raises(ValueError, match=r"latent\.bound: Input should be greater than 0"):
        validate(Latent, {"kind": "truncated", "bound": 0}, place, "latent.")
