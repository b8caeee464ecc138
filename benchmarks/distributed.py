"""What many ranks cost: `python benchmarks/distributed.py [--json]`; on two idle cores or more, one thread a rank.

Two sides are measured in turns and compared within a turn; ratios are medians over the turns, so that a slow moment of the
machine hits both. `--save` rewrites benchmarks/results/distributed.md.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from bigan.batch import Batch
from bigan.build import Setup, build_game, prepared
from bigan.clock import Clock
from bigan.config import Run, load
from bigan.distributed.group import Alone, joined
from bigan.distributed.player import seat
from bigan.distributed.saver import Saver
from bigan.distributed.zero import Division
from bigan.play import Meter, Table, play
from rows import Row, at_least, at_most, markdown, show

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results") / "distributed.md"
CPU = torch.device("cpu")
BATCH, TURNS, STARTS, SAVES, WARM = 16, 5, 3, 15, 10


def digits(folder: Path, ranks: int, *changes: str) -> list[str]:
    """The arguments of the default digits run with `BATCH` images a rank."""
    own = [f"folder={folder}", f"data.real.path={folder / 'digits'}", f"batch={BATCH * ranks}"]
    return [str(ROOT / "configs" / "digits.yaml"), *own, *changes]


def run_of(folder: Path, ranks: int) -> Run:
    config, *assignments = digits(folder, ranks)
    return load(Path(config), assignments)


def torchrun(ranks: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]


def rounds_of(table: Table, clock: Clock, rounds: int, now: Callable[[], float] = time.perf_counter) -> tuple[Clock, float]:
    """Play; seconds a round."""
    began = now()
    for _ in range(rounds):
        clock = play(table, clock, Meter())
    return clock, (now() - began) / rounds


def rank(folder: Path, seconds: float) -> None:
    """What one rank of `scaling` does: play for so long; rank 0 prints the images a second of all."""
    with joined(CPU) as group, prepared(run_of(folder, group.size), group, CPU) as setup:
        clock, each = rounds_of(setup.table, setup.clock, WARM)
        rounds = int(group.agree(str(max(1, round(seconds / each)))))
        _, each = rounds_of(setup.table, clock, rounds)
        if group.rank == 0:
            print(BATCH * group.size / each)


def scaling(folder: Path, turns: int, seconds: float) -> list[Row]:
    """Images a second on two ranks over those on one, which plays without DeepSpeed."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(turns):
        for ranks, found in rates.items():
            start = torchrun(ranks) if ranks > 1 else [sys.executable]
            found.append(float(_output([*start, __file__, "--rank", str(folder), str(seconds)], folder).split()[-1]))
    ratio = statistics.median(two / one for one, two in zip(*rates.values(), strict=True))
    alone = [Row(f"{n} rank(s), {BATCH} images each", round(statistics.median(r), 1), "images/s") for n, r in rates.items()]
    return [*alone, at_least("weak scaling, 1 → 2 ranks", ratio, 1.8, "times the images/s of one rank")]


def overhead(folder: Path, turns: int, seconds: float) -> list[Row]:
    """A round through DeepSpeed on one rank over the same round without it, by the thread's own time."""
    with prepared(run_of(folder, 1), Alone(), CPU) as setup:
        still = {name: Still(feed.read(0, BATCH)) for name, feed in setup.feeds.items()}
        sides = {"torch": replace(setup.table, feeds=still)}
        sides |= {f"ZeRO {stage}": replace(_through_deepspeed(setup, stage), feeds=still) for stage in (0, 1, 2)}
    begun = {name: rounds_of(table, setup.clock, WARM, time.thread_time) for name, table in sides.items()}
    rounds = max(4, 4 * round(seconds / begun["torch"][1] / 4))  # a lazy penalty is due every fourth
    clocks = {name: clock for name, (clock, _) in begun.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns):
        for name in sorted(sides, reverse=turn % 2 == 1):
            clocks[name], found = rounds_of(sides[name], clocks[name], rounds, time.thread_time)
            times[name].append(found)
    plain = times.pop("torch")
    more = {name: statistics.median(a / b for a, b in zip(each, plain, strict=True)) - 1 for name, each in times.items()}
    unit = "more time a round than plain torch"
    divided = [Row(f"DeepSpeed, ZeRO {stage}, one rank", round(more[f"ZeRO {stage}"], 4), unit) for stage in (1, 2)]
    return [at_most("DeepSpeed, ZeRO 0, one rank", more["ZeRO 0"], 0.10, unit), *divided]


class Still:
    """A stream of one batch, so that reading costs neither side."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def read(self, start: int, count: int) -> Batch:
        return self._batch


def _through_deepspeed(setup: Setup, stage: int) -> Table:
    """The same run with networks of its own, whose players step through DeepSpeed."""
    run, table = setup.run, setup.table
    game = build_game(run, setup.streams, CPU)
    division = Division(micro_batch=table.micro_batch, accumulation=1, zero_stage=stage)
    players = {
        name: seat(
            module, run.optimizers.get(name, run.optimizer), run.average if name in game.averaged else None, division,
            Alone(), CPU, deepspeed=True,
        )
        for name, module in game.players.items()
    }  # fmt: skip
    return replace(table, game=game, players=players)


def saving(folder: Path, saves: int) -> list[Row]:
    """What the loop waits in a save, the snapshot included; the save before has long been written, as in a run."""
    waits: list[float] = []
    with prepared(run_of(folder, 1), Alone(), CPU) as setup, Saver(folder / "checkpoints", keep=2) as saver:
        clock = setup.clock
        for _ in range(saves + 1):
            clock, _ = rounds_of(setup.table, clock, 3)
            saver.wait()
            began = time.perf_counter()
            saver.save(setup.checkpoint(clock))
            waits.append((time.perf_counter() - began) * 1e3)
        saver.wait()
        assert saver.problem is None
    # The first save makes the memory that the others use.
    return [at_most("a save blocks training", statistics.median(waits[1:]), 50, "ms")]


def starting(folder: Path, starts: int) -> list[Row]:
    """From torchrun to the line that two ranks log after their first round; and what was compiled on the way."""
    found = []
    for number in range(starts):
        home = folder / f"start{number}"
        command = [*torchrun(2), "-m", "bigan", "train", *digits(folder, 2, f"name={home.name}", "tick_kimg=0.001")]
        began = time.perf_counter()
        with subprocess.Popen(command, env=_environment(folder), cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while not _logged(home / "events.jsonl"):
                if process.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)}: ended with {process.returncode} before its first round")
                time.sleep(0.02)
            found.append(time.perf_counter() - began)
            process.terminate()
    built = [path for path in (folder / "extensions").rglob("*") if path.is_file()]
    return [
        at_most("start-up to the first round, 2 ranks", statistics.median(found), 15, "s"),
        at_most("files built just in time", len(built), 0, "files"),
    ]


def _logged(events: Path) -> bool:
    return events.exists() and events.stat().st_size > 0


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "TORCH_EXTENSIONS_DIR": str(folder / "extensions")}


def _output(command: list[str], folder: Path) -> str:
    return subprocess.run(command, env=_environment(folder), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def measure(folder: Path, turns: int, seconds: float, starts: int) -> list[Row]:
    _output([sys.executable, "-m", "bigan", "pack", "digits", str(folder / "digits"), "--size", "32"], folder)
    costs = [*scaling(folder, turns, seconds), *overhead(folder, turns, seconds)]
    return [*costs, *saving(folder, SAVES), *starting(folder, starts)]


def table(rows: list[Row]) -> str:
    told = (
        f"The default digits run (configs/digits.yaml), {BATCH} images a rank, float32, gloo, one thread a rank; medians over",
        f"{TURNS} turns of both sides, {SAVES} saves, {STARTS} starts.",
    )
    return markdown("Many ranks", "python benchmarks/distributed.py --save", told, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="one short turn: whether it runs")
    parser.add_argument("--rank", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.rank is not None:
        rank(Path(arguments.rank[0]), float(arguments.rank[1]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(Path(scratch), *((1, 0.5, 1) if arguments.smoke else (TURNS, 4.0, STARTS)))
    show(rows, table(rows), RESULTS, as_json=arguments.json, save=arguments.save)


if __name__ == "__main__":
    main()
