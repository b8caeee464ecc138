"""The event log: one JSON object a line."""

import json
from collections.abc import Mapping
from pathlib import Path


class EventLog:
    """Appends to a file; lines of rounds that a resumed run plays again are dropped first.

    Args:
        path: of the JSONL file.
        round: the round from which the run goes on.
    """

    def __init__(self, path: Path, round: int) -> None:
        self._path = path
        if path.is_file():
            kept = [line for line in path.read_text(errors="replace").splitlines() if _round(line) <= round]
            path.write_text("".join(f"{line}\n" for line in kept))

    def write(self, event: Mapping[str, float | int]) -> None:
        """Add a line."""
        with self._path.open("a") as file:
            file.write(json.dumps({key: _short(value) for key, value in event.items()}) + "\n")


def _short(value: float | int) -> float | int:
    """Nine digits: more than float32 holds."""
    return value if isinstance(value, int) else float(f"{value:.9g}")


def _round(line: str) -> float:
    """A line's round; a line that a kill cut short counts as of the future."""
    try:
        return float(json.loads(line)["round"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
