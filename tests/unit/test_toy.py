"""Toy data: what is drawn is what is promised, and a sample depends on the seed and its position alone."""

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor

from bigan.config import dump, parse
from bigan.data.digits import COLOURS, CaptionedDigits, ColouredDigits, caption
from bigan.data.sources.idx import open_digits
from bigan.data.stacked import StackedDigits
from bigan.data.toy import EPOCH, Grid, Lines, Mixture, Ring, SwissRoll, Toy
from bigan.metrics.modes import mode_coverage
from bigan.spec import DataSpec
from bigan.words import words_of

from .idx import write_idx

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"
SETS: list[dict[str, Any]] = [
    {"kind": "ring"},
    {"kind": "grid"},
    {"kind": "swiss_roll"},
    {"kind": "lines", "offset": 0.5},
    {"kind": "mixture", "means": [-1, 2.5], "stds": [0.25, 2], "weights": [1, 2]},
    {"kind": "mixture", "means": [[0, 1, 2]], "stds": [1]},
    {"kind": "stacked_digits", "size": 8},
    {"kind": "coloured_digits", "size": 8},
    {"kind": "captioned_digits", "size": 16},
]
MANY = 20_000
RING = [[-0.02432811, 1.998086], [-1.402288, 1.417941]]
ROLL = [[0.8044189, 0.2019867], [0.6616749, 1.727856]]


def configured(data: dict[str, Any]) -> Any:
    """A run over such data."""
    return parse({"name": "toy", "game": "gan", "length_kimg": 1, "data": {"real": data}}, Path("run.yaml"))


def drawn(toy: Toy, seed: int = 0) -> np.ndarray:
    return toy.open(seed).read(0, MANY).modelled.double().numpy()


@pytest.mark.parametrize("data", SETS, ids=lambda data: data["kind"])
def test_a_config_names_it_and_a_checkpoint_knows_it_again(data: dict[str, Any]) -> None:
    run = configured(data)
    assert parse(json.loads(json.dumps(dump(run))), Path("run.yaml")) == run
    with run.data["real"].open(1) as stream, run.data["real"].open(2) as other:
        assert DataSpec.of(stream.spec.plain()) == stream.spec
        assert stream.fingerprint == other.fingerprint
        assert stream.spec.samples == EPOCH
        assert not stream.faults.records


def test_other_data_have_other_fingerprints() -> None:
    prints = [configured(data).data["real"].open(0).fingerprint for data in [*SETS, {"kind": "ring", "std": 0.03}]]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("data", SETS, ids=lambda data: data["kind"])
def test_a_sample_is_a_function_of_seed_and_position(data: dict[str, Any]) -> None:
    settings = configured(data).data["real"]
    stream, far = settings.open(3), 10**12 + 5
    for start in (0, EPOCH - 4, far):
        whole = stream.read(start, 12)
        assert whole.index.tolist() == list(range(start, start + 12))
        shares = [settings.open(3).read(start + 4 * rank, 4) for rank in range(3)]  # three ranks
        for name, tensor in whole.fields.items():
            assert torch.equal(torch.cat([share[name] for share in shares]), tensor), name
    assert not torch.equal(stream.read(0, 12).modelled, settings.open(4).read(0, 12).modelled)
    assert not torch.equal(stream.read(0, 12).modelled, stream.read(EPOCH, 12).modelled)  # no epoch comes again


def test_what_is_drawn_stays_the_same_from_version_to_version() -> None:
    """A run that is resumed under a later bigan goes on with the same data; change `toy.VERSION` if this must change."""
    assert Ring().open(0).fingerprint.startswith("d4758e7711a6")
    points = Ring().open(0).read(0, 2).modelled
    torch.testing.assert_close(points, torch.tensor(RING), rtol=0, atol=1e-6)
    points = SwissRoll().open(0).read(0, 2).modelled
    torch.testing.assert_close(points, torch.tensor(ROLL), rtol=0, atol=1e-6)


@pytest.mark.parametrize("toy", [Ring(), Ring(count=3, radius=5, std=0.1), Grid(), Grid(side=2, spacing=3)])
def test_gaussians_stand_where_they_should(toy: Ring | Grid) -> None:
    points, modes = drawn(toy), toy.modes()
    found = mode_coverage(torch.from_numpy(points), modes)
    assert found.covered == found.present == len(modes.centres)
    assert found.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.004)
    nearest = np.linalg.norm(points[:, None] - modes.centres.numpy(), axis=2)
    mode = nearest.argmin(1)
    noise = points - modes.centres.numpy()[mode]
    assert noise.mean(0) == pytest.approx([0, 0], abs=0.05 * toy.std)
    assert noise.std(0) == pytest.approx([toy.std] * 2, rel=0.03)
    shares = np.bincount(mode, minlength=len(modes.centres)) / MANY
    assert shares == pytest.approx(modes.weights.numpy(), abs=5 / math.sqrt(MANY))


def test_the_usual_ring_and_grid() -> None:
    ring, grid = Ring().modes(), Grid().modes()
    assert ring.centres[[0, 2, 4, 6]].flatten().tolist() == pytest.approx([2, 0, 0, 2, -2, 0, 0, -2], abs=1e-12)
    assert sorted(map(tuple, grid.centres.tolist())) == sorted(itertools.product([-4.0, -2.0, 0.0, 2.0, 4.0], repeat=2))
    assert (ring.stds[0], grid.stds[0]) == (pytest.approx(0.02), pytest.approx(0.05))


def test_the_swiss_roll_is_a_spiral() -> None:
    """Without noise, each point's angle is its radius (times 7.5), and the way along is uniform."""
    points = drawn(SwissRoll(noise=0)) * 7.5
    turn = np.linalg.norm(points, axis=1)
    assert points == pytest.approx(turn[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1), abs=1e-4)
    assert kstest(turn, "uniform", args=(1.5 * np.pi, 3 * np.pi)).pvalue > 1e-3
    noise = (drawn(SwissRoll()) - points / 7.5) * 7.5
    assert noise.std() == pytest.approx(0.25, rel=0.03)


def test_lines_are_parallel() -> None:
    points = drawn(Lines(offset=-1.5))
    assert (points[:, 0] == -1.5).all()
    assert kstest(points[:, 1], "uniform").pvalue > 1e-3


def test_a_mixture_has_its_moments() -> None:
    """The mixture of f-GAN's table."""
    toy = Mixture(means=(-1.0, 2.0), stds=(0.255, math.sqrt(2)), weights=(0.33, 0.67))
    points = drawn(toy)
    assert points.shape == (MANY, 1)
    mean = 0.33 * -1 + 0.67 * 2
    assert points.mean() == pytest.approx(mean, abs=0.05)
    assert points.var() == pytest.approx(0.33 * (0.255**2 + 1) + 0.67 * (2 + 4) - mean**2, rel=0.03)
    assert (points < -0.3).mean() == pytest.approx(0.33 * 0.997 + 0.67 * 0.0519, abs=0.015)
    assert Mixture(means=(0.0, 1.0), stds=(1, 1)).modes().weights.tolist() == [0.5, 0.5]
    assert Mixture(means=((0, 1), (1, 2)), stds=(1, 1)).dimensions == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "ring", "count": 0}, "data.real.count: "),
        ({"kind": "ring", "std": 0}, "data.real.std: "),
        ({"kind": "ring", "path": "x"}, "data.real.path: is no key of ring"),
        ({"kind": "swiss_roll", "noise": -1}, "data.real.noise: "),
        ({"kind": "lines", "offset": math.inf}, "data.real.offset: "),
        ({"kind": "mixture"}, "data.real.means: is missing"),
        ({"kind": "mixture", "means": [], "stds": []}, "data.real.means: "),
        ({"kind": "mixture", "means": [[]], "stds": [1]}, "data.real: means: "),
        ({"kind": "mixture", "means": [[0, 1], [1]], "stds": [1, 1]}, "data.real: means: differ in their dimensions"),
        ({"kind": "mixture", "means": [[0, 1], 1], "stds": [1, 1]}, "data.real: means: differ in their dimensions"),
        ({"kind": "mixture", "means": [0, 1], "stds": [1]}, "data.real: stds: 1 for 2 means"),
        ({"kind": "mixture", "means": [0], "stds": [1], "weights": [1, 1]}, "data.real: weights: 2 for 1 means"),
        ({"kind": "mixture", "means": [0], "stds": [1], "weights": [0]}, "data.real.weights.0: "),
        ({"kind": "stacked_digits", "size": 4}, "data.real.size: "),
    ],
)
def test_bad_settings_are_refused_by_their_key(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^run\.yaml: ") as caught:
        configured(data)
    assert str(caught.value).startswith(f"run.yaml: {message}")


@given(weights=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5), seed=st.integers(0, 2**32))
def test_no_draw_falls_out_of_a_mixture(weights: list[float], seed: int) -> None:
    toy = Mixture(means=tuple(float(k) for k in range(len(weights))), stds=(1e-9,) * len(weights), weights=tuple(weights))
    points = toy.open(seed).read(0, 50).modelled
    assert ((points - points.round()).abs() < 1e-6).all()
    assert points.min() > -0.5
    assert points.max() < len(weights) - 0.5


@dataclass(frozen=True)
class Ones:
    """Random numbers as large as they become."""

    count: int = 4

    def within(self, scope: str) -> "Ones":
        return self

    def normal(self, name: str, *shape: int) -> Tensor:
        return torch.zeros(self.count, *shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        return torch.ones(self.count, *shape)

    def integers(self, name: str, high: int) -> Tensor:
        return torch.full((self.count,), high - 1)


def test_a_number_that_rounds_to_one_is_of_the_last_mode() -> None:
    toy = Mixture(means=(0.0, 1.0, 5.0), stds=(1, 1, 1), weights=(0.1, 0.2, 0.7))
    assert (toy.points(Ones()) == 5).all()


def test_stacked_digits_are_three_digits_and_their_number() -> None:
    batch = StackedDigits(size=8).open(0).read(0, 3000)
    assert batch.images.shape == (3000, 3, 8, 8)
    assert batch.images.dtype == torch.uint8
    known = {np.asarray(item.load()).tobytes(): str(item.label) for item in open_digits().items}
    for image, label in zip(batch.images[:300].numpy(), batch.labels[:300].tolist(), strict=True):
        assert f"{label:03d}" == "".join(known[channel.tobytes()] for channel in image)
    assert len(batch.labels.unique()) > 900  # of 1000, by 3000 draws: 950 are expected
    spec = StackedDigits(size=8).open(0).spec
    assert (spec.image_shape, spec.classes[0], spec.classes[407], len(spec.classes)) == ((3, 8, 8), "000", "407", 1000)


def test_stacked_digits_are_resized_as_packing_does() -> None:
    images = StackedDigits(size=16).open(0).read(0, 50).images
    assert images.shape[2:] == (16, 16)
    small = StackedDigits(size=8).open(0).read(0, 50).images
    assert float(images.float().mean()) == pytest.approx(float(small.float().mean()), rel=0.02)


@pytest.mark.skipif(not MNIST.is_dir(), reason="shared/data/mnist is not there")
def test_stacked_digits_of_mnist() -> None:
    stream = StackedDigits(path=str(MNIST / "t10k-images-idx3-ubyte.gz"), size=28).open(0)
    batch = stream.read(0, 500)
    assert batch.images.shape == (500, 3, 28, 28)
    assert stream.fingerprint != StackedDigits(size=28).open(0).fingerprint
    assert torch.equal(batch.labels, batch.labels.clamp(0, 999))


def test_stacked_digits_of_a_wrong_path_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"^path: .* is no idx images file, and no folder of such"):
            StackedDigits(path=str(path)).open(0)


def test_coloured_digits_are_a_digit_times_a_colour() -> None:
    stream = ColouredDigits(size=8).open(0)
    batch = stream.read(0, 200)
    known: dict[bytes, set[int]] = {}
    for item in open_digits().items:
        known.setdefault(np.asarray(item.load()).tobytes(), set()).add(item.label or 0)
    for image, label, digit in zip(batch.images.numpy(), batch.labels.tolist(), batch.attributes[:, 0].tolist(), strict=True):
        tint = COLOURS[stream.spec.classes[label]]
        grey = (image[tint.index(max(tint))].astype(np.uint16) * 255 / max(tint)).round().astype(np.uint8)
        near = [shape for shape in known if np.abs(np.frombuffer(shape, np.uint8).astype(int) - grey.ravel()).max() <= 1]
        assert digit in set().union(*(known[shape] for shape in near))
    assert len(batch.labels.unique()) == 5


def test_a_captioned_digit_fills_its_place(tmp_path: Path) -> None:
    """What is margin in all of MNIST is none here: digits of twelve pixels would be eight otherwise."""
    digits = np.zeros((20, 28, 28), dtype=np.uint8)
    digits[:, 4:24, 4:24] = 255
    digits[0, 2, 14] = 255  # so little ink is margin all the same
    write_idx(tmp_path, "train", digits, (np.arange(20) % 10).astype(np.uint8))
    batch = CaptionedDigits(path=str(tmp_path)).open(0).read(0, 50)
    lit = (batch.images.numpy().max(1) > 100).sum((1, 2))
    two, large = batch.attributes[:, :2].numpy().T.astype(int)
    assert lit.tolist() == ((1 + two) * np.where(large, 16, 12) ** 2).tolist()


def test_captions_say_what_is_drawn() -> None:
    stream = CaptionedDigits(size=32).open(0)
    batch = stream.read(0, 300)
    captions = batch.texts()
    assert len(set(captions)) > 150
    for image, text, digit, facts in zip(
        batch.images.numpy(), captions, batch.labels.tolist(), batch.attributes.int().tolist(), strict=True
    ):
        two, large, colour, right = facts
        assert text == caption(two, large, colour, digit, right)
        lit = image.max(0) > 0
        assert not lit[:, :16].any() if right else not lit[:, 16:].any()
        side = 16 if large else 12
        rows = np.flatnonzero(lit.any(1))
        assert (rows.min() < 16 <= rows.max()) or not two
        assert two or rows.max() - rows.min() < side
        strongest = image.reshape(3, -1).max(1)
        assert (
            np.abs(strongest / strongest.max() - np.array([*COLOURS.values()][colour]) / max([*COLOURS.values()][colour])).max()
            < 0.02
        )
    assert set(stream.spec.words) == {word for text in captions for word in words_of(text)}
