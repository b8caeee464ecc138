"""The kernels on a GPU: `python benchmarks/gpu.py [--json | --save]`; `tests/gpu/run` calls it.

Elementwise operators are held to the bandwidth of a copy of as many bytes on the same device, critics to PyTorch's double
backward. Times are medians of alternated rounds between CUDA events. `--dry` runs every row once, small, on the CPU: its
figures mean nothing.
"""

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bigan.ops
from bigan.networks.dcgan import DCGANCritic
from bigan.ops import affine_leaky_relu, bias_leaky_relu_
from bigan.penalties import R1, by_autograd, with_gradient
from critic_rows import check, copy_parameters, eager_critic
from timing import SLOPE, Row, commit

RESULTS = Path(__file__).with_name("results") / "gpu.md"
Thunk = Callable[[], object]


class Device:
    """Where it runs, and how a thunk is timed there."""

    def __init__(self, dry: bool) -> None:
        self.dry, self.name = dry, "cpu" if dry else "cuda"

    def milliseconds(self, thunk: Thunk, repeat: int) -> float:
        if self.dry:
            start = time.perf_counter()
            thunk()
            return (time.perf_counter() - start) * 1e3
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeat):
            thunk()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / repeat

    def alternate(self, *thunks: Thunk, rounds: int = 21, repeat: int = 10) -> list[float]:
        """Each thunk's median milliseconds over alternated rounds."""
        for thunk in thunks:
            self.milliseconds(thunk, 5)
        times = [[self.milliseconds(thunk, repeat) for thunk in thunks] for _ in range(1 if self.dry else rounds)]
        return [statistics.median(column) for column in zip(*times, strict=True)]


def bandwidth_rows(device: Device) -> Iterator[Row]:
    """Bytes a second of each elementwise operator, over those of a copy."""
    shape = (2, 8, 8, 8) if device.dry else (64, 128, 128, 128)
    for dtype in (torch.float32, torch.bfloat16):
        yield from operator_rows(device, shape, dtype)


def operator_rows(device: Device, shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[Row]:
    x = torch.randn(shape, device=device.name).to(dtype).contiguous(memory_format=torch.channels_last)
    g, bias = torch.randn_like(x), torch.randn(shape[1], device=device.name)
    _, bits = torch.ops.bigan.bias_leaky_relu(x, bias, SLOPE, True)
    source = torch.empty(x.nbytes, dtype=torch.uint8, device=device.name)
    target = torch.empty_like(source)
    moved = 2 * x.nbytes + bits.nbytes
    name = str(dtype).removeprefix("torch.")
    for what, thunk in (
        ("bias + leaky ReLU", lambda: torch.ops.bigan.bias_leaky_relu(x, bias, SLOPE, True)),
        ("bias + leaky ReLU in place", lambda: bias_leaky_relu_(x, bias, SLOPE)),
        ("leaky ReLU backward + bias gradient", lambda: torch.ops.bigan.mask_multiply(g, None, bits, SLOPE, True, True)),
        ("affine + leaky ReLU", lambda: affine_leaky_relu(x, bias, bias, SLOPE)),
    ):
        copy, ours = device.alternate(lambda: target.copy_(source), thunk)
        share = round(moved / ours / (2 * source.nbytes / copy), 2)
        yield Row(f"{what}, {name}", share, "of a copy's bandwidth", 0.85, share >= 0.85, copy, ours, share, share)


def loss_of(pair: tuple[Tensor, Tensor]) -> Tensor:
    return F.softplus(-pair[0]).mean() + R1(weight=10.0)(pair[1])


def critic_rows(device: Device) -> Iterator[Row]:
    """The real loss with R1, bf16: at 256 px, and at 64 px where a CUDA graph holds our whole step."""
    for size, count, target in ((256, 16, 1.7), (64, 64, 2.5)):
        if device.dry:
            size, count = 16, 2
        theirs, ours = eager_critic(size).to(device.name), DCGANCritic().build((3, size, size)).to(device.name)
        x = torch.randn(count, 3, size, size, device=device.name).contiguous(memory_format=torch.channels_last)
        copy_parameters(ours, theirs)
        for critic in (theirs, ours):
            critic.to(memory_format=torch.channels_last)
        eager, recorded = step(theirs, x, by_autograd), step(ours, x, with_gradient)
        check(eager(), recorded(), 1e-1)
        captured = target == 2.5
        before, after = device.alternate(eager, capture(recorded) if captured and not device.dry else recorded)
        speed = round(before / after, 2)
        name = f"real loss + R1, {size} px, N = {count}, bf16{', in a CUDA graph' if captured else ''}"
        yield Row(name, speed, "times eager's speed", target, speed >= target, before, after, speed, speed)


def step(critic: nn.Module, x: Tensor, way: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]) -> Callable[[], list[Tensor]]:
    parameters = list(critic.parameters())

    def run() -> list[Tensor]:
        with torch.autocast(x.device.type, torch.bfloat16):
            loss = loss_of(way(critic, x))
        return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))

    return run


def capture(thunk: Thunk) -> Thunk:
    """The thunk as a replay of its graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            thunk()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        thunk()
    return graph.replay


def table(rows: list[Row]) -> str:
    lines = [
        "# Kernels on a GPU",
        "",
        "`python benchmarks/gpu.py --save`",
        "",
        f"- hardware: {torch.cuda.get_device_name()}; kernels: {bigan.ops.backend()}",
        f"- versions: torch {torch.__version__}, CUDA {torch.version.cuda}",
        f"- date: {datetime.date.today()}, commit: {commit()}",
        "",
        "| what | theirs ms | ours ms | value | unit | target | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row.name,
            f"{row.theirs:.3f}",
            f"{row.ours:.3f}",
            row.value,
            row.unit,
            row.target,
            "yes" if row.holds else "**no**",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print an array of rows")
    parser.add_argument("--save", action="store_true", help="rewrite benchmarks/results/gpu.md")
    parser.add_argument("--dry", action="store_true", help="run every row once on the CPU, for nothing but to see it run")
    arguments = parser.parse_args()
    if not arguments.dry and not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py needs a GPU; --dry runs its rows on the CPU")
    torch.manual_seed(0)
    device = Device(arguments.dry)
    rows = [*bandwidth_rows(device), *critic_rows(device)]
    if arguments.dry or arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print(table(rows))
    if arguments.save and not arguments.dry:
        RESULTS.write_text(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
