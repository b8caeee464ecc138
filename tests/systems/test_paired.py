"""How translations of pairs are scored, by hand; and what the baselines are."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bigan.data.derived import Derived, Hole, Noise
from bigan.data.pack import pack
from bigan.data.sources import Item, Source, open_source
from bigan.data.stream import Shards
from bigan.images import to_uint8
from bigan.metrics.features import Reading

from ..unit.pictures import image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from experiments import paired  # noqa: E402
from experiments.paired import area, blur, posed, psnr, sharpness, told_apart  # noqa: E402
from experiments.row import Lab  # noqa: E402


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    assert area(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0])) == 0.75
    assert area(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0])) == 1
    assert area(torch.tensor([1.0]), torch.tensor([2.0, 3.0])) == 0
    assert area(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0])) == 0.75  # two ties


def noise(count: int, seed: int) -> Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_classifier_is_asked_about_images_that_it_was_not_trained_on() -> None:
    """What looks alike is not told apart by having been learned by heart; what looks real scores above what does not."""
    assert told_apart(noise(12, 1), noise(12, 2), seed=0, steps=60) < 0.7
    assert told_apart(noise(12, 1), noise(12, 2) / 4 - 0.5, seed=0, steps=60) > 0.9


def test_psnr_is_a_mean_over_images() -> None:
    """Errors of a tenth and a hundredth of the range, 20 and 40 dB; the mean error's is 22.97."""
    images = torch.zeros(2, 3, 4, 4)
    made = images + torch.tensor([0.2, -0.02]).view(2, 1, 1, 1)
    assert psnr(made, images) == pytest.approx(30, abs=1e-4)


def test_sharpness_is_the_step_to_the_next_pixel() -> None:
    ramp = (torch.arange(5) / 10).expand(1, 1, 5, 5)
    assert sharpness(ramp) == pytest.approx(0.1 / 2)  # one way it is flat
    assert sharpness(ramp + 3 * ramp.mT) == pytest.approx((0.1 + 0.3) / 2)


def test_a_blur_is_as_wide_as_it_says() -> None:
    point = torch.zeros(1, 3, 17, 17)
    point[..., 8, 8] = 1
    spread, at = blur(point, 1.2)[0, 0], torch.arange(-8, 9)
    assert float(spread.sum()) == pytest.approx(1)
    for axis in (0, 1):
        assert math.sqrt((spread.sum(axis) * at**2).sum()) == pytest.approx(1.2, rel=0.01)
    torch.testing.assert_close(blur(torch.full((1, 3, 12, 12), 0.3), 1.0), torch.full((1, 3, 12, 12), 0.3))


def test_poses_lead_to_views_that_were_held_out() -> None:
    """Of ten views the first and the sixth are held out; a turn is by 5 degrees a step."""
    items = [Item(f"obj1__{view}.png", lambda view=view: Image.new("L", (view + 1, 1)), None) for view in range(10)]
    views = Source(description="views", items=items, classes=(), attributes=(), fingerprint="f")
    pairs = {held: posed(views, held=held) for held in (False, True)}
    for held, ends in ((False, {1, 2, 3, 4, 6, 7, 8, 9}), (True, {0, 5})):
        found = []
        for item in pairs[held].items:
            start, end = (load().width - 1 for load in (item.more[0], item.load))
            turn = math.radians(5 * (end - start))
            assert item.attributes == pytest.approx((math.sin(turn), math.cos(turn)))
            assert item.key == f"obj1__{start}__{end}"
            found.append((start, end))
        assert set(found) == {(start, end) for end in ends for start in (1, 2, 3, 4, 6, 7, 8, 9) if start != end}
        assert len(found) == len(set(found))
    assert pairs[False].fingerprint != pairs[True].fingerprint


class ByPixels:
    """Features that are four of the pixels."""

    def read(self, images: Tensor) -> Reading:
        return Reading(images[:, 0, ::16, ::16].flatten(1).float(), torch.empty(0))


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The experiments on twelve images, by networks that make what is told of the source."""
    (tmp_path / "files").mkdir()
    for seed in range(12):
        Image.fromarray(np.asarray(image(seed, 32, 32, "RGB")) // 3).save(tmp_path / "files" / f"{seed}.png")
    folder = str(pack(open_source(str(tmp_path / "files")), tmp_path / "packed", size=32).folder)
    fakes = {
        "_packed": lambda *_: folder, "_there": lambda _: tmp_path, "open_source": lambda _: None,
        "read_data": lambda *_: SimpleNamespace(classifier=ByPixels()),
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(paired, name, fake)

    def measured(experiment: Any, map: Any, made: Any) -> tuple[dict[str, float], Tensor, Tensor]:
        data = Derived(of=Shards(path=folder), map=map)
        trained = SimpleNamespace(translated=made, restored=SimpleNamespace(run=SimpleNamespace(data={"real": data})))
        monkeypatch.setattr(Lab, "run", lambda *_, name: trained)
        figures = {figure.name: figure.value for figure in experiment(Lab(1, tmp_path / "painted-1"))}
        with data.open(seed=0) as stream:
            batch = stream.read(0, 12).to(torch.device("cpu"))
        return figures, batch["source"], batch.images

    return measured


def test_of_what_is_inpainted_the_hole_alone_is_scored(restored: Any) -> None:
    """Beside the mean of what is around it; a network that forgets all else loses nothing by that."""
    figures, source, images = restored(paired.inpainted, Hole(size=12), torch.zeros_like)
    hole = (to_uint8(source) == 128).all(1, keepdim=True)
    assert (hole.sum((1, 2, 3)) == 144).all()
    rest = images.masked_fill(hole, 0).sum((2, 3), keepdim=True) / (32 * 32 - 144)
    for name, filling in (("L2", torch.zeros_like(images)), ("GAN", torch.zeros_like(images)), ("the mean of the rest", rest)):
        errors = (hole * (filling - images)).square().mean((1, 2, 3)) / 4
        assert figures[f"PSNR, {name}"] == pytest.approx(float(-10 * errors.log10().mean()), abs=1e-3)
        assert figures[f"PSNR of the mean error, {name}"] == pytest.approx(float(-10 * errors.mean().log10()), abs=1e-3)
    assert figures["PSNR, L2 above the mean of the rest"] == figures["PSNR, L2"] - figures["PSNR, the mean of the rest"]


def test_of_what_is_denoised_every_pixel_is_scored(restored: Any) -> None:
    figures, source, images = restored(paired.denoised, Noise(std=40), lambda source: source * 0.5)
    assert figures["PSNR, GAN"] == pytest.approx(psnr(source * 0.5, images), abs=1e-3)
    best = max(psnr(blur(source, std / 10), images) for std in range(3, 16))
    assert figures["PSNR, the best Gaussian blur"] == pytest.approx(best, abs=1e-3)
