"""How translators are measured: against which map, on which images, and whose run; by hand where there is arithmetic."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from bigan.data.derived import Derived
from bigan.data.digits import COLOURS, CaptionedDigits, ColouredDigits
from bigan.data.pack import pack
from bigan.data.sources import open_source
from bigan.data.stream import Shards
from bigan.images import from_uint8, to_uint8
from bigan.metrics.features import Reading
from bigan.uses import Translation, use

from ..unit.idx import write_idx

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from experiments import translation  # noqa: E402
from experiments.digits import Digits, unseen  # noqa: E402
from experiments.row import Lab, Trained  # noqa: E402
from experiments.translation import earlier_or_new, finished, held, mapped, share, sides, unmapped  # noqa: E402

SHORT = ("length_kimg=0.032", "tick_kimg=0.032", "checkpoint_kimg=0.016", "batch=16", "game.critic.width=8")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    return pack(open_source("digits"), root / "packed", size=(16, 16), workers=1).folder


@pytest.fixture(scope="module")
def packed_for_all(packed: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lab, "mnist", lambda *_: packed)
        yield


def row_42(runs: Path, *changes: str) -> Trained:
    lab = Lab(1, runs / "cyclegan-1", (*SHORT, *changes))
    return lab.run(*sides(lab, "cyclegan"))


def row_46(runs: Path) -> Lab:
    return Lab(1, runs / "translations_as_data-1", SHORT)


@pytest.fixture(scope="module")
def trained(packed_for_all: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return row_42(tmp_path_factory.mktemp("runs"))


def pictures(count: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return from_uint8(torch.randint(0, 256, (count, 1, 16, 16), generator=random, dtype=torch.uint8))


@pytest.mark.parametrize("config", ["cyclegan", "dualgan"])
def test_translators_are_held_against_the_map_that_they_learn(config: str, packed: Path, packed_for_all: None) -> None:
    """What the config's second stream makes of the images, which has an inverse."""
    run = Lab(0, packed).loaded(*sides(Lab(0, packed), config))
    data = run.data["real"]
    assert isinstance(data, Derived)
    with data.open(seed=0) as stream, Shards(path=str(packed)).open(seed=0) as plain:
        made, images = (each.read(0, 20).to(torch.device("cpu")).images for each in (stream, plain))
    assert torch.equal(mapped(images), made)
    assert torch.equal(unmapped(mapped(images)), images)
    corner = mapped(images)[:, 0, -1, 0]
    torch.testing.assert_close(corner, -images[:, 0, 0, 0])  # what was on top is on the left, and dark what was light


class Known:
    """A translator that is right but for 0.1 there; on the way back but for 0.3."""

    def translated(self, images: Tensor, to: str) -> Tensor:
        return mapped(images) + 0.1 if to == "real" else unmapped(images) - 0.3


class ByCorner:
    """Reads a 1 where the first pixel is light."""

    def read(self, images: Tensor) -> Reading:
        return Reading(torch.empty(0), (images[:, 0, 0, 0] > 127).long())


@pytest.mark.parametrize(("wrong", "kept"), [(False, 1.0), (True, 0.0)])
def test_what_is_held_against_the_map(wrong: bool, kept: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Errors by the range of a pixel, 2, the mean of both ways; classes on both sides of what stands upright again."""
    light = torch.arange(64) % 2
    images = torch.full((64, 1, 16, 16), -1.0)
    images[:, 0, 0, 0] = light * 2.0 - 1
    asked = []

    def digits(lab: Lab, *of: Any) -> Digits:
        asked.append(of)
        return Digits(images, 1 - light if wrong else light)

    monkeypatch.setattr(translation, "digits", digits)
    monkeypatch.setattr(translation, "judge", lambda *_: ByCorner())
    error, right = held(Lab(1, tmp_path), cast(Trained, Known()), "picture")
    assert asked == [(16, "t10k", 2000)]
    assert error.value == pytest.approx((0.1 + 0.3) / 4)
    assert right.value == kept
    assert right.line == "> 0.9"


def test_a_share_is_of_what_is_true() -> None:
    assert share(torch.tensor([True, False, False, False])) == 0.25


def test_the_nearest_know_what_an_image_is() -> None:
    images = torch.tensor([0, 1, 2, 100, 101, 250], dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.tensor([3, 4, 3, 5, 5, 6])
    test = torch.tensor([1, 110], dtype=torch.uint8).view(-1, 1, 1, 1)
    assert translation.neighbours(images, labels, test, 0).tolist() == [3, 5]


def test_images_are_translated_in_parts_as_in_one(trained: Trained) -> None:
    images = pictures(300)  # more than one part
    restored = trained.restored
    for to in ("real", "source"):
        way = use(restored.game, Translation, "translate").to(to)
        whole = restored.look.used(lambda ctx, way=way: way.run(ctx, images), 300, "translate")
        torch.testing.assert_close(trained.translated(images, to), whole)
    assert not torch.allclose(trained.translated(images, "real"), trained.translated(images, "source"))


def test_a_run_of_an_earlier_row_is_taken_where_its_settings_are_those_of_now(trained: Trained) -> None:
    assert earlier_or_new(row_46(trained.home.parents[1])).home == trained.home


@pytest.mark.parametrize(
    "changes",
    [("game.cycle=9",), ("length_kimg=0.016",), ("data.real.map.quarters=3",), ("batch=8",)],
    ids=lambda value: value[0],
)
def test_a_run_of_other_settings_is_not_taken(changes: tuple[str, ...], packed_for_all: None, tmp_path: Path) -> None:
    """As one of an older config is: whole by its own length, and no answer to what is asked now."""
    earlier = row_42(tmp_path, *changes)
    lab = row_46(tmp_path)
    found = earlier_or_new(lab)
    assert found.home == lab.folder / "run" != earlier.home
    assert found.restored.run == lab.loaded(*sides(lab, "cyclegan"))


def test_a_run_that_was_broken_off_is_not_taken(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.home.parent, tmp_path / "cyclegan-1")
    assert finished(Trained(tmp_path / "cyclegan-1" / "run"), wanted := trained.restored.run)
    shutil.rmtree(max((tmp_path / "cyclegan-1" / "run" / "checkpoints").glob("round_*")))
    assert not finished(Trained(tmp_path / "cyclegan-1" / "run"), wanted)
    assert not finished(Trained(tmp_path / "nowhere"), wanted)


def digits_of(folder: Path) -> str:
    """Training digits that are filled, and test digits that are half so light."""
    folder.mkdir(exist_ok=True)
    for split, light in (("train", 255), ("t10k", 127)):
        images = np.full((20, 28, 28), light, dtype=np.uint8)
        write_idx(folder, split, images, (np.arange(20) % 10).astype(np.uint8), zipped=True)
    return str(folder)


@pytest.mark.parametrize("kind", [ColouredDigits, CaptionedDigits])
def test_unseen_images_are_made_of_test_digits(kind: Any, tmp_path: Path) -> None:
    data = kind(path=digits_of(tmp_path), size=16)
    for of, light in ((data, 255), (unseen(data), 127)):
        with of.open(seed=0) as stream:
            assert int(stream.read(0, 50).images.max()) == light


class Painter:
    """Makes images of one grey for each colour, the same for the last two; what it is given has to be of test digits."""

    def __init__(self, data: ColouredDigits) -> None:
        self.restored = SimpleNamespace(run=SimpleNamespace(data={"real": data}))

    def translated(self, images: Tensor, to: str) -> Tensor:
        assert int(to_uint8(images).max()) == 127
        return from_uint8(torch.full((len(images), 3, 16, 16), min([*COLOURS].index(to), 3), dtype=torch.uint8))


class ByGrey:
    """Reads the first pixel."""

    def read(self, images: Tensor) -> Reading:
        return Reading(torch.empty(0), images[:, 0, 0, 0].long())


def test_colours_are_judged_on_unseen_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Four of five colours are hit; a digit is kept where it is the number of the grey."""
    data = ColouredDigits(path=digits_of(tmp_path / "mnist"), size=16)
    for name, value in {"SHARED": tmp_path, "KNOWN": 40, "TESTED": 50, "cached_classifier": lambda *_, seed: ByGrey()}.items():
        monkeypatch.setattr(translation, name, value)
    monkeypatch.setattr(Lab, "run", lambda *_: Painter(data))
    told, kept, _ = translation.stargan(Lab(1, tmp_path))
    assert told.value == pytest.approx(0.8)
    with unseen(data).open(seed=0) as stream:
        digits = stream.read(40, 50).attributes[:, 0].tolist()
    assert kept.value == pytest.approx(sum(digits.count(grey) for grey in (0, 1, 2, 3, 3)) / 250)
