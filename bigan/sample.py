"""Samples of a trained run, as a picture, an array or files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bigan.batch import DataSpec
from bigan.checkpoints import loaded
from bigan.config import Run, parse
from bigan.distributed.checkpoint import Checkpoint
from bigan.distributed.group import local_device
from bigan.folder import RunFolder
from bigan.game import Game, Samples
from bigan.look import Look
from bigan.report.grid import beside_source, pixels, save_grid, save_image
from bigan.uses import Chosen, use

CHUNK = 250


@dataclass(frozen=True)
class Restored:
    """A run as a checkpoint left it."""

    folder: RunFolder
    run: Run
    saved: Checkpoint
    game: Game
    players: dict[str, nn.Module]
    device: torch.device

    @property
    def look(self) -> Look:
        """The players, to be looked at."""
        return Look(game=self.game, players=self.players, clock=self.saved.clock, device=self.device)


def chunks(look: Look, count: int, seed: int) -> Iterator[Samples]:
    """Samples 0 … count - 1 under a seed, by name, CHUNK at a time; floating point ones in float32 on the CPU."""
    for start in range(0, count, CHUNK):
        samples = look.samples(min(CHUNK, count - start), start=start, seed=seed)
        yield {name: (value.float() if value.is_floating_point() else value).cpu() for name, value in samples.items()}


def images(look: Look, count: int, seed: int, drawn: Callable[[Samples], Tensor] = itemgetter("images")) -> Iterator[Tensor]:
    """The images of `chunks`: [n, C, H, W] in [-1, 1].

    Args:
        drawn: from samples to these.

    Raises:
        ValueError: if the game samples no images.
    """
    for samples in chunks(look, count, seed):
        if "images" not in samples:
            raise ValueError(f"the game samples {', '.join(samples)}, no images; `bigan sample --out=NAME.npz` takes them")
        yield drawn(samples)


def restore(path: Path, *, live: bool = False, at: str | None = None) -> Restored:
    """Rebuild a run's players from a checkpoint; the data set need not be there.

    Args:
        path: the run folder.
        live: take the live weights and not the averages.
        at: which checkpoint, as in `bigan.checkpoints.chosen`; the newest unless given.

    Raises:
        ValueError: if there is none that is whole, or it does not fit its own config.
    """
    folder, saved = loaded(path, at)
    run = parse(saved.config, folder.config)
    specs = {name: DataSpec.of(entry["spec"]) for name, entry in saved.data.items()}
    game = run.game.build(specs)
    device = local_device()
    game.state.load_state_dict(saved.part("state."))
    game.state.to(device)
    players: dict[str, nn.Module] = {}
    for name, module in game.players.items():
        part = "average" if name in game.averaged and not live else "module"
        module.load_state_dict(saved.part(f"player.{name}.{part}."))
        players[name] = module.to(device).to(memory_format=torch.channels_last).requires_grad_(False)
    return Restored(folder, run, saved, game, players, device)


def write_samples(
    path: Path, out: Path, *, count: int, seed: int, live: bool = False, at: str | None = None, given: str | None = None
) -> None:
    """Write samples of a run: OUT.png a grid of images, OUT.npz every output by its name, otherwise a folder of PNGs.

    In OUT.npz, `images` are [N, H, W, C] uint8; all else, such as `points`, is as the game samples it.

    Args:
        given: the condition of all samples, as the user writes it; drawn unless given.

    Raises:
        ValueError: if the run cannot be restored, has no such condition, or OUT cannot be written.
    """
    if count < 1:
        raise ValueError(f"--count {count}: at least one sample")
    if out.suffix.lower() not in (".png", ".npz", "") and not out.is_dir():
        raise ValueError(f"--out {out}: ends in .png (a grid), .npz (arrays), or is a folder's name without a suffix")
    restored = restore(path, live=live, at=at)
    if given is not None:
        try:
            chosen = use(restored.game, Chosen, "be given a condition").given(given)
        except ValueError as error:
            raise ValueError(f"--given: {error}") from None
        restored = replace(restored, game=replace(restored.game, sample=chosen))
    try:
        _write(restored, out, count, seed)
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from None


def _write(restored: Restored, out: Path, count: int, seed: int) -> None:
    suffix = out.suffix.lower()
    if suffix == ".png":
        out.parent.mkdir(parents=True, exist_ok=True)
        save_grid(torch.cat(list(images(restored.look, count, seed, beside_source))), out)
    elif suffix == ".npz":
        out.parent.mkdir(parents=True, exist_ok=True)
        drawn = list(chunks(restored.look, count, seed))
        arrays = {name: torch.cat([samples[name] for samples in drawn]) for name in drawn[0]}
        named: dict[str, Any] = {name: pixels(a) if name == "images" else a.numpy() for name, a in arrays.items()}
        np.savez_compressed(out, **named)
    else:
        out.mkdir(parents=True, exist_ok=True)
        drawn = images(restored.look, count, seed)
        for number, image in enumerate(image for chunk in drawn for image in pixels(chunk)):
            save_image(image, out / f"{number:06d}.png")
