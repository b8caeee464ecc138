"""The progress line of a run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

RATES = ("images/s", "s/kimg", "loader_wait")


class ProgressLine:
    """A bar on a terminal, and a line a tick everywhere."""

    def __init__(self, console: Console, bar: Progress, task: TaskID) -> None:
        self._console, self._bar, self._task = console, bar, task

    def advance(self, kimg: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=kimg)

    def tick(self, kimg: float, stats: Mapping[str, float]) -> None:
        """Print a line of what a tick measured."""
        rates = f"{stats['images/s']:7.1f} images/s  {stats['s/kimg']:6.2f} s/kimg  {stats['loader_wait']:5.1%} waiting"
        rest = "  ".join(f"{name} {value:.3f}" for name, value in stats.items() if name not in RATES)
        self._console.print(f"{kimg:8.2f} kimg  {rates}  {rest}", markup=False, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_line(total_kimg: float, kimg: float, *, quiet: bool) -> Iterator[ProgressLine]:
    """Show progress while the context lasts; `quiet` on every rank but the first."""
    console = Console(quiet=quiet, stderr=False)
    columns = (TextColumn("{task.completed:.2f}/{task.total:g} kimg"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        line = ProgressLine(console, bar, bar.add_task("train", total=total_kimg))
        line.advance(kimg)
        yield line
