"""Minibatch discrimination against the paper's formula, and its groups."""

import math

import pytest
import torch

from bigan.batch import ArraySpec, DataSpec
from bigan.games.gan import GAN
from bigan.networks.dcgan import DCGANCritic
from bigan.networks.minibatch import MinibatchDiscrimination, MinibatchLayer
from bigan.networks.mlp import MLPCritic, MLPGenerator
from bigan.penalties import R1
from bigan.pullback import obstacle

POINTS = DataSpec(samples=64, arrays=(ArraySpec(name="points", shape=(2,), dtype="float32"),))


def layer(group: int = 3) -> MinibatchLayer:
    made = MinibatchDiscrimination(kernels=4, dims=2, group=group).build(5).double()
    assert isinstance(made, MinibatchLayer)
    return made


def test_the_papers_formula() -> None:
    """o(x_i)_b = Σ_j exp(-‖M_ib - M_jb‖₁), M_i = f(x_i) T; j runs over the group of i."""
    it, f = layer(), torch.randn(6, 5, dtype=torch.float64)
    tensor = it.weight.detach()
    found = it(f).detach()
    assert found.shape == (6, 9)
    torch.testing.assert_close(found[:, :5], f)
    for i in range(6):
        for b in range(4):
            total = 0.0
            for j in range(i - i % 3, i - i % 3 + 3):
                rows = [[sum(float(f[n, a] * tensor[a, b, c]) for a in range(5)) for c in range(2)] for n in (i, j)]
                total += math.exp(-sum(abs(x - y) for x, y in zip(*rows, strict=True)))
            assert float(found[i, 5 + b]) == pytest.approx(total, rel=1e-12)


def test_its_gradients() -> None:
    it = layer()
    f = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(it, (f,))
    assert torch.autograd.gradgradcheck(it, (f,))


def test_groups_are_those_of_the_global_batch() -> None:
    it, f = layer(group=2), torch.randn(8, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.cat([it(f[:4]), it(f[4:])]), it(f), rtol=0, atol=0)
    moved = f.clone()
    moved[7] += 1
    changed = (it(moved) != it(f)).any(1)
    assert changed.tolist() == [False] * 6 + [True] * 2


def test_samples_that_are_no_whole_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="groups of 3 samples, and 7 are no whole groups"):
        layer()(torch.zeros(7, 5, dtype=torch.float64))


def test_a_collapsed_batch_is_told_from_a_spread_one() -> None:
    it = MinibatchDiscrimination(group=8).build(64)
    alike, apart = torch.randn(1, 64).expand(8, 64), torch.randn(8, 64)
    with torch.no_grad():
        torch.testing.assert_close(it(alike)[:, 64:], torch.full((8, 32), 8.0))
        assert 1.5 < float(it(apart)[:, 64:].mean()) < 6, "where distances start at about 1, there is a gradient"


def test_critics_end_in_it() -> None:
    minibatch = MinibatchDiscrimination(kernels=3, dims=2, group=4)
    for critic, shape in ((DCGANCritic(width=4, minibatch=minibatch), (1, 16, 24)), (MLPCritic(minibatch=minibatch), (2,))):
        network = critic.build(shape)
        logits = network(torch.randn(8, *shape))
        assert logits.shape == (8,)
        logits.sum().backward()
        assert all(p.grad is not None for p in network.parameters())
        assert "MinibatchLayer" in str(obstacle(network))


def test_in_bfloat16_distances_are_those_of_float32() -> None:
    it = MinibatchDiscrimination(group=4).build(64)
    f = torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = it(f)
    torch.testing.assert_close(found, it(f), rtol=2e-2, atol=2e-2)


def game(pack: int = 1, **changes: object) -> GAN:
    minibatch = MinibatchDiscrimination(group=4)
    return GAN(generator=MLPGenerator(), critic=MLPCritic(minibatch=minibatch), pack=pack, **changes)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("pack", [1, 2])
def test_a_game_ties_its_groups_together(pack: int) -> None:
    built = game(pack).build({"real": POINTS})
    assert [move.group for move in built.moves] == [4 * pack, 4 * pack]
    assert built.critique is None


def test_a_gradient_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match=r"critic\.minibatch: a gradient penalty needs a critic that judges each"):
        game(penalties=(R1(),))
