"""Data that are made from other data: each map's function, and that it is one of the position alone."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bigan.clock import Draws
from bigan.config import parse
from bigan.data.derived import Derived, Grey, Hole, Map, Noise, Smaller, Turned
from bigan.data.pack import pack
from bigan.data.sources import open_source
from bigan.data.stacked import StackedDigits
from bigan.data.stream import Shards

from .pictures import folder_of, image

CPU = torch.device("cpu")
MAPS: Sequence[Map] = (Grey(), Smaller(factor=2), Hole(size=3), Noise(std=20), Turned(quarters=1, inverted=True))


def mapped(map: Map, images: np.ndarray, seed: int = 0) -> np.ndarray:
    made = map(images, Draws((seed, "derived"), 0, len(images), CPU))
    assert made.dtype == np.uint8
    assert made.shape == images.shape
    return made


def pictures(count: int = 3, side: int = 8) -> np.ndarray:
    return np.stack([np.asarray(image(number, side, side, "RGB")) for number in range(count)])


def test_grey_is_pillows() -> None:
    images = pictures()
    made = mapped(Grey(), images)
    for one, grey in zip(images, made, strict=True):
        assert (grey == np.asarray(Image.fromarray(one).convert("L"))[:, :, None]).all()


def test_smaller_is_the_mean_of_blocks() -> None:
    images = pictures()
    made = mapped(Smaller(factor=4), images)
    for row, column in ((0, 0), (1, 0), (1, 1)):
        block = np.s_[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert (made[block] == np.rint(images[block].mean((1, 2), keepdims=True))).all()


def test_a_hole_is_grey_and_the_rest_is_kept() -> None:
    images = np.zeros((400, 8, 8, 3), dtype=np.uint8)
    made = mapped(Hole(size=3), images)
    assert set(np.unique(made)) == {0, 128}
    hit = (made[..., 0] == 128).reshape(400, -1).sum(1)
    assert (hit == 9).all()
    corners = [divmod(int((one[..., 0] == 128).argmax()), 8) for one in made]
    assert set(corners) == {(top, left) for top in range(6) for left in range(6)}  # every place, also at the border
    centred = mapped(Hole(size=4, anywhere=False), images)
    assert (centred[:, 2:6, 2:6] == 128).all()
    assert centred.sum() == 400 * 16 * 3 * 128


def test_noise_has_its_spread() -> None:
    images = np.full((4, 64, 64, 3), 128, dtype=np.uint8)
    difference = mapped(Noise(std=20), images).astype(float) - 128
    assert abs(difference.mean()) < 0.5
    assert abs(difference.std() - 20) < 0.5
    assert np.abs(np.corrcoef(difference.reshape(4, -1)) - np.eye(4)).max() < 0.03
    assert set(np.unique(mapped(Noise(std=500), images))) >= {0, 255}


def test_turned_has_an_inverse() -> None:
    images = pictures()
    made = mapped(Turned(quarters=1, inverted=True), images)
    assert (mapped(Turned(quarters=3, inverted=True), made) == images).all()
    assert (made[:, -1, 0] == 255 - images[:, 0, 0]).all()  # against the clock


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("derived")
    folder = folder_of(root / "set", *(f"{name}/{number}.png" for name in "ab" for number in range(9)), mode="RGB")
    return str(pack(open_source(str(folder)), root / "out", size=8, samples_per_shard=5).folder)


@pytest.mark.parametrize("map", MAPS, ids=lambda map: map.kind)
def test_it_is_a_function_of_the_position(packed: str, map: Map) -> None:
    settings = Derived(of=Shards(path=packed, flip=True), map=map)
    with settings.open(seed=5) as stream, Shards(path=packed, flip=True).open(seed=5) as plain:
        whole = stream.read(0, 24)
        assert torch.equal(whole.images, plain.read(0, 24).images)
        assert torch.equal(whole.labels, plain.read(0, 24).labels)
        assert whole["source"].shape == whole.images.shape
        assert not torch.equal(whole["source"], whole.images)
        assert whole["source"].is_contiguous(memory_format=torch.channels_last)
        assert stream.spec.image_shapes == {"images": (3, 8, 8), "source": (3, 8, 8)}
    for cuts in ((0, 8, 16, 24), (0, 1, 13, 24)):
        with settings.open(seed=5) as stream:
            parts = [stream.read(start, end - start) for start, end in pairwise(cuts)]
        assert torch.equal(torch.cat([part["source"] for part in parts]), whole["source"])
    with settings.open(seed=5) as stream:
        assert torch.equal(stream.read(11, 6)["source"], whole["source"][11:17])
        moved = stream.read(0, 2).to(CPU)
    assert moved["source"].dtype == torch.float32
    assert moved["source"].abs().max() <= 1


def test_draws_follow_the_seed(packed: str) -> None:
    settings = Derived(of=StackedDigits(size=8), map=Noise())
    with settings.open(seed=1) as one, settings.open(seed=2) as two:
        first, second = one.read(0, 8), two.read(0, 8)
    assert not torch.equal(first["source"].int() - first.images, second["source"].int() - second.images)


def test_the_fingerprint_is_of_all_that_decides(packed: str) -> None:
    base = Derived(of=Shards(path=packed), map=Hole(size=3))
    others: tuple[Derived, ...] = (
        replace(base, map=Hole(size=4)), replace(base, map=Hole(size=3, anywhere=False)), replace(base, map=Grey()),
        replace(base, into="images"), replace(base, into="other"), replace(base, of=StackedDigits(size=8)),
    )  # fmt: skip
    prints = []
    for settings in (base, *others):
        with settings.open(seed=0) as stream:
            prints.append(stream.fingerprint)
    with base.open(seed=9) as stream:
        assert stream.fingerprint == prints[0]
    assert len(set(prints)) == len(prints)


def test_it_may_take_the_place_of_the_images(packed: str) -> None:
    with Derived(of=Shards(path=packed), map=Turned(quarters=2), into="images").open(seed=5) as stream:
        with Shards(path=packed).open(seed=5) as plain:
            assert torch.equal(stream.read(3, 7).images, plain.read(3, 7).images.flip(2, 3))
            assert stream.spec == plain.spec


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"map": Smaller(factor=3)}, r"^map: smaller: 8x8 is not divisible by a factor of 3$"),
        ({"map": Hole(size=8)}, r"^map: hole: a hole of 8 leaves nothing of 8x8$"),
        ({"into": "labels"}, r"^into: more_images: 'labels' is no name"),
        ({"into": "Grey one"}, r"^into: more_images: 'Grey one' is no name"),
        ({"of": Shards(path="nowhere")}, r"nowhere"),
    ],
)
def test_what_does_not_go_is_said(packed: str, change: dict[str, Any], said: str) -> None:
    settings = Derived(of=Shards(path=packed), map=Noise())
    with pytest.raises(ValueError, match=said):
        replace(settings, **change).open(seed=0)


def test_grey_images_are_not_greyed_and_halves_not_doubled(tmp_path: Path) -> None:
    grey = str(pack(open_source(str(folder_of(tmp_path / "set", "a.png", "b.png"))), tmp_path / "out", size=(4, 6)).folder)
    with pytest.raises(ValueError, match=r"^map: grey: the images are grey already"):
        Derived(of=Shards(path=grey), map=Grey()).open(seed=0)
    with pytest.raises(ValueError, match=r"^map: turned: 4x6 is no square"):
        Derived(of=Shards(path=grey), map=Turned(quarters=1)).open(seed=0)
    halves = open_source(str(tmp_path / "set"), halves="images")
    pairs = str(pack(halves, tmp_path / "pairs", size=4).folder)
    with pytest.raises(ValueError, match=r"^into: .*pairs has 'source' already; name another field"):
        Derived(of=Shards(path=pairs), map=Noise()).open(seed=0)


def test_packed_shards_are_meant_where_no_kind_is_named() -> None:
    raw = {"name": "a", "length_kimg": 1, "game": "gan"}
    data = {"real": {"kind": "derived", "of": {"path": "somewhere"}, "map": {"kind": "grey"}}}
    run = parse({**raw, "data": data}, Path("run.yaml"))
    assert run.data["real"] == Derived(of=Shards(path="somewhere"), map=Grey())
    with pytest.raises(ValueError, match=r"^run\.yaml: data\.real\.map\.sise: is no key of hole"):
        parse({**raw, "data": {"real": {**data["real"], "map": {"kind": "hole", "sise": 3}}}}, Path("run.yaml"))
    with pytest.raises(ValueError, match=r"^run\.yaml: data\.real\.of: is missing"):
        parse({**raw, "data": {"real": {"kind": "derived", "map": {"kind": "grey"}}}}, Path("run.yaml"))
