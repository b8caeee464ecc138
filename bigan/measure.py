"""Hold generated images against the data they are learnt from; nothing of the run that is measured is touched."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bigan.batch import Batch
from bigan.clock import Clock
from bigan.config import Run
from bigan.data.contract import Data, Stream
from bigan.data.decode import empty
from bigan.data.derived import Derived
from bigan.data.digits import ColouredDigits, Digits
from bigan.data.ratings import Held, Ratings
from bigan.data.stacked import StackedDigits
from bigan.data.stream import Shards
from bigan.data.toy import Modes, Toy
from bigan.folder import RunFolder
from bigan.game import Feed
from bigan.look import Look, looking
from bigan.metrics.features import Classifier
from bigan.metrics.fit import cached_classifier
from bigan.metrics.judge import FEWEST, Halves, halves
from bigan.metrics.ranking import CHOOSING, ranking
from bigan.play import Table
from bigan.sample import CHUNK, Restored, images
from bigan.uses import Recommendation, use

MAX_REAL = 50_000
MAX_POINTS = 2**16
MAX_BYTES = 2 * 10**9
"""Of the data in memory while it is read: 10,000 images of 256 px in colour. The halves are copied beside it."""


def judged_stream(data: Mapping[str, Any]) -> str:
    """The stream whose images the generated ones are held against: `real`, or else the first."""
    return "real" if "real" in data else next(iter(data))


def moved(source: Data, path: Path | None) -> Data:
    """The data where they lie now; where the run found them unless a path is given."""
    if path is None:
        return source
    if isinstance(source, Derived):
        of = moved(source.of, path)
        assert isinstance(of, Shards | StackedDigits | ColouredDigits)
        return replace(source, of=of)
    return replace(source, path=str(path)) if isinstance(source, Digits | Ratings) else Shards(path=str(path))


def refuse_other_data(stream: Stream, source: Data, restored: Restored, name: str) -> None:
    """ValueError if a stream is not what the run was trained on under that name."""
    if stream.fingerprint != restored.saved.data[name]["sha256"]:
        home, place = restored.folder.home, "PATH" if name == judged_stream(restored.run.data) else f"{name}=PATH"
        raise ValueError(f"{source.where}: is not the data that {home} was trained on; name it with --data {place}")


def read_data(stream: Stream, features: Path, samples: int, device: torch.device) -> Halves:
    """Each image of a stream once, up to MAX_REAL of them and MAX_BYTES, as the classifier of that data reads it.

    Args:
        stream: opened with seed 0, for figures to be comparable.
        features: the folder in which classifiers are kept.
        samples: how many generated images are going to be judged at a time.
        device: where the classifier is trained, if it must be, and reads.

    Raises:
        ValueError: if there are too few images, or they cannot be judged.
    """
    spec = stream.spec
    size = sum(row.nbytes for row in empty(spec, 1).values())
    real = stream.read(0, min(spec.samples, MAX_REAL, max(1, MAX_BYTES // size)))
    labels = real.labels if spec.classes else None
    classifier = cached_classifier(features, stream.fingerprint, real.images, labels, spec.classes, seed=0, device=device)
    return halves(classifier, real.images, spec.classes, samples)


@dataclass(frozen=True)
class Rows:
    """A feed of samples that lie in memory."""

    batch: Batch
    device: torch.device

    def read(self, start: int, count: int) -> Batch:
        """Samples start … start + count - 1."""
        return self.batch.rows(start, count).to(self.device)


def sources_of(
    look: Look, data: Mapping[str, Data], count: int, check: Callable[[str, Stream], None] = lambda name, stream: None
) -> Look:
    """The look with what its game translates, or is asked for, at hand: the first `count` samples of its `sources`.

    Without these its samples are made from the few that the game keeps, however many are drawn. They lie in memory.

    Args:
        check: told each stream's name and the stream, to refuse it.

    Raises:
        ValueError: if they cannot be read.
    """
    feeds = {}
    for name in look.game.sources:
        try:
            with data[name].open(seed=0) as stream:
                check(name, stream)
                feeds[name] = Rows(stream.read(0, count), look.device)
        except ValueError as error:
            raise ValueError(f"data.{name}, which samples are made of: {error}") from error
    return replace(look, feeds=feeds)


def read_points(stream: Stream) -> Tensor:
    """Up to MAX_POINTS real points [N, D] float32; all of a set that is no larger.

    Raises:
        ValueError: if the stream has no points.
    """
    arrays = {array.name: array.shape for array in stream.spec.arrays}
    if len(arrays.get("points", ())) != 1:
        raise ValueError("the data has no points [N, D] to hold these against")
    return stream.read(0, min(stream.spec.samples, MAX_POINTS))["points"].float()


def classifier_of_digits(source: StackedDigits, features: Path, device: torch.device) -> Classifier:
    """Of the single digits that are stacked, kept in the folder `features`."""
    digits, labels = source.digits()
    digest = hashlib.sha256(digits.tobytes()).hexdigest()
    images, names = torch.from_numpy(digits).unsqueeze(1), tuple("0123456789")
    return cached_classifier(features, digest, images, torch.from_numpy(labels), names, seed=0, device=device)


def modes_of(source: Data) -> Modes | None:
    """The modes of a data set of which they are known."""
    return source.modes() if isinstance(source, Toy) else None


def scores_of(look: Look, users: int) -> Tensor:
    """How much each item suits each user, as the game says it: [users, items] float32, on the CPU.

    Raises:
        ValueError: if the game recommends nothing.
    """
    found = use(look.game, Recommendation, "recommend items")
    numbers = torch.arange(users, device=look.device).split(CHUNK)
    parts = [look.used(lambda ctx, some=some: found.scores(ctx, some), len(some), "scores") for some in numbers]
    return torch.cat(parts).float().cpu()


@final
class Gauge:
    """Measures a run while it trains, as `bigan evaluate` measures what it saved. On one rank, at any time between two rounds.

    Of images, the first measurement reads the data, and trains the classifier unless it is kept in the run folder: a minute
    or so. Rankings are measured on the likings that the data keeps for validation.

    Args:
        run: the run.
        folder: its own.
        samples: how many images are drawn, under seed 0.
    """

    def __init__(self, run: Run, folder: RunFolder, samples: int) -> None:
        self._run, self._folder, self._samples = run, folder, samples
        self._source = run.data[judged_stream(run.data)]
        self._read: tuple[Halves, Mapping[str, Feed]] | None = None
        self._held: Held | None = None

    def check(self, table: Table, clock: Clock) -> None:
        """Refuse at the start what could never be measured.

        Raises:
            ValueError: if the images are too few, the game samples none, or no likings are kept to rank by.
        """
        if isinstance(self._source, Ratings):
            use(table.game, Recommendation, "recommend items")
            if not self._source.validation:
                raise ValueError("evaluation.every_kimg: nothing is kept to choose by; set data.real.validation, such as 0.1")
            return
        if isinstance(self._source, StackedDigits):
            raise ValueError("evaluation.every_kimg: stacked digits are judged by `bigan evaluate` alone; set it to 0")
        if self._samples < FEWEST:
            raise ValueError(f"evaluation.samples: {self._samples} are too few to judge; at least {FEWEST}")
        with looking(table, clock) as look:
            if "images" not in (found := look.samples(1)):
                raise ValueError(f"evaluation.every_kimg: the game samples {', '.join(found)}, no images; set it to 0")

    def measured(self, table: Table, clock: Clock) -> dict[str, float]:
        """Figures of the averages as they stand; torch's random state, the players and the game's state stay as they are.

        Among them is one of `bigan.distributed.checkpoint.METRICS`.

        Raises:
            ValueError: if the data cannot be judged, or the game samples no images.
        """
        with looking(table, clock) as look:
            return self._ranked(look, self._source) if isinstance(self._source, Ratings) else self._pictured(look, table)

    def _pictured(self, look: Look, table: Table) -> dict[str, float]:
        if self._read is None:
            with self._source.open(seed=0) as stream:
                data = read_data(stream, self._folder.features, self._samples, table.device)
            self._read = data, sources_of(look, self._run.data, self._samples).feeds
        data, feeds = self._read
        found = data.figures(torch.cat(list(images(replace(look, feeds=feeds), self._samples, 0))))
        return {"frechet": found.frechet, "precision": found.precision, "recall": found.recall}

    def _ranked(self, look: Look, source: Ratings) -> dict[str, float]:
        if self._held is None:
            self._held = source.held()
        seen, wanted = torch.from_numpy(self._held.liked), torch.from_numpy(self._held.validation)
        found = ranking(scores_of(look, len(seen)), seen, wanted)
        return {"miss": 1 - found[f"P@{CHOOSING}"], **found}
