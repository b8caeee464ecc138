"""Show that each system works, by a figure: `python benchmarks/systems.py [NAME …] [--seeds 3] [--json]`.

NAME is a row's number or an experiment's name; all unless given. Each experiment and seed is a process of its own, and what
it finds is kept in results/systems.json at once: a table that was broken off goes on where it stopped (`--fresh` measures
anew). `--save` rewrites results/systems.md from all that is kept there.
"""

import argparse
import importlib
import json
import os
import pkgutil
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import experiments
from experiments.row import EXPERIMENTS, WORK, Experiment, Figure, Lab, Missing, set_up
from rows import page
from timing import commit

RESULTS = Path(__file__).with_name("results") / "systems.json"
Kept = dict[str, dict[str, Any]]


def chosen(names: list[str]) -> list[Experiment]:
    """The experiments that are meant, in the order of the table."""
    for module in pkgutil.iter_modules(experiments.__path__):
        importlib.import_module(f"experiments.{module.name}")
    known = sorted(EXPERIMENTS.values(), key=lambda e: (int(e.number), e.name))
    if unknown := [name for name in names if not any(name in (e.number, e.name) for e in known)]:
        raise SystemExit(f"{unknown[0]}: no such row; there are {', '.join(f'{e.number} {e.name}' for e in known)}")
    return [e for e in known if not names or e.number in names or e.name in names]


def read() -> Kept:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(name: str, seed: int, found: dict[str, Any]) -> None:
    kept = read()
    kept.setdefault(name, {})[str(seed)] = found
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def measure(name: str, seed: int) -> None:
    """In a process of its own: run one experiment and print what it found as the last line."""
    (experiment,) = chosen([name])
    set_up()
    folder = WORK / "runs" / f"{name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.perf_counter()
    try:
        figures = experiment.measure(Lab(seed, folder))
    except Missing as missing:
        print(json.dumps({"missing": str(missing)}))
        return
    seconds = round(time.perf_counter() - began)
    print(json.dumps({"figures": [asdict(figure) for figure in figures], "seconds": seconds, "commit": commit()}))


def spawn(name: str, seed: int) -> dict[str, Any]:
    """What one experiment found under one seed."""
    log = WORK / f"{name}-{seed}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--one", name, str(seed)]
    with log.open("w") as errors:
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        errors.write(ended.stdout)
    if ended.returncode:
        return {"missing": f"failed: {log}"}
    return json.loads(ended.stdout.splitlines()[-1])


def figures_of(experiment: Experiment, kept: Kept) -> Iterator[tuple[Figure, list[float], bool | None]]:
    """Each figure of an experiment: its line, its values by seed, and whether their median holds."""
    runs = [run for _, run in sorted(kept.get(experiment.name, {}).items()) if "figures" in run]
    for index, plain in enumerate(runs[0]["figures"] if runs else []):
        figure, values = Figure(**plain), [run["figures"][index]["value"] for run in runs]
        yield figure, values, figure.holds(statistics.median(values))


def lines(which: list[Experiment], kept: Kept) -> list[str]:
    """The table."""
    table = ["| row | system | figure | median | seeds | line | holds |", "|---|---|---|---|---|---|---|"]
    for experiment in which:
        for figure, values, holds in figures_of(experiment, kept):
            told = {True: "yes", False: "**no**", None: ""}[holds]
            seeds = ", ".join(f"{value:.4g}" for value in values)
            unit = f" {figure.unit}" if figure.unit else ""
            table.append(
                f"| {experiment.number} | {experiment.title} | {figure.name} | {statistics.median(values):.4g}{unit} | {seeds} "
                f"| {figure.line} | {told} |"
            )
        for seed, run in sorted(kept.get(experiment.name, {}).items()):
            if "missing" in run:
                table.append(f"| {experiment.number} | {experiment.title} | seed {seed}: {run['missing']} | | | | |")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="experiments at a time, a thread each")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], int(options.one[1]))
        return
    which = chosen(options.names)
    kept = read()
    todo = [
        (experiment.name, seed)
        for seed in range(options.seeds)
        for experiment in which
        if options.fresh or "figures" not in kept.get(experiment.name, {}).get(str(seed), {})
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar, ThreadPoolExecutor(options.jobs) as pool:
        task = bar.add_task("systems", total=len(todo))
        running = {pool.submit(spawn, name, seed): (name, seed) for name, seed in todo}
        for done in as_completed(running):
            name, seed = running[done]
            keep(name, seed, done.result())
            bar.update(task, advance=1, description=f"{name}, seed {seed}")
    kept = read()
    table = lines(which, kept)
    if options.json:
        print(json.dumps([
            {"row": e.number, "system": e.title, **asdict(f), "value": statistics.median(v), "seeds": v, "holds": holds}
            for e in which for f, v, holds in figures_of(e, kept)
        ], ensure_ascii=False))  # fmt: skip
    else:
        print("\n".join(table))
    if options.save:
        seconds = [run["seconds"] for runs in kept.values() for run in runs.values() if "seconds" in run]
        told = [f"One seed of an experiment took {statistics.median(seconds):.0f} s (median; at most {max(seconds)} s)."]
        RESULTS.with_suffix(".md").write_text(
            page("The systems", "python benchmarks/systems.py --save", [*told, "", *lines(chosen([]), kept)])
        )


if __name__ == "__main__":
    main()
