"""What the figures of conditional samples, codes, few labels and rankings are, by hand."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from bigan.conditions import Caption
from bigan.data.digits import CaptionedDigits
from bigan.data.stream import Shards
from bigan.metrics.features import Reading
from bigan.metrics.ranking import RankingCard

from ..unit.idx import write_idx

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from experiments import conditional, irgan, row, semi  # noqa: E402
from experiments.codes import ROWS, nearest, purity  # noqa: E402
from experiments.conditional import diversity, facts_of, matching, rest_of, thickness  # noqa: E402
from experiments.row import Figure, Lab, Trained  # noqa: E402


def test_purity_is_the_share_of_the_commonest() -> None:
    """Two of three fives, two of two twos, one of one nought."""
    assert purity(torch.tensor([0, 0, 0, 1, 1, 3]), torch.tensor([5, 5, 1, 2, 2, 0])) == pytest.approx(5 / 6)
    assert purity(torch.zeros(4, dtype=torch.int64), torch.tensor([0, 1, 2, 3])) == 0.25


def test_the_nearest_of_many() -> None:
    """More than are compared at once."""
    among = torch.arange(ROWS + 50).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    wanted = torch.randperm(len(among), generator=torch.Generator().manual_seed(0))
    assert torch.equal(nearest(among[wanted] + 0.3, among), wanted)


def test_diversity_is_the_variance_of_a_pixel_within_a_class() -> None:
    """One pixel is 0 and 2 in a class, the other 9; the other class is 7 and -7 throughout, however often it is there."""
    images = torch.tensor([[0.0, 9], [7, -7], [2, 9], [7, -7], [7, -7]]).view(-1, 1, 1, 2)
    assert diversity(images, torch.tensor([3, 8, 3, 8, 8])) == pytest.approx((2 + 0 + 0 + 0) / 4)


def test_thickness_is_ink_by_outline() -> None:
    """A square of six has an outline of twenty pixels, as light as it may be; a line of two is nothing else."""
    images = torch.full((3, 1, 16, 16), -1.0)
    images[0, 0, 4:10, 5:11] = 1
    images[1, 0, 4:10, 5:11] = 0
    images[2, 0, 2:12, 7:9] = 1
    torch.testing.assert_close(thickness(images), torch.tensor([36 / 20, 36 / 20, 1.0]))


def test_captions_are_read_back_from_what_the_game_reads() -> None:
    with CaptionedDigits(size=16).open(0) as stream:
        batch, spec = stream.read(0, 200), stream.spec
    condition = Caption(length=8).fit({"real": spec}, "real").read(batch)
    saved = SimpleNamespace(data={"real": {"spec": {"words": spec.words}}})
    facts = facts_of(cast(Trained, SimpleNamespace(restored=SimpleNamespace(saved=saved))), condition)
    assert torch.equal(facts[:, 3], batch.labels)
    assert torch.equal(facts[:, [0, 1, 2, 4]], batch.attributes.long())


def test_the_rest_of_a_caption_is_one_of_32() -> None:
    assert rest_of(torch.tensor([[1, 0, 3, 1], [0, 1, 2, 0]])).tolist() == [23, 12]
    assert sorted(rest_of(torch.tensor([*np.ndindex(2, 2, 4, 2)])).tolist()) == [*range(32)]


class Says:
    """A classifier that says the same of whatever it is shown, and remembers how light that was."""

    def __init__(self, *predictions: int) -> None:
        self.predictions, self.lightest = torch.tensor(predictions), 0

    def read(self, images: Tensor) -> Reading:
        self.lightest = int(images.max())
        return Reading(torch.empty(0), self.predictions[: len(images)])


def test_an_image_matches_by_all_that_is_said() -> None:
    """Right, another digit, another size, both."""
    facts = torch.tensor([[0, 1, 2, 7, 0]] * 4)
    readers: Any = (Says(7, 6, 7, 6), Says(12, 12, 4, 4))
    assert matching(readers, torch.zeros(4, 3, 16, 16), facts) == 0.25


def mnist_of(root: Path) -> Path:
    """Thirty training digits of each class, and five lighter test digits."""
    folder = root / "mnist"
    folder.mkdir()
    for split, count, light in (("train", 300, 100), ("t10k", 50, 200)):
        images = np.random.default_rng(0).integers(0, light, (count, 28, 28), dtype=np.uint8)
        write_idx(folder, split, images, (np.arange(count) % 10).astype(np.uint8), zipped=True)
    return folder


def test_real_images_that_match_are_of_test_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = CaptionedDigits(path=str(mnist_of(tmp_path)), size=16)
    monkeypatch.setattr(conditional, "opened", lambda _: data)
    readers: Any = (Says(*[0] * 2000), Says(*[0] * 2000))
    conditional.matching_of_data(cast(Trained, None), readers)
    assert readers[0].lightest > 150


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    """One that has an MNIST of its own, and trains for a moment."""
    mnist_of(tmp_path)
    monkeypatch.setattr(semi, "SHARED", tmp_path)
    monkeypatch.setattr(row, "SHARED", tmp_path)
    monkeypatch.setattr(row, "WORK", tmp_path / "work")
    return Lab(1, tmp_path / "lab", ("length_kimg=0.1", "tick_kimg=0.1", "batch=50", "game.generator.width=8"))


def test_as_many_of_each_digit_are_labelled(lab: Lab) -> None:
    folder = semi.few_labelled(lab)
    with Shards(path=str(folder)).open(seed=0) as stream:
        assert stream.spec.samples == 100
        assert stream.read(0, 100).labels.bincount().tolist() == [10] * 10


def test_an_error_is_of_the_test_digits(lab: Lab) -> None:
    """The share of those that the averaged classifier takes for another; a few steps do not make it right."""
    data = (f"data.real.path={lab.mnist(28)}", f"data.labelled.path={semi.few_labelled(lab)}")
    trained = lab.run("configs/mnist_semi.yaml", *data)
    critic = trained.restored.players["critic"].eval()
    with Shards(path=str(lab.mnist(28, "t10k"))).open(seed=0) as stream:
        test = stream.read(0, 50).to(torch.device("cpu"))
    found = critic.get_submodule("classes")(critic.get_submodule("trunk")(test.images)).argmax(1)
    wrong = sum(one != other for one, other in zip(found.tolist(), test.labels.tolist(), strict=True))
    assert 0 < wrong < 50
    assert semi.error_of(lab, trained) == pytest.approx(wrong / 50)


def test_a_ranking_is_told_at_the_epoch_that_was_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = {name: number / 10 for number, name in enumerate(irgan.SHOWN)}
    card = RankingCard("test", 3, run, dict.fromkeys(run, 0.9))

    def evaluated(home: Path, *, count: int, seed: int, at: str) -> Any:
        assert (home, at) == (tmp_path, "best")
        return SimpleNamespace(card=card, kimg=7.5)

    monkeypatch.setattr(irgan, "evaluate", evaluated)
    *shown, epoch = irgan.figures(Trained(tmp_path), lined=True)
    assert [(figure.name, figure.value) for figure in shown] == [*run.items()]
    assert {figure.name: figure.line for figure in shown if figure.line} == {"P@5": "> 0.3474"}
    assert epoch == Figure("chosen epoch", 7.5, unit="kimg")
    assert all(figure.name.endswith(", alone") and not figure.line for figure in irgan.figures(Trained(tmp_path), ", alone"))
