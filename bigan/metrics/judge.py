"""Judge generated images against the data, and the data against itself: the card that `bigan evaluate` prints."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bigan.images import to_uint8
from bigan.metrics.coverage import Coverage, class_coverage
from bigan.metrics.features import FEATURES, LONGEST_SHORT_SIDE, Classifier, Reading, Task
from bigan.metrics.frechet import frechet_distance, moments
from bigan.metrics.precision_recall import precision_recall

NEIGHBOURS = 3
FEWEST = 8  # images a set; a handful of images says nothing
MAX_IMAGES = 25_000  # images a set; precision and recall compare all pairs
SPLIT_SEED = 0
MOST_SHOWN = 100  # classes, a share each


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How one set of images compares with the reference half of the data.

    Attributes:
        frechet: Fréchet distance in the classifier's features; 0 is best. Only equal N and equal features can be compared.
        precision: share of the images that lie within the reference's manifold.
        recall: share of the reference that lies within the images' manifold.
        coverage: of the data's classes, None where it has none.
    """

    frechet: float
    precision: float
    recall: float
    coverage: Coverage | None


@dataclass(frozen=True, kw_only=True)
class Card:
    """The result of an evaluation, with all that must be equal for two results to be compared.

    Attributes:
        fake: generated images against the reference half.
        real: the other half of the data against the same reference half, by as many images: what a perfect generator gets.
            Of pairs that a translator knows by heart about half are the reference's own images, so that it gets more.
        images: N of each of the three sets.
        real_images: images of the data that were given.
        fake_images: generated images that were given.
        neighbours: k of precision and recall.
        features: digest of the classifier's weights.
        feature_size: how many features.
        resize: how images were brought to the classifier's size.
        task: what the classifier was trained for.
        accuracy: the classifier's, on images held out of its training.
        trained_on: images it was trained on.
        available: images it could have been trained on.
    """

    fake: Figures
    real: Figures
    images: int
    real_images: int
    fake_images: int
    neighbours: int
    features: str
    feature_size: int
    resize: str
    task: Task
    accuracy: float
    trained_on: int
    available: int

    def lines(self) -> list[str]:
        """As a person reads it: generated images beside the data's own other half."""
        about = f"{self.task}, {self.accuracy:.1%} right on held-out images" if self.accuracy else self.task
        rows = [
            f"{self.images} images a set; features {self.features[:12]} ({about})",
            f"{'':18s}{'generated':>10s}{'real':>10s}",
            f"{'Fréchet distance':18s}{self.fake.frechet:10.2f}{self.real.frechet:10.2f}",
            f"{'precision':18s}{self.fake.precision:10.3f}{self.real.precision:10.3f}",
            f"{'recall':18s}{self.fake.recall:10.3f}{self.real.recall:10.3f}",
        ]
        fake, real = self.fake.coverage, self.real.coverage
        if fake is not None and real is not None:
            rows.append(f"{'classes covered':18s}{fake.covered:7d}/{fake.present:<2d}{real.covered:7d}/{real.present:<2d}")
            rows.append(f"{'rarest class':18s}{fake.smallest:10.1%}{real.smallest:10.1%}")
            if len(fake.shares) <= MOST_SHOWN:
                rows.append("shares: " + "  ".join(f"{name} {share:.1%}" for name, share in fake.shares.items()))
        return rows


@dataclass(frozen=True)
class Halves:
    """The data as a classifier reads it, in two halves of N images each: what generated images are held against.

    Attributes:
        reference: the first half.
        others: the second.
        images: N.
        real_images: images of the data that were given.
    """

    classifier: Classifier
    reference: Reading
    others: Reading
    images: int
    real_images: int

    def figures(self, fake: Tensor) -> Figures:
        """N of m generated images against the reference half; as `judge_samples`."""
        return _figures(self.reference, self._made(fake), self._names)

    def card(self, fake: Tensor) -> Card:
        """As `judge_samples`."""
        training = self.classifier.training
        return Card(
            fake=self.figures(fake), real=_figures(self.reference, self.others, self._names),
            images=self.images, real_images=self.real_images, fake_images=len(fake), neighbours=NEIGHBOURS,
            features=self.classifier.digest, feature_size=FEATURES, resize=_resize(training.image_shape),
            task=training.task, accuracy=training.accuracy, trained_on=training.trained_on, available=training.available,
        )  # fmt: skip

    @property
    def _names(self) -> Sequence[str]:
        training = self.classifier.training
        return training.classes if training.task == "classes" else ()

    def _made(self, fake: Tensor) -> Reading:
        _, generator = _shuffled(self.real_images)
        drawn = torch.randperm(len(fake), generator=generator)[: self.images]
        return self.classifier.read(to_uint8(fake[drawn]))


def judge_samples(classifier: Classifier, real: Tensor, fake: Tensor, classes: Sequence[str]) -> Card:
    """Judge generated images.

    The Fréchet distance, precision and recall all depend on how many images they are computed from. So the data is split by
    a fixed seed into two halves of N images, N = min(half the data, the generated images, MAX_IMAGES), and N generated
    images, drawn by the same seed, are held against the first half just as the second half is.

    The classifier was trained on most of the data and on none of the generated images, which could flatter the data. On the
    digits it does not by as much as the draw of the halves does: tests/unit/test_metrics.py measures it on held-out images.

    Args:
        classifier: trained on this data.
        real: [n, C, H, W], images of the data.
        fake: [m, C, H, W], generated. Both are uint8, or floating point in [-1, 1], which is rounded to 8 bits as in a file.
        classes: names of the data's classes, in the order of the labels, as the classifier was trained for.

    Raises:
        ValueError: too few images, another shape than the classifier's, other classes, or generated images that hold NaN.
    """
    return halves(classifier, real, classes, len(fake)).card(fake)


def halves(classifier: Classifier, real: Tensor, classes: Sequence[str], samples: int) -> Halves:
    """Split and read the data once for any number of sets of so many generated images; the rest as `judge_samples`."""
    if tuple(classes) != classifier.training.classes:
        raise ValueError(f"the classifier was trained for the classes {classifier.training.classes}, not {tuple(classes)}")
    count = min(len(real) // 2, samples, MAX_IMAGES)
    if count < FEWEST:
        raise ValueError(
            f"{len(real)} images of the data and {samples} generated ones are too few to judge: "
            f"at least {2 * FEWEST} and {FEWEST} are needed"
        )
    order, _ = _shuffled(len(real))
    reference, others = (classifier.read(to_uint8(real[rows])) for rows in order[: 2 * count].split(count))
    return Halves(classifier, reference, others, count, len(real))


def _shuffled(real_images: int) -> tuple[Tensor, torch.Generator]:
    """The data's order, and the generator that then draws from the generated images."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    return torch.randperm(real_images, generator=generator), generator


def _figures(reference: Reading, judged: Reading, classes: Sequence[str]) -> Figures:
    distance = frechet_distance(moments(reference.features), moments(judged.features))
    found = precision_recall(reference.features, judged.features, NEIGHBOURS)
    coverage = class_coverage(reference.predictions, judged.predictions, classes) if classes else None
    return Figures(frechet=distance, precision=found.precision, recall=found.recall, coverage=coverage)


def _resize(shape: tuple[int, int, int]) -> str:
    shorter = min(shape[1:])
    return "none" if shorter <= LONGEST_SHORT_SIDE else f"area filter, shorter side {shorter} to {LONGEST_SHORT_SIDE}"
