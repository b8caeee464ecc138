"""Show that each system works, by a figure: `python benchmarks/systems.py [NAME …] [--seeds 3] [--json]`.

NAME is a row's number or an experiment's name; all unless given. Each experiment and seed is a process of its own, and what
it finds is kept in results/systems.json at once: a table that was broken off goes on where it stopped (`--fresh` measures
anew). `--save` rewrites results/systems.md, and the tables in docs/games, from all that is kept there.
"""

import argparse
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import experiments
from experiments.row import EXPERIMENTS, ROOT, WORK, Experiment, Lab, Missing, set_up
from experiments.table import Kept, figures_of, fill_pages, lines, measured, missing, slowest
from rows import page
from timing import commit

FAILED = "failed"
RESULTS = Path(__file__).with_name("results") / "systems.json"


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
        return {"missing": f"{FAILED}: {log.relative_to(ROOT)}"}
    return json.loads(ended.stdout.splitlines()[-1])


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
            *({"row": e.number, "system": e.title, **asdict(found.figure), "value": found.median, "seeds": found.values,
               "holds": found.holds} for e in which for found in figures_of(e, kept)),
            *({"row": e.number, "system": e.title, "missing": missing(e, kept)} for e in which if missing(e, kept)),
        ], ensure_ascii=False))  # fmt: skip
    else:
        print("\n".join(table))
    if options.save:
        told = [
            f"Of commits {', '.join(sorted({run['commit'] for run in measured(kept)}))}. {slowest(chosen([]), kept)}",
            "A row holds where the median of the seeds that were measured does, and none of them failed.",
        ]
        RESULTS.with_suffix(".md").write_text(
            page("The systems", "python benchmarks/systems.py --save", [*told, "", *lines(chosen([]), kept)])
        )
        fill_pages(kept)
    if any(said.startswith(FAILED) for e in which for said in missing(e, kept).values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
