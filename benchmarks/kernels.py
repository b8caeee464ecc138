"""What the kernels gain over eager PyTorch on one CPU thread: `python benchmarks/kernels.py [--json | --save]`.

Each row is the median over alternated pairs of (eager time / our time), so that a slow moment of the machine hits both
sides, and then the median over processes, with its range. Outputs are compared before anything is timed. `--save` rewrites
benchmarks/results/kernels.md.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bigan.ops
from bigan.ops import bias_leaky_relu

RESULTS = Path(__file__).with_name("results") / "kernels.md"
SLOPE = 0.2
Thunk = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One measurement. `value`: eager time / our time; it `holds` where it reaches `target`.

    `lowest` and `highest` are over separate processes: where memory happens to lie moves a small row by a third.
    """

    name: str
    value: float
    unit: str
    target: float
    holds: bool
    eager_ms: float
    ours_ms: float
    lowest: float
    highest: float


def milliseconds(thunk: Thunk, repeat: int) -> float:
    # The thread's own time: what other processes take of the core is not counted.
    start = time.thread_time()
    for _ in range(repeat):
        thunk()
    return (time.thread_time() - start) * 1e3 / repeat


def compare(name: str, eager: Thunk, ours: Thunk, target: float, *, pairs: int = 21) -> Row:
    """Time alternated pairs, each side long enough (10 ms) for the clock, and take medians."""
    for thunk in (eager, ours):
        milliseconds(thunk, 3)
    repeat = max(1, round(10 / max(milliseconds(eager, 3), 1e-3)))
    sides = [], []
    for index in range(pairs):
        for side in (0, 1) if index % 2 == 0 else (1, 0):
            sides[side].append(milliseconds((eager, ours)[side], repeat))
    ratio = statistics.median(e / o for e, o in zip(*sides, strict=True))
    medians = [statistics.median(side) for side in sides]
    unit, speed = "times eager's speed", round(ratio, 2)
    return Row(name, speed, unit, target, speed >= target, *(round(m, 3) for m in medians), lowest=speed, highest=speed)


def median_row(rows: Sequence[Row]) -> Row:
    """The middle one of the same row from several processes."""
    speeds = sorted(row.value for row in rows)
    middle = next(row for row in rows if row.value == speeds[len(speeds) // 2])
    return replace(middle, lowest=speeds[0], highest=speeds[-1])


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    error = float((found.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-30))
    assert error <= tolerance, f"outputs differ by {error:.1e}: not timed"


def activation_rows() -> Iterator[Row]:
    # A late layer that fits a cache, and an early one of a large batch that does not.
    for shape in ((8, 128, 16, 16), (16, 64, 64, 64)):
        for dtype in (torch.float32, torch.bfloat16):
            yield from activation_rows_at(shape, dtype)


def activation_rows_at(shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[Row]:
    x, g = (torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last) for _ in range(2))
    bias = torch.randn(shape[1]).to(dtype).float()
    cast = bias.to(dtype).view(1, -1, 1, 1)
    what = f"{'×'.join(map(str, shape))} {str(dtype).removeprefix('torch.')} NHWC"
    y, bits = torch.ops.bigan.bias_leaky_relu(x, bias, SLOPE, True)
    z = x + cast
    close(y, F.leaky_relu(z, SLOPE), 1e-6 if dtype == torch.float32 else 1e-2)
    ours = lambda: torch.ops.bigan.bias_leaky_relu(x, bias, SLOPE, True)  # noqa: E731
    yield compare(f"bias + leaky ReLU, {what}; eager: x + bias, leaky_relu", lambda: F.leaky_relu(x + cast, SLOPE), ours, 1.2)
    # A convolution adds its own bias, so that this is all that a plain network pays for its activation.
    yield compare(f"bias + leaky ReLU, {what}; eager: leaky_relu alone", lambda: F.leaky_relu(z, SLOPE), ours, 0.8)

    def eager() -> tuple[Tensor, Tensor]:
        dx = torch.ops.aten.leaky_relu_backward(g, z, SLOPE, False)
        return dx, dx.sum((0, 2, 3))

    def multiply() -> tuple[Tensor, Tensor]:
        dx, sums = torch.ops.bigan.mask_multiply(g, None, bits, SLOPE, True, True)
        return dx, sums.sum(0)

    for found, wanted in zip(multiply(), eager(), strict=True):
        close(found, wanted, 1e-5 if dtype == torch.float32 else 2e-2)
    yield compare(f"backward + bias gradient, {what}; eager: leaky_relu_backward, sum", eager, multiply, 1.2)


class Critic(nn.Module):
    """DCGAN, 64 px, 64 to 512 channels, with PyTorch's activation or ours."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 4, 2, 1) for i, o in pairwise((3, 64, 128, 256, 512)))
        self.head = nn.Conv2d(512, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        """images: [N, 3, 64, 64] to logits: [N]."""
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            if self.fused:
                x = bias_leaky_relu(F.conv2d(x, layer.weight, stride=2, padding=1), layer.bias, SLOPE)
            else:
                x = F.leaky_relu(layer(x), SLOPE)
        return self.head(x).flatten()


def penalty_gradients(critic: Critic, x: Tensor) -> list[Tensor]:
    """Gradients of R1 with respect to the weights; most biases have none."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    weights = [p for p in critic.parameters() if p.dim() > 1]
    return list(torch.autograd.grad(gradient.square().sum() / (2 * x.shape[0]), weights))


def penalty_rows() -> Iterator[Row]:
    eager, ours = Critic(fused=False), Critic(fused=True)
    ours.load_state_dict(eager.state_dict())
    x = torch.randn(8, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    for critic in (eager, ours):
        critic.to(memory_format=torch.channels_last)
    for found, wanted in zip(penalty_gradients(ours, x), penalty_gradients(eager, x), strict=True):
        close(found, wanted, 1e-5)
    yield compare(
        "R1 step by autograd, 64 px DCGAN critic, N = 8, float32 NHWC; eager: F.leaky_relu",
        lambda: penalty_gradients(eager, x),
        lambda: penalty_gradients(ours, x),
        1.7,
        pairs=11,
    )


def hardware() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().split("\n\n")[0].splitlines() if ":" in line)
        found = {key.strip(): value.strip() for key, value in fields.items()}
        model = f"{found.get('model name', model)}, family {found.get('cpu family')} model {found.get('model')}"
    return f"{model}; {torch.get_num_threads()} thread; kernels: {bigan.ops.backend().build.get('cpu_capability', 'reference')}"


def commit() -> str:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if git.returncode != 0:
        return "none yet"
    measured = ["csrc", "bigan/ops", "setup.py", "benchmarks/kernels.py"]
    changed = subprocess.run(["git", "status", "--porcelain", "--", *measured], capture_output=True, text=True, check=True)
    return git.stdout.strip() + (" and uncommitted changes" if changed.stdout else "")


def table(rows: list[Row]) -> str:
    lines = [
        "# Kernels against eager PyTorch",
        "",
        "`python benchmarks/kernels.py --save`",
        "",
        f"- hardware: {hardware()}",
        f"- versions: torch {torch.__version__}, Python {platform.python_version()}, built by "
        f"{bigan.ops.backend().build.get('compiler', 'nobody')}",
        f"- date: {datetime.date.today()}, commit: {commit()}",
        "",
        "Medians over alternated pairs of the thread's own time, with freed memory kept, then over processes.",
        "Speed: eager's time over ours.",
        "",
        "| what | eager ms | ours ms | speed | over processes | target | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        holds = "yes" if row.holds else "**no**"
        lines.append(
            f"| {row.name} | {row.eager_ms} | {row.ours_ms} | {row.value} "
            f"| {row.lowest} to {row.highest} | {row.target} | {holds} |"
        )
    return "\n".join(lines) + "\n"


def measure() -> list[Row]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return [*activation_rows(), *penalty_rows()]


def measure_in_processes(count: int) -> list[Row]:
    """Measure in processes whose allocator keeps what is freed: fresh pages, which cost as much as a kernel, would decide."""
    keep = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}
    command = [sys.executable, __file__, "--one"]
    runs = []
    for _ in range(count):
        output = subprocess.run(command, env={**os.environ, **keep}, stdout=subprocess.PIPE, text=True, check=True).stdout
        runs.append([Row(**row) for row in json.loads(output)])
    return [median_row(rows) for rows in zip(*runs, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print an array of rows")
    parser.add_argument("--save", action="store_true", help="rewrite benchmarks/results/kernels.md")
    parser.add_argument("--processes", type=int, default=5, help="how many times all is measured (default: %(default)s)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # what each of the processes is called with
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps([asdict(row) for row in measure()]))
        return 0
    torch.set_num_threads(1)
    print(hardware(), file=sys.stderr)
    rows = measure_in_processes(arguments.processes)
    print(json.dumps([asdict(row) for row in rows], indent=2) if arguments.json else table(rows))
    if arguments.save:
        RESULTS.write_text(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
