"""What a tick draws: samples, ways between them and, of points, the critic; an animation at the end."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from bigan.build import Setup
from bigan.clock import Clock
from bigan.interpolate import FINE_STEPS, STEPS, WAYS, ways
from bigan.look import Look
from bigan.measure import judged_stream, modes_of, read_points
from bigan.metrics.modes import mode_coverage
from bigan.report.grid import beside_source, save_animation, save_grid

if TYPE_CHECKING:
    from bigan.report.points import Plot

IMAGES, POINTS = 64, 2500
"""How many samples a tick draws."""

_FRAMES = 60  # of an animation, at most
_SECONDS = 0.15  # a frame


class Pictures:
    """Draws a run into its folder.

    Args:
        setup: the run.
        may_write: asked before each writing; it raises if this process may no longer write there.
        warn: told what could not be written.
    """

    def __init__(self, setup: Setup, may_write: Callable[[], None], warn: Callable[[str], None]) -> None:
        self._setup, self._may_write, self._warn = setup, may_write, warn
        stream = judged_stream(setup.run.data) if setup.run.data else ""  # a game may play without data
        self._modes = modes_of(setup.run.data[stream]) if stream else None
        self._real = setup.streams.get(stream)
        arrays = self._real.spec.arrays if self._real else ()
        self._has_points = any(array.name == "points" and len(array.shape) == 1 for array in arrays)
        self._plot: Plot | None = None

    def samples(self, look: Look) -> Mapping[str, Tensor]:
        """As many samples as a tick shows."""
        samples = look.samples(IMAGES)
        return look.samples(POINTS) if "points" in samples else samples

    def figures(self, look: Look, samples: Mapping[str, Tensor]) -> dict[str, float]:
        """What a tick measures of samples: modes where they are known, and how steep the critic is there."""
        figures: dict[str, float] = {}
        points = samples.get("points")
        if self._modes is not None and points is not None and points.shape[1:] == self._modes.centres.shape[1:]:
            found = mode_coverage(points, self._modes)
            figures |= {"modes": float(found.covered), "high_quality": found.high_quality}
        shown = next((samples[name] for name in ("images", "points") if name in samples), None)
        if look.game.critique is not None and shown is not None:
            _, gradients = look.judged(shown)
            figures["input_gradient"] = float(gradients.flatten(1).norm(dim=1).mean())
        return figures

    def draw(self, look: Look, samples: Mapping[str, Tensor], clock: Clock, figures: Mapping[str, float]) -> None:
        """The tick's pictures; what cannot be written is said, and ends no run."""
        grid = grid_path(self._setup, clock)
        strip = self._setup.folder.interpolation / grid.name
        if "images" in samples:
            self._write(grid, lambda: save_grid(beside_source(samples), grid))
            if "source" in samples:  # one of those that the game keeps; nothing lies between two of them
                return
            drawn = ways(look, STEPS)["images"]
            self._write(strip, lambda: save_grid(drawn, strip, columns=STEPS))
        elif "points" in samples and self._has_points:
            plot, title = self._prepared(), _title(clock, figures)
            judge = look.judged if look.game.critique is not None else None
            self._write(grid, lambda: plot.draw(samples["points"], grid, title, judge))
            drawn = ways(look, FINE_STEPS)["points"].unflatten(0, (WAYS, FINE_STEPS))
            self._write(strip, lambda: plot.paths(drawn, strip, title))

    def animate(self) -> None:
        """Join the pictures of points that the ticks of this run have left to animation.gif."""
        if self._plot is None:
            return
        paths = sorted(self._setup.folder.grids.glob("kimg_*.png"))
        paths = [paths[row] for row in np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _FRAMES)).round().astype(int))]
        out = self._setup.folder.animation

        def join() -> None:
            frames = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
            same = [frame for frame in frames if frame.shape == frames[-1].shape]
            frames = [*same, *same[-1:] * (len(same) // 5)]  # and rest on the last
            save_animation(frames, out, _SECONDS * len(frames))

        self._write(out, join)

    def _prepared(self) -> "Plot":
        if self._plot is None:
            from bigan.report.points import Plot  # matplotlib takes a second to import, which runs of images do not pay

            assert self._real is not None, "points are drawn over those of a stream"
            self._plot = Plot(read_points(self._real))
        return self._plot

    def _write(self, path: Path, write: Callable[[], object]) -> None:
        self._may_write()
        try:
            write()
        except OSError as error:
            self._warn(f"{path}: cannot be written ({error.strerror})")


def grid_path(setup: Setup, clock: Clock) -> Path:
    """Where the grid of a tick lies."""
    return setup.folder.grids / f"kimg_{clock.images / 1000:09.3f}.png"


def _title(clock: Clock, figures: Mapping[str, float]) -> str:
    parts = [f"{clock.images / 1000:.3f} kimg"]
    if "modes" in figures:
        parts.append(f"{figures['modes']:.0f} modes, {figures['high_quality']:.0%} of high quality")
    return "   ".join(parts)
