"""Figures of a trained run; of images, in the features of a classifier trained on the packed data: nothing is downloaded."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from bigan.data.contract import Data
from bigan.data.ratings import Ratings
from bigan.data.stacked import StackedDigits
from bigan.data.toy import Toy
from bigan.images import to_uint8
from bigan.measure import (
    MAX_POINTS,
    classifier_of_digits,
    judged_stream,
    modes_of,
    moved,
    read_data,
    read_points,
    refuse_other_data,
    scores_of,
    sources_of,
)
from bigan.metrics.features import SMALLEST_SIDE
from bigan.metrics.judge import Card
from bigan.metrics.points import PointsCard, judge_points
from bigan.metrics.ranking import RankingCard, judge_ranking
from bigan.metrics.stacked import USUAL, StackedCard, judge_stacked
from bigan.sample import Restored, chunks, images, restore

MAX_STACKED = 100_000
"""Stacked digits that are held in memory."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A card and where it was written."""

    card: Card | PointsCard | StackedCard | RankingCard
    path: Path
    kimg: float

    def lines(self) -> list[str]:
        """The card as a person reads it: what was generated beside the data's own other half."""
        first, *rest = self.card.lines()
        return [f"{self.kimg:g} kimg; {first}", *rest, str(self.path)]


def evaluate(path: Path, *, count: int, seed: int, data: Sequence[str] = (), at: str | None = None) -> Evaluation:
    """Judge samples of a run against its data; the card is also written to the run's evaluation.json.

    Args:
        path: the run folder.
        count: how many samples to draw.
        seed: of what they draw; a translator that draws nothing makes the same of any.
        data: where data are that are not where the run found them: NAME=PATH a stream, or the path of the judged one's alone.
        at: which checkpoint, as in `bigan.checkpoints.chosen`.

    Raises:
        ValueError: if the run or its data cannot be read, or the data is not the run's.
    """
    if count < 1:
        raise ValueError(f"--count {count}: at least one sample")
    restored = restore(path, at=at)
    name = judged_stream(restored.run.data)
    places = _places(data, restored.run.data, name)
    sources = {stream: moved(found, places.get(stream)) for stream, found in restored.run.data.items()}
    source = sources[name]
    _check(source, count)
    with source.open(seed=0) as stream:
        refuse_other_data(stream, source, restored, name)
        look = sources_of(
            restored.look, sources, count, lambda other, opened: refuse_other_data(opened, sources[other], restored, other)
        )
        if isinstance(source, Ratings):
            card = _ranked(restored, source)
        elif "points" in look.samples(1):
            fake = torch.cat([samples["points"] for samples in chunks(look, count, seed)])
            card = judge_points(read_points(stream), fake, modes_of(source))
        elif isinstance(source, StackedDigits):
            digits = classifier_of_digits(source, restored.folder.features, restored.device)
            fake = to_uint8(torch.cat(list(images(look, count, seed))))
            card = judge_stacked(digits, stream.read(0, count).images, fake)
        else:
            real = read_data(stream, restored.folder.features, count, restored.device)
            card = real.card(torch.cat(list(images(look, count, seed))))
    kimg = restored.saved.clock.images / 1000
    out = restored.folder.evaluation
    about = {"round": restored.saved.clock.round, "kimg": kimg, "seed": seed, **dataclasses.asdict(card)}
    try:
        out.write_text(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from None
    return Evaluation(card, out, kimg)


def _places(given: Sequence[str], data: Mapping[str, object], judged: str) -> dict[str, Path]:
    """Stream → where its data are, by what the user says."""
    places: dict[str, Path] = {}
    for text in given:
        name, _, place = text.partition("=")
        name, place = (name, place) if name in data and place else (judged, text)
        if name in places:
            raise ValueError(f"--data: names {name} twice; there is {', '.join(data)}, as NAME=PATH")
        places[name] = Path(place)
    return places


def _ranked(restored: Restored, source: Ratings) -> RankingCard:
    """By the likings of the test, which the training and the choice of an epoch have not seen, or else of the validation."""
    held = source.held()
    scores = scores_of(restored.look, len(held.users))
    if held.test is not None:
        return judge_ranking(scores, torch.from_numpy(held.liked | held.validation), torch.from_numpy(held.test), "test")
    return judge_ranking(scores, torch.from_numpy(held.liked), torch.from_numpy(held.validation), "validation")


def _check(source: Data, count: int) -> None:
    """Refuse what is not going to be judged before anything is drawn."""
    if isinstance(source, Ratings) and not (source.test or source.validation):
        raise ValueError("data.real: has neither test nor validation likings to be judged by; train with data.real.test")
    if isinstance(source, Toy) and count > MAX_POINTS // 2:
        raise ValueError(f"--count {count}: at most {MAX_POINTS // 2} points can be judged")
    if isinstance(source, StackedDigits):
        if count > MAX_STACKED:
            raise ValueError(f"--count {count}: at most {MAX_STACKED} stacked digits can be judged; tables are of {USUAL}")
        if source.size < SMALLEST_SIDE:
            raise ValueError(f"data.real.size: {source.size}; digits can be told apart from {SMALLEST_SIDE} px on")
