"""What every operator is held to: its twin's values, its derivatives to second order, its registrations, its compilation."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._ops import OpOverload

from bigan.ops import reference

DTYPES = reference.DTYPES
# Every layout that a network makes, and three that it should not: strided in no format, broadcast, not aligned.
LAYOUTS = ("contiguous", "channels_last", "strided", "broadcast", "unaligned")
# Whole bytes and odd tails, whole and odd planes, one channel, one pixel, none at all, several chunks of a sum.
SHAPES = (
    (1, 1),
    (3, 8),
    (5, 13),
    (0, 3, 4),
    (2, 0, 3),
    (2, 5, 9),
    (3, 16, 4, 4),
    (2, 3, 7, 5),
    (2, 1, 5, 3),
    (4, 24, 1, 1),
    (1, 2, 65, 127),
    (70, 16, 4, 5),
    (2, 6, 3, 2, 3),
)


@dataclass(frozen=True)
class Sample:
    """The arguments of one call; `smooth`: small and fp64, so that finite differences can judge its derivatives."""

    args: tuple[Any, ...]
    smooth: bool = False


@dataclass(frozen=True)
class Case:
    """One row of the table of operators. `tolerances`: for each output, relative to its largest value; 0 is bit for bit.

    `mutates`: the operator writes over its first argument, which then counts as its first output, and has no derivative.
    """

    op: OpOverload
    reference: Callable[..., Any]
    sample: Callable[[tuple[int, ...], torch.dtype, str, torch.device], Sample]
    tolerances: tuple[float, ...]
    mutates: bool = False

    def samples(self, dtype: torch.dtype, device: torch.device) -> Iterator[Sample]:
        """Every layout with every shape."""
        for shape, layout in itertools.product(SHAPES, LAYOUTS):
            if layout != "channels_last" or len(shape) in (4, 5):
                yield self.sample(shape, dtype, layout, device)


def lay(x: Tensor, layout: str) -> Tensor:
    """Return x's values in another layout."""
    match layout:
        case "channels_last":
            return x.contiguous(memory_format=reference.memory_format(x.dim(), channels_last=True))
        case "strided":
            return x.transpose(0, -1).contiguous().transpose(0, -1)
        case "broadcast":
            return x[:1].expand(x.shape)
        case "unaligned":
            return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)
        case _:
            return x


def normal(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Reproducible values that include exact zeros, where the kink is (not for fp64: finite differences cannot cross it)."""
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    if dtype != torch.float64:
        values[values.abs() < 0.1] = 0
    return values.to(device, dtype)


def results(case: Case, function: Callable[..., Any], args: Sequence[Any]) -> tuple[Tensor, ...]:
    """Return all that a call gives, as a tuple; an argument to be written over is copied first, with its place in memory."""
    if case.mutates:
        args = [_copied(args[0]), *args[1:]]
    outputs = function(*args)
    if not isinstance(outputs, tuple):  # one output, or none
        outputs = () if outputs is None else (outputs,)
    return (args[0], *outputs) if case.mutates else outputs


def _copied(x: Tensor) -> Tensor:
    memory = x.new_zeros(x.untyped_storage().nbytes() // x.itemsize)
    return memory.as_strided(x.shape, x.stride(), x.storage_offset()).copy_(x)


def check_op(case: Case, samples: Sequence[Sample]) -> None:
    """Hold an operator to its twin, its derivatives to finite differences, and its registrations to `opcheck`."""
    for sample in samples:
        check_values(case, sample)
        if sample.smooth:
            check_derivatives(case, sample)
            check_registrations(case, sample)


def check_values(case: Case, sample: Sample) -> None:
    """Compare values, types and strides with the twin's; refuse an output that shares memory with an argument."""
    outputs, expected = results(case, case.op, sample.args), results(case, case.reference, sample.args)
    for output, wanted, tolerance in zip(outputs, expected, case.tolerances, strict=True):
        assert output.dtype == wanted.dtype
        assert output.stride() == wanted.stride()
        # 1e-6: where all is rounding, as in the variance of equal values, there is nothing to be relative to.
        scale = tolerance * max(float(wanted.abs().max()), 1e-6) if wanted.numel() and tolerance else 0.0
        torch.testing.assert_close(output, wanted, rtol=0, atol=scale, equal_nan=True)
        storages = {a.untyped_storage().data_ptr() for a in sample.args if isinstance(a, Tensor) and a.numel()}
        assert not output.numel() or output.untyped_storage().data_ptr() not in storages


def check_derivatives(case: Case, sample: Sample) -> None:
    """Judge first and second derivatives by finite differences, undefined incoming gradients included."""
    args = with_gradients(sample.args)
    if not case.mutates and any(isinstance(a, Tensor) and a.requires_grad and a.numel() for a in args):
        torch.autograd.gradcheck(case.op, args)
        torch.autograd.gradgradcheck(case.op, args)


def check_registrations(case: Case, sample: Sample) -> None:
    """Hold the fake, the derivative's registration and the schema to `opcheck`."""
    with warnings.catch_warnings():  # opcheck's own: it looks at the gradients of its copies
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
        torch.library.opcheck(case.op, sample.args if case.mutates else with_gradients(sample.args))


def check_compiled(case: Case, samples: Sequence[Sample]) -> None:
    """Compile once for all sizes, without a graph break, and compare values and gradients with eager's."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(case.op, fullgraph=True, dynamic=True, backend=counter)
    frames = 0
    for sample in samples:
        found = []
        for function in (case.op, compiled):
            args = sample.args if case.mutates else with_gradients(sample.args)
            outputs = results(case, function, args)
            inputs = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
            loss = sum((o.float().square().sum() for o in outputs if o.requires_grad), start=torch.zeros(()))
            found.append([*outputs, *(torch.autograd.grad(loss, inputs) if inputs else ())])
        for eager, traced in zip(*found, strict=True):
            assert torch.equal(eager, traced)
        frames = frames or counter.frame_count
    assert counter.frame_count == frames > 0


def with_gradients(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return fresh arguments, with the floating ones as leaves that ask for a gradient."""
    return tuple(a.detach().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
