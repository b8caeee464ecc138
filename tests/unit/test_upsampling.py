"""The layers of a generator that doubles its image, against the layers of PyTorch that they stand for."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bigan.average import blend
from bigan.distributed.batch_norm import GlobalBatchNorm, has_batch_norm, normalise_globally
from bigan.networks.dcgan import DCGANGenerator, Upsampling
from bigan.networks.layers import Norm
from bigan.networks.upsampling import BatchNormLeakyReLU, UpsampleBiasLeakyReLU, UpsampleConv2d, fold_upsampling

CPU = torch.device("cpu")
FORMATS = [torch.contiguous_format, torch.channels_last]


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def plain(layer: UpsampleConv2d, x: Tensor) -> Tensor:
    return F.conv2d(doubled(x), layer.weight.transpose(0, 1), layer.bias, padding=1)


sizes = st.integers(1, 6)


@settings(max_examples=60, deadline=None)
@given(n=sizes, before=sizes, after=sizes, height=sizes, width=sizes, bias=st.booleans(), last=st.booleans())
def test_the_folded_convolution_is_the_two_layers(
    n: int, before: int, after: int, height: int, width: int, bias: bool, last: bool
) -> None:
    """Values, gradients, and gradients of a gradient."""
    layer = UpsampleConv2d(before, after, bias).double()
    x = torch.randn(n, before, height, width, dtype=torch.float64)
    if last:
        layer, x = layer.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    found = []
    for y in (layer(x), plain(layer, x)):
        first = torch.autograd.grad(y.tanh().sum(), [x, *layer.parameters()], create_graph=True)
        second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), [x, *layer.parameters()])
        found.append([y, *first, *second])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-11)


def test_a_folded_kernel_is_the_mirrored_one_convolved_with_ones() -> None:
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    ones = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    wanted = F.conv2d(weight.flip(2, 3).reshape(6, 1, 3, 3), ones, padding=1).view(2, 3, 4, 4)
    torch.testing.assert_close(fold_upsampling(weight), wanted)


def test_autocast_rounds_the_folded_kernel_once() -> None:
    layer, x = UpsampleConv2d(16, 8), torch.randn(4, 16, 8, 8)
    exact = plain(copy.deepcopy(layer).double(), x.double()).detach()
    with torch.autocast("cpu", torch.bfloat16):
        errors = [float((y.double() - exact).norm() / exact.norm()) for y in (layer(x).detach(), plain(layer, x).detach())]
        layer(x).float().sum().backward()
    assert layer(x).dtype == torch.float32
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    assert 1e-4 < errors[0] < 1.2 * errors[1]


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "none"])
def test_folded_and_nearest_generators_are_one_function(norm: Norm) -> None:
    folded = DCGANGenerator(norm=norm, width=4, latent=5).build((3, 32, 32)).double()
    nearest = DCGANGenerator(norm=norm, width=4, latent=5, upsample="nearest").build((3, 32, 32)).double()
    assert [n for n, _ in folded.named_parameters()] == [n for n, _ in nearest.named_parameters()]
    with torch.no_grad():
        trained = [[m for m in g.modules() if any(True for _ in m.parameters(recurse=False))] for g in (nearest, folded)]
        for mine, theirs in zip(*trained, strict=True):
            if isinstance(theirs, UpsampleConv2d):
                theirs.weight.copy_(mine.get_parameter("weight").transpose(0, 1))
            else:
                for one, other in zip(theirs.parameters(recurse=False), mine.parameters(recurse=False), strict=True):
                    one.copy_(other)
    z = torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(folded(z), nearest(z), rtol=1e-9, atol=1e-11)


def test_bias_leaky_relu_and_upsampling() -> None:
    layer, x = UpsampleBiasLeakyReLU(3, 0.3), torch.randn(2, 3, 4, 5)
    nn.init.normal_(layer.bias)
    torch.testing.assert_close(layer(x), doubled(F.leaky_relu(x + layer.bias.view(1, 3, 1, 1), 0.3)))


@dataclass(frozen=True)
class Copies:
    """Ranks that all hold the same share: a mean over them is the share's own."""

    rank: int = 0
    size: int = 2

    def mean(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor] * self.size)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""


def pair(upsample: int = 1, **how: float | bool | None) -> tuple[BatchNormLeakyReLU, nn.BatchNorm2d]:
    """Our layer and PyTorch's norm, with the same weights and moments, which are not the defaults."""
    norm = nn.BatchNorm2d(3, **how).double()  # type: ignore[arg-type]
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    layer = BatchNormLeakyReLU(3, 0.3, upsample).double()
    layer.norm = copy.deepcopy(norm)
    return layer, norm


def eager(norm: nn.Module, x: Tensor, upsample: int) -> Tensor:
    y = F.leaky_relu(norm(x), 0.3)
    return doubled(y) if upsample == 2 else y


HOWS = [{}, {"momentum": None}, {"momentum": 0.7, "eps": 0.1}, {"affine": False}, {"track_running_stats": False}]


@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize("upsample", [1, 2])
@pytest.mark.parametrize("format_", FORMATS)
def test_the_folded_norm_is_pytorchs(how: dict[str, float | bool | None], upsample: int, format_: torch.memory_format) -> None:
    """Values, gradients to second order and running moments over three steps, then evaluation, which tracks nothing."""
    layer, norm = pair(upsample, **how)
    for step in range(4):
        layer.train(step < 3)
        norm.train(step < 3)
        x = (2 * torch.randn(4, 3, 4, 5, dtype=torch.float64) + 1).contiguous(memory_format=format_).requires_grad_()
        found = []
        for module, y in ((layer, layer(x)), (norm, eager(norm, x, upsample))):
            leaves = [x, *module.parameters()]
            first = torch.autograd.grad(y.tanh().sum(), leaves, create_graph=True)
            second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), leaves)
            found.append([y, *first, *second])
        torch.testing.assert_close(*found, rtol=1e-8, atol=1e-9)
        mine = {name.removeprefix("norm."): tensor for name, tensor in layer.state_dict().items()}
        torch.testing.assert_close(mine, dict(norm.state_dict()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("upsample", [1, 2])
def test_two_ranks_that_hold_the_same_are_one_that_holds_it_twice(upsample: int) -> None:
    layer, norm = pair(upsample)
    layer = normalise_globally(layer, Copies(), CPU)
    assert isinstance(layer, BatchNormLeakyReLU)
    assert isinstance(layer.norm, GlobalBatchNorm)
    share = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    y, whole = layer(share), eager(norm, torch.cat([share, share]), upsample)
    torch.testing.assert_close(y, whole[:2], rtol=1e-10, atol=1e-12)
    # Both ranks' gradients together are the whole batch's.
    mine = torch.autograd.grad(2 * y.tanh().sum(), list(layer.parameters()))
    torch.testing.assert_close(mine, torch.autograd.grad(whole.tanh().sum(), list(norm.parameters())), rtol=1e-9, atol=1e-11)
    running = {name.removeprefix("norm."): tensor for name, tensor in layer.state_dict().items()}
    torch.testing.assert_close(running, dict(norm.state_dict()), rtol=1e-10, atol=1e-12)
    layer.eval()
    norm.eval()
    torch.testing.assert_close(layer(share), eager(norm, share, upsample), rtol=1e-10, atol=1e-12)


def test_a_norm_that_cannot_be_folded_is_called() -> None:
    layer, _ = pair(2)
    layer.norm = nn.GroupNorm(1, 3).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), eager(layer.norm, x, 2))
    assert isinstance(nn.SyncBatchNorm.convert_sync_batchnorm(pair()[0]).norm, nn.SyncBatchNorm)


def test_the_folded_norm_runs_in_bfloat16_with_moments_in_float32() -> None:
    layer, norm = BatchNormLeakyReLU(8), nn.BatchNorm2d(8)
    x = (300 + 40 * torch.randn(16, 8, 8, 8)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(y.float(), F.leaky_relu(norm(x.float()), 0.2), rtol=1e-2, atol=1e-2)
    assert y.dtype == torch.bfloat16
    mine = {name.removeprefix("norm."): tensor for name, tensor in layer.state_dict().items()}
    torch.testing.assert_close(mine, dict(norm.state_dict()), rtol=1e-5, atol=1e-5)


def test_a_channel_of_one_value_is_refused_in_training() -> None:
    layer = BatchNormLeakyReLU(3)
    with pytest.raises(ValueError, match=r"more than one value a channel, got an input of \[1, 3, 1, 1\]"):
        layer(torch.zeros(1, 3, 1, 1))
    assert layer.eval()(torch.zeros(1, 3, 1, 1)).shape == (1, 3, 1, 1)


def test_a_folded_norm_is_found_averaged_and_named_as_pytorchs() -> None:
    layer, mean = BatchNormLeakyReLU(3), BatchNormLeakyReLU(3)
    assert has_batch_norm(layer)
    assert list(layer.state_dict()) == [f"norm.{name}" for name in nn.BatchNorm2d(3).state_dict()]
    layer(torch.randn(4, 3, 5, 5))
    blend(mean, layer, 0.5)
    torch.testing.assert_close(mean.state_dict()["norm.running_mean"], layer.state_dict()["norm.running_mean"] / 2)
    assert mean.state_dict()["norm.num_batches_tracked"] == 1


@pytest.mark.parametrize("upsample", ["folded", "nearest", "transposed"])
def test_a_generator_compiles_without_a_graph_break(upsample: Upsampling) -> None:
    generator = DCGANGenerator(width=4, latent=3, upsample=upsample).build((1, 16, 16))
    z, found = torch.randn(4, 3), []
    for module in (copy.deepcopy(generator), generator):
        function = module if module is not generator else torch.compile(module, fullgraph=True, backend="aot_eager")
        images = function(z)
        images.sum().backward()
        found.append([images, *[p.grad for p in module.parameters()], *module.buffers()])
    torch.testing.assert_close(*found)
