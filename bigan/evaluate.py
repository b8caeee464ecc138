"""Figures of a trained run, in the features of a classifier trained on the packed data itself: nothing is downloaded."""

import dataclasses
import json
from pathlib import Path

import torch

from bigan.batch import Batch
from bigan.data.ahead import Readable
from bigan.data.stream import Shards
from bigan.metrics.fit import cached_classifier
from bigan.metrics.judge import Card, judge_samples
from bigan.sample import restore

MAX_REAL = 50_000


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


def evaluate(path: Path, *, count: int, seed: int, data: Path | None = None) -> Evaluation:
    """Judge samples of a run against its data; the card is also written to the run's evaluation.json.

    Args:
        path: the run folder.
        count: how many samples to draw.
        seed: of their latents.
        data: the packed data set, where it is not where the run found it.

    Raises:
        ValueError: if the run or its data cannot be read, or the data is not the run's.
    """
    if count < 1:
        raise ValueError(f"--count {count}: at least one sample")
    restored = restore(path)
    name = "real" if "real" in restored.run.data else next(iter(restored.run.data))
    source = restored.run.data[name]
    source = source if data is None else Shards(path=str(data))
    with source.open(seed=0) as stream:
        digest = stream.fingerprint
        if digest != restored.saved.data[name]["sha256"]:
            raise ValueError(f"{source.where}: is not the data that {path} was trained on; name it with --data")
        real = _first_epoch(stream, stream.spec.samples)
    labels = real.labels if stream.spec.classes else None
    classifier = cached_classifier(
        restored.folder.features, digest, real.images, labels, stream.spec.classes, seed=0, device=restored.device
    )
    fake = torch.cat(list(restored.images(count, seed)))
    card = judge_samples(classifier, real.images, fake, stream.spec.classes)
    kimg = restored.saved.clock.images / 1000
    out = restored.folder.evaluation
    try:
        out.write_text(json.dumps({"kimg": kimg, "seed": seed, **dataclasses.asdict(card)}, indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from None
    return Evaluation(card, out, kimg)


def _first_epoch(stream: Readable, samples: int) -> Batch:
    """Every sample once, up to MAX_REAL of them, unmirrored or as the stream mirrors them."""
    return stream.read(0, min(samples, MAX_REAL))
