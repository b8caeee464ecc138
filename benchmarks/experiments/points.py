"""What experiments on toy points have in common."""

import shutil

from bigan.measure import modes_of
from bigan.metrics.modes import mode_coverage
from experiments.row import Figure, Lab, Trained

SAMPLES = 10_000


def covered(trained: Trained, *, named: str = "", modes: int | None = None, high_quality: float | None = None) -> list[Figure]:
    """Modes covered and HQ share of a run on modes, with the lines that they have to hold, if any."""
    truth = modes_of(trained.restored.run.data["real"])
    assert truth is not None, "the data have no modes"
    found = mode_coverage(trained.samples(SAMPLES), truth)
    return [
        Figure(f"modes of {found.present}{named}", found.covered, "" if modes is None else f"≥ {modes}"),
        Figure(f"HQ{named}", found.high_quality, "" if high_quality is None else f"> {high_quality}"),
    ]


def last_picture(lab: Lab, trained: Trained, name: str) -> None:
    """Keep what the run drew last for the docs."""
    shutil.copy(max((trained.home / "grids").glob("*.png")), lab.picture(name))
