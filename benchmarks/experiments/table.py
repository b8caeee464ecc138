"""The table of what experiments found: whole, and by parts in the pages of the systems."""

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from experiments.row import EXPERIMENTS, ROOT, Experiment, Figure

Kept = dict[str, dict[str, Any]]
"""What was found, by the experiment's name and the seed."""

USUAL = ["0", "1", "2"]
"""The seeds of a whole table."""

PAGES = ROOT / "docs" / "games"
PLACE = re.compile(r"(<!-- figures: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""Where a page shows figures: the names of the experiments, and the table."""


@dataclass(frozen=True)
class Found:
    """A figure by its seeds.

    Attributes:
        figure: its name and its line.
        by_seed: the value of each seed that gave it.
        tried: how many seeds were tried.
    """

    figure: Figure
    by_seed: dict[str, float]
    tried: int

    @property
    def values(self) -> list[float]:
        return [*self.by_seed.values()]

    @property
    def median(self) -> float:
        return math.nan if any(math.isnan(value) for value in self.values) else statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether the median is on the right side of the line; never so while a seed has none."""
        held = self.figure.holds(self.median)
        return None if held is None else held and len(self.values) == self.tried


def figures_of(experiment: Experiment, kept: Kept) -> list[Found]:
    """Each figure of an experiment, by name and line, as some of them have one number on two sides."""
    runs = sorted(kept.get(experiment.name, {}).items())
    values: dict[Figure, dict[str, float]] = {}
    for seed, run in runs:
        for plain in run.get("figures", []):
            figure = Figure(**plain)
            values.setdefault(replace(figure, value=0.0), {})[seed] = figure.value
    return [Found(figure, found, len(runs)) for figure, found in values.items()]


def missing(experiment: Experiment, kept: Kept) -> dict[str, str]:
    """What the seeds without figures said."""
    return {seed: run["missing"] for seed, run in sorted(kept.get(experiment.name, {}).items()) if "missing" in run}


def lines(which: Iterable[Experiment], kept: Kept) -> list[str]:
    """The table."""
    table = ["| row | system | figure | median | seeds | line | holds |", "|---|---|---|---|---|---|---|"]
    for experiment in which:
        for found in figures_of(experiment, kept):
            told = {True: "yes", False: "**no**", None: ""}[found.holds]
            seeds = ", ".join(f"{value:.4g}" for value in found.values)
            if [*found.by_seed] != USUAL:
                seeds += f" (of seed {', '.join(found.by_seed)} alone)"
            unit = f" {found.figure.unit}" if found.figure.unit else ""
            name = found.figure.name.replace("|", "\\|")
            table.append(
                f"| {experiment.number} | {experiment.title} | {name} | {found.median:.4g}{unit} | {seeds} "
                f"| {found.figure.line} | {told} |"
            )
        if not kept.get(experiment.name):
            table.append(f"| {experiment.number} | {experiment.title} | not measured yet | | | | |")
        for seed, said in missing(experiment, kept).items():
            table.append(f"| {experiment.number} | {experiment.title} | seed {seed}: {said} | | | | |")
    return table


def fill(page: str, kept: Kept) -> str:
    """A page with its tables written anew."""

    def written(place: re.Match[str]) -> str:
        table = lines((EXPERIMENTS[name] for name in place[2].split()), kept)
        return "\n".join([place[1], *table, "", place[3]])

    return PLACE.sub(written, page)


def fill_pages(kept: Kept) -> None:
    """Write the tables of all pages anew."""
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(fill(path.read_text(), kept))


def shown() -> set[str]:
    """The experiments that some page shows."""
    return {name for path in PAGES.glob("*.md") for place in PLACE.finditer(path.read_text()) for name in place[2].split()}


def measured(kept: Kept) -> list[dict[str, Any]]:
    """All that has figures."""
    return [run for runs in kept.values() for run in runs.values() if "figures" in run]


def slowest(which: Iterable[Experiment], kept: Kept) -> str:
    """How long the experiments of a row took together under one seed: the median of the rows, and the longest of all."""
    rows: dict[str, Counter[str]] = {}
    for experiment in which:
        for seed, run in kept.get(experiment.name, {}).items():
            if "seconds" in run:
                rows.setdefault(experiment.number, Counter())[seed] += run["seconds"]
    if not rows:
        return ""
    usual = statistics.median(statistics.median(seeds.values()) for seeds in rows.values())
    number, most = max(((number, max(seeds.values())) for number, seeds in rows.items()), key=itemgetter(1))
    return (
        f"One seed of a row takes {usual:.0f} s of one core (the median of the rows), at most {most:.0f} s (row {number}); "
        "two run at a time."
    )
