"""The recorded pullback on a GPU: autograd's gradients, in either format, and a step that a CUDA graph can hold."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bigan.ops
from bigan.networks.dcgan import DCGANCritic
from bigan.penalties import by_autograd
from bigan.pullback import record

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or bigan.ops.backend().name != "compiled cpu+cuda",
    reason=f"needs a GPU and bigan._C_cuda (kernels: {bigan.ops.backend()})",
)


def critic(dtype: torch.dtype, format_: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    made = DCGANCritic(width=16).build((3, 32, 32)).to("cuda", dtype).to(memory_format=format_)
    for parameter in made.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.3)
    return made


def images(dtype: torch.dtype, format_: torch.memory_format) -> Tensor:
    return torch.randn(8, 3, 32, 32, device="cuda", dtype=dtype).contiguous(memory_format=format_)


def loss(pair: tuple[Tensor, Tensor]) -> Tensor:
    return F.softplus(pair[0].mean() - pair[0]).mean() + 5 * pair[1].square().flatten(1).sum(1).mean()


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("held", [8, 3])
def test_gradients_are_autograds(format_: torch.memory_format, held: int) -> None:
    network, x = critic(torch.float64, format_), images(torch.float64, format_)
    parameters = list(network.parameters())
    found = torch.autograd.grad(loss(record(network, x, held=held)), parameters)
    wanted = torch.autograd.grad(loss((network(x), by_autograd(network, x[:held])[1])), parameters)
    a, b = (torch.cat([g.flatten() for g in gradients]) for gradients in (found, wanted))
    assert float((a - b).norm()) <= 1e-12 * float(b.norm())


def test_a_graph_captures_the_step() -> None:
    network, x = critic(torch.float32, torch.channels_last), images(torch.float32, torch.channels_last)
    parameters = list(network.parameters())

    def step() -> tuple[Tensor, ...]:
        with torch.autocast("cuda", torch.bfloat16):
            total = loss(record(network, x, held=5))
        return torch.autograd.grad(total, parameters)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        wanted = [step() for _ in range(3)][-1]
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # a synchronisation with the host would raise here
        captured = step()
    graph.replay()
    for found, expected in zip(captured, wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
