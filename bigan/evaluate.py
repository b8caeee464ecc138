"""Figures of a trained run; of images, in the features of a classifier trained on the packed data: nothing is downloaded."""

import dataclasses
import json
from pathlib import Path

import torch

from bigan.data.stream import Shards
from bigan.measure import judged_stream, modes_of, read_data, read_points
from bigan.metrics.judge import Card
from bigan.metrics.points import PointsCard, judge_points
from bigan.sample import chunks, images, restore


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A card and where it was written."""

    card: Card | PointsCard
    path: Path
    kimg: float

    def lines(self) -> list[str]:
        """The card as a person reads it: what was generated beside the data's own other half."""
        first, *rest = self.card.lines()
        return [f"{self.kimg:g} kimg; {first}", *rest, str(self.path)]


def evaluate(path: Path, *, count: int, seed: int, data: Path | None = None, at: str | None = None) -> Evaluation:
    """Judge samples of a run against its data; the card is also written to the run's evaluation.json.

    Args:
        path: the run folder.
        count: how many samples to draw.
        seed: of their latents.
        data: the packed data set, where it is not where the run found it.
        at: which checkpoint, as in `bigan.checkpoints.chosen`.

    Raises:
        ValueError: if the run or its data cannot be read, or the data is not the run's.
    """
    if count < 1:
        raise ValueError(f"--count {count}: at least one sample")
    restored = restore(path, at=at)
    name = judged_stream(restored.run.data)
    source = restored.run.data[name]
    source = source if data is None else Shards(path=str(data))
    look = restored.look
    with source.open(seed=0) as stream:
        if stream.fingerprint != restored.saved.data[name]["sha256"]:
            raise ValueError(f"{source.where}: is not the data that {path} was trained on; name it with --data")
        if "points" in look.samples(1):
            fake = torch.cat([samples["points"] for samples in chunks(look, count, seed)])
            card = judge_points(read_points(stream), fake, modes_of(source))
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
