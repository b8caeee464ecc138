import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from bigan.metrics import fit, judge
from bigan.metrics.coverage import class_coverage
from bigan.metrics.features import Classifier
from bigan.metrics.fit import cached_classifier, train_classifier
from bigan.metrics.frechet import Moments, frechet_distance, moments
from bigan.metrics.judge import judge_samples, to_uint8
from bigan.metrics.precision_recall import precision_recall

NAMES = tuple("0123456789")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


@cache
def digits() -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    images = torch.tensor(bunch["images"], dtype=torch.float32)[:, None] * (255 / 16)
    images = F.interpolate(images, (32, 32), mode="bilinear").round().to(torch.uint8)
    return images, torch.tensor(bunch["target"], dtype=torch.int64)


@cache
def judge_of_digits() -> Classifier:
    images, labels = digits()
    return train_classifier(images, labels, NAMES, seed=0)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "MIN_STEPS", 6)
    monkeypatch.setattr(fit, "MAX_STEPS", 6)


def covariance(rank: int, size: int, seed: int) -> Tensor:
    factor = normal(size, rank, seed=seed).double()
    return factor @ factor.T


# Fréchet distance


def test_frechet_of_commuting_gaussians_is_the_closed_form() -> None:
    a, b = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([4.0, 4.0, 0.25]).double()
    turn = torch.linalg.qr(normal(3, 3).double()).Q
    mean = torch.tensor([1.0, -2.0, 0.5]).double()
    first = Moments(mean, turn @ a.diag() @ turn.T)
    second = Moments(torch.zeros(3).double(), turn @ b.diag() @ turn.T)
    expected = mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet_distance(first, second) == pytest.approx(float(expected), rel=1e-12)


def test_frechet_of_any_two_by_two_gaussians_is_the_closed_form() -> None:
    a, b = covariance(2, 2, 1), covariance(2, 2, 2)
    product = a @ b  # tr of the root of a 2x2 matrix M with positive eigenvalues: (tr M + 2 det(M)^½)^½
    root = math.sqrt(product.trace() + 2 * math.sqrt(torch.linalg.det(product)))
    zero = torch.zeros(2).double()
    expected = float(a.trace() + b.trace()) - 2 * root
    assert frechet_distance(Moments(zero, a), Moments(zero, b)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("rank", [0, 1, 5, 24])
def test_frechet_of_a_set_with_itself_is_zero_and_swapping_changes_nothing(rank: int) -> None:
    first = Moments(normal(24).double(), covariance(rank, 24, 3))
    second = Moments(normal(24, seed=1).double(), covariance(24, 24, 4))
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)
    forth, back = frechet_distance(first, second), frechet_distance(second, first)
    assert forth == pytest.approx(back, rel=1e-12)
    assert forth > 1


def test_frechet_of_rank_deficient_gaussians_in_orthogonal_planes() -> None:
    a, b = torch.zeros(6).double(), torch.zeros(6).double()
    a[:2], b[2:4] = 3.0, 5.0
    zero = torch.zeros(6).double()
    assert frechet_distance(Moments(zero, a.diag()), Moments(zero, b.diag())) == pytest.approx(16.0, abs=1e-6)


def test_moments_are_float64_and_unbiased() -> None:
    features = normal(50, 4) + 1000
    found = moments(features)
    assert found.covariance.dtype == torch.float64
    torch.testing.assert_close(found.covariance, torch.cov(features.double().T))
    with pytest.raises(ValueError, match="two rows"):
        moments(features[:1])


# precision and recall


def modes(rows: int, centres: list[float], seed: int) -> Tensor:
    points = normal(rows, 8, seed=seed)
    points[:, 0] += torch.tensor(centres).repeat_interleave(rows // len(centres))
    return points


def test_a_dropped_mode_costs_recall_and_not_precision() -> None:
    real = modes(800, [0.0, 100.0], seed=0)
    found = precision_recall(real, modes(400, [0.0], seed=1))
    assert found.precision > 0.85
    assert 0.35 < found.recall < 0.5
    exact = precision_recall(real, real[:400])
    assert exact.precision == 1.0
    assert exact.recall == pytest.approx(0.5, abs=0.03)


def test_outliers_cost_precision_and_not_recall() -> None:
    real = modes(400, [0.0], seed=0)
    fake = torch.cat([real[:300], normal(100, 8, seed=5) * 0.1 + 1e4])
    found = precision_recall(real, fake)
    assert found.precision == 0.75
    assert found.recall > 0.95


def test_radii_are_those_of_the_third_other_neighbour() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]])  # radii 3, 2, 2, 3, 99
    fake = torch.tensor([[-3.0], [-3.1], [5.9], [6.1]])  # radii 9.1, 9.2, 9, 9.2
    assert precision_recall(real, fake) == (0.75, 0.8)  # 6.1 lies within 99 of 100, -3.1 in none; 100 lies in none


def test_chunks_change_nothing_and_copies_count_as_neighbours() -> None:
    real, fake = normal(301, 16), normal(257, 16, seed=1) * 1.1
    whole = precision_recall(real, fake)
    assert all(precision_recall(real, fake, chunk=chunk) == whole for chunk in (1, 7, 64, 1000))
    collapsed = normal(1, 16, seed=2).repeat(257, 1) * 0.01
    assert precision_recall(real, collapsed, chunk=50).recall == 0.0
    assert precision_recall(collapsed, collapsed) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least 4"):
        precision_recall(real[:3], fake)


# coverage


def test_coverage_counts_the_classes_with_a_quarter_of_their_share() -> None:
    real = torch.tensor([0] * 40 + [1] * 40 + [2] * 20)
    fake = torch.tensor([0] * 88 + [1] * 9 + [2] * 3)
    found = class_coverage(real, fake, ("a", "b", "c", "absent"))
    assert found.shares == {"a": 0.88, "b": 0.09, "c": 0.03, "absent": 0.0}
    assert (found.smallest, found.covered, found.present) == (0.03, 1, 3)
    assert class_coverage(real, torch.tensor([0] * 85 + [1] * 10 + [2] * 5), tuple("abcd")).covered == 3
    with pytest.raises(ValueError, match="names of their own"):
        class_coverage(real, fake, ("a", "b", "a", "c"))


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
    monkeypatch.setattr(fit, "MAX_STEPS", 200 if not classes else 2)
    monkeypatch.setattr(fit, "MIN_STEPS", 2)
    images, _ = digits()
    calls: list[tuple[int, int]] = []
    classifier = train_classifier(images, None, classes, 0, lambda done, total: calls.append((done, total)))
    assert classifier.training.task == "rotation"
    assert calls[-1] == (fit.MAX_STEPS, fit.MAX_STEPS)
    assert judge_samples(classifier, images[:200], images[200:300], classes).fake.coverage is None
    if not classes:
        assert classifier.training.accuracy > 0.75


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


def test_fake_and_real_are_held_against_the_same_images_by_equal_numbers() -> None:
    images, _ = digits()
    # Fakes that are the data itself: both comparisons then differ by the draw alone, however few the fakes are.
    few = judge_samples(judge_of_digits(), images, images[:200], NAMES)
    assert few.images == 200
    assert few.fake.frechet == pytest.approx(few.real.frechet, rel=0.5)
    assert few.fake.frechet > 3 * judge_samples(judge_of_digits(), images, images, NAMES).real.frechet


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
