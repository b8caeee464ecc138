"""What a benchmark prints: figures, their targets, and a dated table with the machine's name."""

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from kernels import hardware
from timing import commit


@dataclass(frozen=True)
class Row:
    """One figure; it `holds` where it is on the right side of its target, None where it has none."""

    name: str
    value: float
    unit: str
    target: float | None = None
    holds: bool | None = None


def at_least(name: str, value: float, target: float, unit: str) -> Row:
    return Row(name, round(value, 3), unit, target, round(value, 3) >= target)


def at_most(name: str, value: float, target: float, unit: str) -> Row:
    return Row(name, round(value, 4), unit, target, round(value, 4) <= target)


def markdown(title: str, command: str, told: Sequence[str], rows: Sequence[Row]) -> str:
    """The rows as a page of benchmarks/results; `told` says how they were measured."""
    lines = [*told, "", "| what | value | unit | target | holds |", "|---|---|---|---|---|"]
    for row in rows:
        holds = {True: "yes", False: "**no**", None: ""}[row.holds]
        lines.append(
            f"| {row.name} | {row.value:g} | {row.unit} | {'' if row.target is None else f'{row.target:g}'} | {holds} |"
        )
    return page(title, command, lines)


def page(title: str, command: str, lines: Sequence[str]) -> str:
    """A page of benchmarks/results: the command, the machine and the versions, then the lines."""
    head = [
        f"# {title}",
        "",
        f"`{command}`",
        "",
        f"- hardware: {hardware()}, {os.cpu_count()} cores",
        f"- versions: torch {torch.__version__}, Python {platform.python_version()}",
        f"- date: {datetime.date.today()}, commit: {commit()}",
        "",
    ]
    return "\n".join([*head, *lines]) + "\n"


def show(rows: Sequence[Row], table: str, results: Path, *, as_json: bool, save: bool) -> None:
    """Print the rows, as JSON or as their page; with `save`, write the page."""
    if save:
        results.write_text(table)
    print(json.dumps([asdict(row) for row in rows], indent=1) if as_json else table)
