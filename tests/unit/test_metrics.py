import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from bigan.images import to_uint8
from bigan.metrics import fit, judge
from bigan.metrics.features import Classifier
from bigan.metrics.fit import cached_classifier, train_classifier
from bigan.metrics.frechet import frechet_distance, moments
from bigan.metrics.judge import judge_samples

NAMES = tuple("0123456789")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The network is so small that threads spend their time waiting for one another where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def digits() -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) * (255 / 16)
    images = F.interpolate(images, (32, 32), mode="bilinear").round().to(torch.uint8)
    return images, torch.tensor(labels, dtype=torch.int64)


@cache
def judge_of_digits() -> Classifier:
    images, labels = digits()
    return train_classifier(images, labels, NAMES, seed=0)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "MIN_STEPS", 6)
    monkeypatch.setattr(fit, "MAX_STEPS", 6)


# the classifier


def test_the_classifier_is_good_at_digits() -> None:
    training = judge_of_digits().training
    assert training.task == "classes"
    assert (training.trained_on, training.held_out, training.available) == (1618, 179, 1797)
    assert training.accuracy > 0.97


def test_features_have_unit_variance_and_do_not_depend_on_the_batch() -> None:
    images, labels = digits()
    features, predictions = judge_of_digits().read(images)
    assert features.shape == (1797, 64)
    assert float(features.var(0).mean()) == pytest.approx(1.0, rel=0.05)
    assert float((predictions == labels).double().mean()) > 0.99
    torch.testing.assert_close(judge_of_digits().read(images[:50], batch=7).features, features[:50])


@pytest.mark.usefixtures("few_steps")
def test_training_is_a_function_of_the_seed_and_leaves_the_global_generator_alone() -> None:
    images, labels = digits()
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = train_classifier(images, labels, NAMES, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    with torch.no_grad():
        assert train_classifier(images, labels, NAMES, seed=3).digest == first.digest
    assert train_classifier(images, labels, NAMES, seed=4).digest != first.digest


@pytest.mark.parametrize("classes", [(), ("all",)])
def test_without_classes_the_features_come_from_rotations(monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]) -> None:
    monkeypatch.setattr(fit, "MAX_STEPS", 120 if not classes else 2)
    monkeypatch.setattr(fit, "MIN_STEPS", 2)
    images, _ = digits()
    calls: list[tuple[int, int]] = []
    classifier = train_classifier(images, None, classes, 0, lambda done, total: calls.append((done, total)))
    assert classifier.training.task == "rotation"
    assert calls[-1] == (fit.MAX_STEPS, fit.MAX_STEPS)
    assert judge_samples(classifier, images[:200], images[200:300], classes).fake.coverage is None
    if not classes:
        assert classifier.training.accuracy > 0.6


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 17, 40), (3, 150, 100)])
@pytest.mark.parametrize("labelled", [True, False])
def test_any_shape_is_taken(shape: tuple[int, int, int], labelled: bool) -> None:
    images = torch.randint(0, 256, (24, *shape), generator=generator(), dtype=torch.uint8)
    labels = torch.arange(24) % 2 if labelled else None
    classifier = train_classifier(images, labels, ("a", "b") if labelled else (), seed=0)
    assert classifier.read(images).features.isfinite().all()
    card = judge_samples(classifier, images, images, ("a", "b") if labelled else ())
    assert card.resize == ("none" if shape[1] < 100 else "area filter, shorter side 100 to 64")


@pytest.mark.usefixtures("few_steps")
def test_big_data_is_capped_and_the_card_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "MAX_SAMPLES", 100)
    images, labels = digits()
    card = judge_samples(train_classifier(images, labels, NAMES, 0), images, images, NAMES)
    assert (card.trained_on, card.available) == (90, 1797)


def test_unfit_images_and_labels_are_refused() -> None:
    images, labels = digits()
    with pytest.raises(ValueError, match="too few"):
        train_classifier(images[:19], labels[:19], NAMES, 0)
    with pytest.raises(ValueError, match="16 pixels"):
        train_classifier(images[:, :, :15], labels, NAMES, 0)
    with pytest.raises(ValueError, match="uint8"):
        train_classifier(images.float(), labels, NAMES, 0)
    with pytest.raises(ValueError, match="labels: none"):
        train_classifier(images, None, NAMES, 0)
    with pytest.raises(ValueError, match="0 … 9, but there are 5 classes"):
        train_classifier(images, labels, NAMES[:5], 0)


@pytest.mark.usefixtures("few_steps")
def test_the_cache_gives_the_same_classifier_and_replaces_what_it_cannot_use(tmp_path: Path) -> None:
    images, labels = digits()
    steps: list[int] = []

    def get(digest: str = "0123abcd", seed: int = 0) -> Classifier:
        return cached_classifier(tmp_path, digest, images, labels, NAMES, seed, lambda done, _: steps.append(done))

    made, trained = get(), len(steps)
    again = get()
    assert len(steps) == trained
    assert (again.digest, again.training) == (made.digest, made.training)
    torch.testing.assert_close(again.read(images[:9]).features, made.read(images[:9]).features)
    assert get(seed=1).digest != made.digest
    assert len(list(tmp_path.iterdir())) == 2
    (kept,) = tmp_path.glob("*-0-v*.safetensors")
    with pytest.raises(ValueError, match="delete it"):
        Classifier.load(kept, {"data": "others"})
    kept.write_bytes(kept.read_bytes()[:-100])
    assert get().digest == made.digest
    kept.write_text("no tensors")
    assert get().digest == made.digest
    assert len(steps) == 4 * trained


def test_held_out_images_have_the_features_of_trained_ones() -> None:
    """Else real against real would be a figure that no generator can reach, as it alone is judged on images trained on."""
    images, _ = digits()
    features = judge_of_digits().read(images).features
    order = torch.randperm(len(images), generator=generator())  # as in the training with seed 0
    held_out, trained = order[:179], order[179:]
    unseen, seen = [], []
    for seed in range(20):
        first, second = trained[torch.randperm(len(trained), generator=generator(seed))[:358]].chunk(2)
        unseen.append(frechet_distance(moments(features[held_out]), moments(features[first])))
        seen.append(frechet_distance(moments(features[second]), moments(features[first])))
    assert sum(unseen) < 1.25 * sum(seen)


# the card


def test_the_data_is_its_own_best_fake_and_half_the_classes_are_seen_missing() -> None:
    images, labels = digits()
    classifier = judge_of_digits()
    half = judge_samples(classifier, images, images[labels < 5], NAMES)
    assert half.images == 898
    assert half.real.frechet < 1.0 < 10.0 < half.fake.frechet
    assert half.real.precision > 0.85
    assert half.real.recall > 0.85
    assert half.fake.recall < 0.6
    assert half.fake.precision > 0.9
    assert half.real.coverage is not None
    assert half.fake.coverage is not None
    assert (half.real.coverage.covered, half.fake.coverage.covered, half.fake.coverage.present) == (10, 5, 10)
    assert half.features == classifier.digest
    again = judge_samples(classifier, images, images[labels < 5], NAMES)
    assert again == half


@pytest.mark.parametrize(("fakes", "count"), [(200, 200), (1797, 898)])
def test_fake_and_real_are_held_against_the_same_images_by_equal_numbers(fakes: int, count: int) -> None:
    images, _ = digits()
    # Fakes that are the data itself: such a comparison comes out as real against real, however few the fakes are, or lower
    # where many of them are in the reference half, too.
    drawn = torch.randperm(len(images), generator=generator(7))[:fakes]  # the digits lie writer by writer
    card = judge_samples(judge_of_digits(), images, images[drawn], NAMES)
    assert (card.images, card.fake_images, card.real_images) == (count, fakes, 1797)
    assert card.fake.frechet < 1.5 * card.real.frechet
    assert card.fake.frechet > 0.2 * card.real.frechet
    for figures in (card.fake, card.real):
        assert figures.coverage is not None
        sizes = [share * count for share in figures.coverage.shares.values()]
        assert sizes == pytest.approx([round(size) for size in sizes], abs=1e-9)
        assert sum(sizes) == pytest.approx(count)


def test_floating_point_fakes_are_judged_as_they_would_be_saved() -> None:
    images, labels = digits()
    exact = judge_samples(judge_of_digits(), images, images[labels < 5], NAMES)
    floats = images[labels < 5].float() / 127.5 - 1 + 1e-4
    assert judge_samples(judge_of_digits(), images, floats, NAMES) == exact
    assert to_uint8(torch.tensor([-3.0, -1.0, 0.0, 1.0, 9.0]).view(1, -1)).tolist() == [[0, 0, 128, 255, 255]]
    floats[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="1 of 898 images hold NaN"):
        judge_samples(judge_of_digits(), images, floats[:898], NAMES)


def test_what_cannot_be_judged_is_refused() -> None:
    images, _ = digits()
    with pytest.raises(ValueError, match="too few to judge"):
        judge_samples(judge_of_digits(), images, images[:7], NAMES)
    with pytest.raises(ValueError, match="not \\('a',\\)"):
        judge_samples(judge_of_digits(), images, images, ("a",))
    with pytest.raises(ValueError, match="was trained on \\[1, 32, 32\\]"):
        judge_samples(judge_of_digits(), images, images[:, :, :20], NAMES)


def test_the_cap_on_images_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "MAX_IMAGES", 50)
    images, _ = digits()
    assert judge_samples(judge_of_digits(), images, images, NAMES).images == 50


def test_the_digest_depends_on_every_weight() -> None:
    classifier = judge_of_digits()
    bias = classifier.network.head.bias
    kept = float(bias[0])
    bias[0] += 1e-3
    changed = replace(classifier).digest
    bias[0] = kept
    assert changed != classifier.digest
