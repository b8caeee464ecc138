"""Figures of a trained run, in the features of a classifier trained on the packed data itself: nothing is downloaded."""

import dataclasses
import json
from pathlib import Path

import torch

from bigan.data.stream import Shards
from bigan.measure import judged_stream, read_data
from bigan.metrics.judge import Card
from bigan.sample import restore


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A card and where it was written."""

    card: Card
    path: Path
    kimg: float

    def lines(self) -> list[str]:
        """The card as a person reads it: generated images beside the data's own other half."""
        card = self.card
        about = f"{card.task}, {card.accuracy:.1%} right on held-out images" if card.accuracy else card.task
        rows = [
            f"{self.kimg:g} kimg; {card.images} images a set; features {card.features[:12]} ({about})",
            f"{'':18s}{'generated':>10s}{'real':>10s}",
            f"{'Fréchet distance':18s}{card.fake.frechet:10.2f}{card.real.frechet:10.2f}",
            f"{'precision':18s}{card.fake.precision:10.3f}{card.real.precision:10.3f}",
            f"{'recall':18s}{card.fake.recall:10.3f}{card.real.recall:10.3f}",
        ]
        fake, real = card.fake.coverage, card.real.coverage
        if fake is not None and real is not None:
            rows.append(f"{'classes covered':18s}{fake.covered:7d}/{fake.present:<2d}{real.covered:7d}/{real.present:<2d}")
            rows.append(f"{'rarest class':18s}{fake.smallest:10.1%}{real.smallest:10.1%}")
            rows.append("shares: " + "  ".join(f"{name} {share:.1%}" for name, share in fake.shares.items()))
        return [*rows, str(self.path)]


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
    with source.open(seed=0) as stream:
        if stream.fingerprint != restored.saved.data[name]["sha256"]:
            raise ValueError(f"{source.where}: is not the data that {path} was trained on; name it with --data")
        real = read_data(stream, restored.folder.features, count, restored.device)
    card = real.card(torch.cat(list(restored.images(count, seed))))
    kimg = restored.saved.clock.images / 1000
    out = restored.folder.evaluation
    about = {"round": restored.saved.clock.round, "kimg": kimg, "seed": seed, **dataclasses.asdict(card)}
    try:
        out.write_text(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from None
    return Evaluation(card, out, kimg)
