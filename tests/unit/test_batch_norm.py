"""Batch norm over all ranks, against PyTorch's own over the whole batch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bigan.distributed.batch_norm import GlobalBatchNorm, has_batch_norm, normalise_globally

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Copies:
    """Ranks that all hold the same share: a mean over them is the share's own."""

    rank: int = 0
    size: int = 1

    def mean(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor] * self.size)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""


def pair(norm: _BatchNorm, size: int = 1) -> tuple[_BatchNorm, GlobalBatchNorm]:
    """PyTorch's layer with weights and moments that are not the defaults, and ours with the same."""
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return norm, GlobalBatchNorm(copy.deepcopy(norm), Copies(size=size))


LAYERS = [
    nn.BatchNorm2d(3),
    nn.BatchNorm2d(3, momentum=None),
    nn.BatchNorm2d(3, momentum=0.7, eps=0.1),
    nn.BatchNorm2d(3, affine=False),
    nn.BatchNorm2d(3, track_running_stats=False),
    nn.BatchNorm1d(3),
    nn.BatchNorm3d(3),
]


def layer(number: int) -> _BatchNorm:
    return copy.deepcopy(LAYERS[number]).double()


def inputs(norm: _BatchNorm, count: int = 6) -> Tensor:
    rest = {nn.BatchNorm1d: (), nn.BatchNorm2d: (4, 5), nn.BatchNorm3d: (2, 3, 2)}[type(norm)]
    return 2 * torch.randn(count, 3, *rest, dtype=torch.float64) + 1


def close(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_values_gradients_and_moments_are_pytorchs(number: int) -> None:
    theirs, ours = pair(layer(number))
    for _ in range(3):
        x = inputs(theirs).requires_grad_()
        weight = torch.randn_like(x)
        y, expected = ours(x), theirs(x)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
        mine = torch.autograd.grad((y * weight).sum(), [x, *ours.parameters()])
        other = torch.autograd.grad((expected * weight).sum(), [x, *theirs.parameters()])
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)
        close(ours, theirs)
    ours.eval()
    theirs.eval()
    x = inputs(theirs)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-12)
    close(ours, theirs)


@pytest.mark.parametrize("training", [True, False])
def test_double_gradients_are_pytorchs(training: bool) -> None:
    theirs, ours = pair(layer(0))
    found = []
    x = inputs(theirs).requires_grad_()
    for norm in (ours, theirs):
        norm.train(training)
        (gradient,) = torch.autograd.grad(norm(x).tanh().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), [x, *norm.parameters()], allow_unused=True))
    assert found[1][0].abs().max() > 1e-3
    for mine, other in zip(*found, strict=True):
        if other is None or mine is None:
            assert (mine is None or mine.abs().max() == 0) and (other is None or other.abs().max() == 0)  # noqa: PT018
        else:
            torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("number", [0, 1])
def test_two_ranks_that_hold_the_same_are_one_that_holds_it_twice(number: int) -> None:
    """The unbiased running variance counts the samples of all ranks."""
    theirs, ours = pair(layer(number), size=2)
    share = inputs(theirs, 2)[:, :, :1, :1]
    torch.testing.assert_close(ours(share), theirs(torch.cat([share, share]))[:2], rtol=1e-10, atol=1e-12)
    close(ours, theirs)


def test_the_moments_are_the_groups_and_not_the_shares() -> None:
    """A group whose other rank holds zeros."""

    class Halved(Copies):
        def gather(self, tensor: Tensor) -> Tensor:
            return torch.cat([tensor, torch.zeros_like(tensor)])

    norm = nn.BatchNorm1d(2, affine=False, eps=0.0, momentum=1.0).double()
    ours = GlobalBatchNorm(norm, Halved(size=2))
    x = torch.tensor([[2.0, 4.0], [2.0, 8.0]], dtype=torch.float64)
    y = ours(x)
    mean = torch.tensor([1.0, 3.0], dtype=torch.float64)
    var = torch.tensor([(1 + 1 + 1 + 1) / 4, (1 + 25 + 9 + 9) / 4], dtype=torch.float64)
    torch.testing.assert_close(y, (x - mean) / var.sqrt())
    torch.testing.assert_close(ours.running_mean, mean)
    torch.testing.assert_close(ours.running_var, var * 4 / 3)


def test_bfloat16_is_normalised_in_float32() -> None:
    theirs, ours = pair(nn.BatchNorm2d(3))
    x = (300 + torch.randn(64, 3, 8, 8)).bfloat16()
    y = ours(x)
    assert y.dtype == torch.bfloat16
    assert ours.running_mean is not None
    assert ours.running_mean.dtype == torch.float32
    torch.testing.assert_close(y.float(), theirs(x.float()), rtol=1e-2, atol=2e-2)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-4, atol=1e-5)


def test_a_frozen_evaluation_tracks_nothing() -> None:
    _, ours = pair(layer(0))
    before = copy.deepcopy(ours.state_dict())
    ours.eval()
    ours(inputs(layer(0)))
    torch.testing.assert_close(ours.state_dict(), before, rtol=0, atol=0)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()), nn.ModuleDict({"n": nn.BatchNorm1d(2)})
    )


def test_every_batch_norm_is_replaced_and_keeps_its_names_and_tensors() -> None:
    module = network()
    before = dict(module.state_dict(keep_vars=True))
    replaced = normalise_globally(module, Copies(size=2), CPU)
    assert not any(isinstance(layer, _BatchNorm) for layer in replaced.modules())
    assert sum(isinstance(layer, GlobalBatchNorm) for layer in replaced.modules()) == 2
    after = dict(replaced.state_dict(keep_vars=True))
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert isinstance(normalise_globally(nn.BatchNorm2d(2), Copies(size=2), CPU), GlobalBatchNorm)


def test_one_rank_keeps_pytorchs_own() -> None:
    module = network()
    assert normalise_globally(module, Copies(), CPU) is module
    assert not any(isinstance(layer, GlobalBatchNorm) for layer in module.modules())


def test_a_layer_in_evaluation_stays_in_evaluation() -> None:
    assert GlobalBatchNorm(nn.BatchNorm2d(2).eval(), Copies(size=2)).training is False


def test_batch_norm_is_found() -> None:
    assert has_batch_norm(network())
    assert has_batch_norm(normalise_globally(network(), Copies(size=2), CPU))
    assert not has_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 1), nn.InstanceNorm2d(2), nn.GroupNorm(1, 2)))
