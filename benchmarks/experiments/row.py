"""The vocabulary of experiments: a figure with its pass line, a row of the table, and the lab in which it is measured."""

import fcntl
import json
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bigan.config import Run, load
from bigan.data.pack import pack
from bigan.data.sources import open_source
from bigan.play import sample
from bigan.sample import CHUNK, Restored, restore
from bigan.train import train
from bigan.uses import Translation, use

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
WORK = ROOT / "build" / "systems"
IMAGES = ROOT / "docs" / "images" / "systems"
_SIDES = {"≥": operator.ge, "≤": operator.le, ">": operator.gt, "<": operator.lt, "=": operator.eq}


@dataclass(frozen=True)
class Figure:
    """A measured number.

    Attributes:
        line: which side of what it has to be on, such as "≥ 0.8"; "" where it only informs.
    """

    name: str
    value: float
    line: str = ""
    unit: str = ""

    def holds(self, value: float) -> bool | None:
        """Whether a value of this figure is on the right side of its line; None where it has none."""
        if not self.line:
            return None
        side, bound = self.line.split()
        return _SIDES[side](value, float(bound))


@dataclass(frozen=True)
class Trained:
    """A run that `Lab.run` has trained."""

    home: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it logged."""
        return [json.loads(line) for line in (self.home / "events.jsonl").read_text().splitlines()]

    def last(self, name: str) -> float:
        """The last value that it logged under a name."""
        return next(event[name] for event in reversed(self.events) if event.get(name) is not None)

    @cached_property
    def restored(self) -> Restored:
        """Its players, averages where there are any."""
        return restore(self.home)

    def samples(self, count: int, seed: int = 0) -> Tensor:
        """What its game samples first: images [N, C, H, W] or points [N, d]."""
        it = self.restored
        return next(iter(sample(it.game, it.players, it.saved.clock, count, seed=seed, device=it.device).values())).cpu()

    def translated(self, images: Tensor, to: str = "") -> Tensor:
        """What its game makes of images [N, …] in [-1, 1], by the way of that name; float32 on the CPU."""
        it = self.restored
        way = use(it.game, Translation, "translate").to(to)
        made = [
            it.look.used(lambda ctx, part=part: way.run(ctx, part), len(part), "translate", start=number * CHUNK)
            for number, part in enumerate(images.to(it.device).split(CHUNK))
        ]
        return torch.cat(made).float().cpu()


@dataclass(frozen=True)
class Lab:
    """What an experiment is given.

    Attributes:
        seed: of everything random in it.
        folder: an empty one of its own.
        changes: key=value of every run, to make it shorter.
    """

    seed: int
    folder: Path
    changes: tuple[str, ...] = ()

    def run(self, config: str, *assignments: str, name: str = "run") -> Trained:
        """Train a config of the repository, changed by key=value, under the lab's seed."""
        run = self.loaded(config, *assignments, name=name)
        train(run, "none")
        trained = Trained(run.home)
        assert trained.restored.saved.clock.images >= run.length_kimg * 1000, "the run was stopped before its length"
        return trained

    def loaded(self, config: str, *assignments: str, name: str = "run") -> Run:
        """What `run` trains."""
        own = [f"seed={self.seed}", f"name={name}", f"folder={self.folder}"]
        return load(ROOT / config, [*assignments, *self.changes, *own])

    def picture(self, name: str) -> Path:
        """Where a picture for the docs is written; only the first seed's is kept."""
        place = IMAGES if self.seed == 0 else self.folder
        place.mkdir(parents=True, exist_ok=True)
        return place / name

    def digits(self, size: int = 32) -> Path:
        """scikit-learn's 1,797 digits, packed."""
        return _packed("digits", f"digits-{size}", size, None)

    def mnist(self, size: int = 32, split: str = "train") -> Path:
        """MNIST, packed.

        Raises:
            Missing: if it is not beside the checkout.
        """
        if not (SHARED / "mnist").is_dir():
            raise Missing("needs MNIST in ../shared/data/mnist")
        return _packed(str(SHARED / "mnist"), f"mnist-{split}-{size}", size, split)


class Missing(Exception):  # noqa: N818
    """The data of an experiment are not at hand."""


@dataclass(frozen=True)
class Experiment:
    """One experiment: a row of the table of systems, or a part of one."""

    number: str
    title: str
    measure: Callable[[Lab], list[Figure]]

    @property
    def name(self) -> str:
        """Unique among all."""
        return self.measure.__name__


EXPERIMENTS: dict[str, Experiment] = {}


def row(number: str, title: str) -> Callable[[Callable[[Lab], list[Figure]]], Callable[[Lab], list[Figure]]]:
    """Enter an experiment under its number in the table of systems; its name is the function's."""

    def enter(measure: Callable[[Lab], list[Figure]]) -> Callable[[Lab], list[Figure]]:
        assert measure.__name__ not in EXPERIMENTS, measure.__name__
        EXPERIMENTS[measure.__name__] = Experiment(number, title, measure)
        return measure

    return enter


def _packed(source: str, name: str, size: int, split: str | None) -> Path:
    """A packed data set that experiments share; two that run at once do not pack it twice."""
    folder = WORK / "data" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.turn").open("w") as lock:  # NAME.lock is the packing's own
        fcntl.flock(lock, fcntl.LOCK_EX)
        pack(open_source(source, split=split), folder, size=(size, size), workers=1)
    return folder


def set_up() -> None:
    """One thread, as two experiments run side by side."""
    torch.set_num_threads(1)
