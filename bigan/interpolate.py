"""Ways between samples: strips, and loops that move."""

from pathlib import Path

import torch
from torch import Tensor

from bigan.game import Samples
from bigan.look import Look
from bigan.measure import judged_stream, read_points
from bigan.report.grid import save_animation, save_grid, sheet
from bigan.sample import restore

WAYS, STEPS = 8, 9  # of a strip
FINE_STEPS = 41  # of points, which are drawn as curves
LOOPS, STOPS, FRAMES = 16, 4, 20  # of a moving picture: each image walks through so many samples, in so many frames each

SUFFIXES = (".png", ".gif")


def ways(look: Look, steps: int, *, seed: int = 0) -> Samples:
    """Samples along WAYS ways of so many even steps, way after way: way k leads from sample k to sample WAYS + k."""
    start = torch.arange(WAYS).repeat_interleave(steps)
    at = torch.linspace(0, 1, steps).repeat(WAYS)
    return look.between(start, start + WAYS, at, seed=seed)


def interpolate(path: Path, out: Path, *, seed: int, live: bool = False, at: str | None = None) -> None:
    """Draw ways between samples of a run: OUT.png a strip a way, or points' ways over the truth; OUT.gif images that move.

    Args:
        path: the run folder.
        out: the file.
        seed: of the latents.
        live: take the live weights and not the averages.
        at: which checkpoint, as in `bigan.checkpoints.chosen`.

    Raises:
        ValueError: if the run cannot be restored or samples nothing that is drawn, or OUT cannot be written.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out {out}: ends in .png (strips) or .gif (images that move)")
    restored = restore(path, live=live, at=at)
    moving = out.suffix.lower() == ".gif"
    look = restored.look
    drawn = look.samples(1)
    if "source" in drawn:
        raise ValueError(f"{path}: its game translates images, and nothing lies between two of them; `bigan translate` does it")
    if "images" not in drawn and ("points" not in drawn or moving):
        raise ValueError(f"--out {out}: the game samples {', '.join(drawn)}; a .png takes images or points, a .gif images")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if moving:
            frames = [sheet(_frame(look, number, seed)) for number in range(STOPS * FRAMES)]
            save_animation(frames, out, seconds=STOPS * FRAMES / 20)
        elif "images" in drawn:
            save_grid(ways(look, STEPS, seed=seed)["images"], out, columns=STEPS)
        else:
            from bigan.report.points import Plot  # matplotlib takes a second to import

            with restored.run.data[judged_stream(restored.run.data)].open(seed=0) as stream:
                plot = Plot(read_points(stream))
            points = ways(look, FINE_STEPS, seed=seed)["points"].unflatten(0, (WAYS, FINE_STEPS))
            plot.paths(points, out, f"{restored.saved.clock.images / 1000:g} kimg")
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from None


def _frame(look: Look, number: int, seed: int) -> Tensor:
    """The images of one frame; at its end each is back at its first stop."""
    stop, step = divmod(number, FRAMES)
    first = torch.arange(LOOPS) * STOPS
    at = torch.full((LOOPS,), step / FRAMES)
    return look.between(first + stop, first + (stop + 1) % STOPS, at, seed=seed)["images"]
