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
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

import bigan.ops
from critic_rows import critic_rows
from generator_rows import generator_rows
from op_rows import op_rows
from timing import Row, commit, median_row

RESULTS = Path(__file__).with_name("results") / "kernels.md"


def hardware() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().split("\n\n")[0].splitlines() if ":" in line)
        found = {key.strip(): value.strip() for key, value in fields.items()}
        model = f"{found.get('model name', model)}, family {found.get('cpu family')} model {found.get('model')}"
    return f"{model}; {torch.get_num_threads()} thread; kernels: {bigan.ops.backend().build.get('cpu_capability', 'reference')}"


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
        "Medians over alternated pairs of the thread's own time, with freed memory kept, then over processes. The value is",
        "eager PyTorch's (or, where the row says so, inductor's) time over ours; of a step against one without a penalty, and",
        "of live bytes (MiB at the peak), ours over theirs. Targets of bf16 steps are meant for a CPU with AMX.",
        "",
        "| what | theirs, ms or MiB | ours | value | over processes | target | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        holds = "yes" if row.holds else "**no**"
        lines.append(
            f"| {row.name} | {row.theirs} | {row.ours} | {row.value} | {row.lowest} to {row.highest} | {row.target} | {holds} |"
        )
    return "\n".join(lines) + "\n"


def measure() -> list[Row]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return [*op_rows(), *critic_rows(), *generator_rows()]


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
