"""`bigan complete`: what is observed stays to the last bit, what is missing is made, and what cannot be is said in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bigan.clock import Clock
from bigan.complete import filled, missing_by
from bigan.game import Context, Game
from bigan.look import Look
from bigan.uses import Completion

from .launch import bigan, kimg, refused, refused_and_untouched, write_config

NETWORK = {"kind": "dcgan", "width": 4}
BIGAN = {"kind": "bigan", "generator": {**NETWORK, "latent": 4}, "encoder": NETWORK, "critic": NETWORK, "features": 8}


def look() -> Look:
    game = Game(players={"a": nn.Linear(1, 1)}, moves=(), sample=lambda ctx: {})
    return Look(game=game, players=game.players, clock=Clock(batch=1), device=torch.device("cpu"))


@given(
    shape=st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([0.0, 1.0, 1e3]),
    broken=st.booleans(),
)
def test_what_is_observed_never_changes(shape: tuple[int, int, int, int], seed: int, scale: float, broken: bool) -> None:
    """The game returns noise everywhere and, where the image is observed, even NaN."""
    random = torch.Generator().manual_seed(seed)
    count, channels, height, width = shape
    pixels = torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)
    missing = torch.rand(count, 1, height, width, generator=random) < 0.5

    def noise(ctx: Context, images: Tensor, observed: Tensor, steps: int) -> Tensor:
        made = scale * torch.randn(images.shape, generator=random)
        return torch.where(observed, float("nan"), made) if broken else made

    out = filled(look(), Completion((channels, height, width), noise), pixels, missing, steps=1)
    assert out.dtype == torch.uint8
    kept = ~missing.expand_as(pixels)
    assert torch.equal(out[kept], pixels[kept])


def test_what_is_missing_is_what_the_game_made() -> None:
    pixels, missing = torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([[[[True, False], [False, True]]]])

    def white(ctx: Context, images: Tensor, observed: Tensor, steps: int) -> Tensor:
        assert images[observed].unique().tolist() == [-1.0]
        return torch.full_like(images, steps / 4)

    out = filled(look(), Completion((1, 2, 2), white), pixels, missing, steps=4)
    assert out.flatten().tolist() == [255, 0, 0, 255]


@pytest.mark.parametrize(
    ("side", "rows"),
    [
        ("left", ["xx...", "xx...", "xx..."]),
        ("right", ["..xxx", "..xxx", "..xxx"]),
        ("top", ["xxxxx", ".....", "....."]),
        ("bottom", [".....", "xxxxx", "xxxxx"]),
    ],
)
def test_halves_meet_where_a_side_is_odd(side: str, rows: list[str]) -> None:
    found = missing_by(side, Path("image.png"), (3, 5), (3, 5))
    assert ["".join("x" if pixel else "." for pixel in row) for row in found[0, 0].tolist()] == rows


def test_what_is_more_white_than_black_is_missing(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "mask.png")
    assert missing_by(str(tmp_path / "mask.png"), Path("image.png"), (1, 4), (1, 4)).flatten().tolist() == [
        False,
        False,
        True,
        True,
    ]


def test_nan_where_it_matters_is_said() -> None:
    pixels, missing = torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.ones(1, 1, 2, 2, dtype=torch.bool)
    broken = Completion((1, 2, 2), lambda ctx, images, observed, steps: images / 0 * 0)
    with pytest.raises(ValueError, match="has diverged"):
        filled(look(), broken, pixels, missing, steps=1)


@pytest.fixture(scope="module")
def completing(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A run of BiGAN, three rounds long."""
    place = tmp_path_factory.mktemp("completing")
    config = write_config(place / "run.yaml", digits, game=BIGAN, folder=str(place), length_kimg=kimg(3))
    said = bigan("train", config)
    assert said.status == 0, said
    return place / "run"


def picture(path: Path, height: int = 16, width: int = 16, colour: bool = False) -> NDArray[np.uint8]:
    shape = (height, width, 3) if colour else (height, width)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_half_is_made(here: Path, completing: Path, side: str) -> None:
    pixels = picture(here / "image.png")
    said = bigan("complete", completing, "image.png", "deep/out.png", "--mask", side, "--steps", 2)
    assert (said.status, said.out.strip()) == (0, "deep/out.png")
    whole = np.asarray(Image.open("deep/out.png"))
    halves = {"left": np.s_[:, 8:], "right": np.s_[:, :8], "top": np.s_[8:], "bottom": np.s_[:8]}
    made = np.ones((16, 16), bool)
    made[halves[side]] = False
    assert np.array_equal(whole[~made], pixels[~made])
    assert (whole[made] != pixels[made]).mean() > 0.5
    assert bigan("complete", completing, "image.png", "again.png", "--mask", side, "--steps", 2).status == 0
    assert Path("again.png").read_bytes() == Path("deep/out.png").read_bytes()


def test_a_painted_mask_is_made_white(here: Path, completing: Path) -> None:
    pixels = picture(here / "image.png")
    painted = np.zeros((16, 16), np.uint8)
    painted[3:6, 10:] = 255
    Image.fromarray(painted).convert("RGB").save("mask.png")
    assert bigan("complete", completing, "image.png", "out.png", "--mask", "mask.png").status == 0
    whole = np.asarray(Image.open("out.png"))
    assert np.array_equal(whole[painted == 0], pixels[painted == 0])
    assert not np.array_equal(whole, pixels)


def test_an_image_of_another_size_is_fitted_with_its_mask(here: Path, completing: Path) -> None:
    """A mask of the image's own size is cropped and resized with it, one of the run's size taken as it is."""
    picture(here / "image.png", height=32, width=40, colour=True)
    for name, shape in (("its.png", (32, 40)), ("run.png", (16, 16))):
        painted = np.zeros(shape, np.uint8)
        painted[: shape[0] // 2] = 255
        Image.fromarray(painted).save(name)
        assert bigan("complete", completing, "image.png", f"by-{name}", "--mask", name).status == 0
    assert bigan("complete", completing, "image.png", "by-top.png", "--mask", "top").status == 0
    wholes = [np.asarray(Image.open(f"by-{name}.png")) for name in ("its", "run", "top")]
    assert wholes[0].shape == (16, 16)
    for whole in wholes[:2]:
        assert np.array_equal(whole, wholes[2])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("image.png", "out.png", "--mask", "middle"), "--mask middle: there is no such file; give one, or left, right, top,"),
        (("image.png", "out.png", "--mask", "black.png"), "--mask black.png: nothing of image.png is missing"),
        (("image.png", "out.png", "--mask", "white.png"), "--mask white.png: all of image.png is missing"),
        (("image.png", "out.png", "--mask", "large.png"), "--mask large.png: is 20x20, and image.png is 16x16"),
        (("image.png", "out.png", "--mask", "text.png"), "text.png: is no image"),
        (("image.png", "out.png", "--mask", "."), ".: cannot be read as an image"),
        (("image.png", "out.png", "--mask", ""), "--mask : there is no such file"),
        (("image.png", "image.png", "--mask", "left"), "image.png: is an image that is read"),
        (("image.png", "black.png", "--mask", "black.png"), "black.png: is an image that is read"),
        (("none.png", "out.png", "--mask", "left"), "none.png: cannot be read as an image (No such file"),
        (("text.png", "out.png", "--mask", "left"), "text.png: is no image"),
        (("cut.png", "out.png", "--mask", "left"), "cut.png: cannot be read as an image"),
        (("image.png", "out.jpg", "--mask", "left"), "out.jpg: must end in .png"),
        (("image.png", "text.png/out.png", "--mask", "left"), "text.png/out.png: cannot be written"),
        (("image.png", "out.png", "--mask", "left", "--steps", "0"), "--steps 0: at least one"),
    ],
)
def test_what_cannot_be_is_one_line(here: Path, completing: Path, arguments: tuple[str, ...], told: str) -> None:
    picture(here / "image.png")
    picture(here / "large.png", 20, 20)
    for name, value in (("black.png", 0), ("white.png", 255)):
        Image.fromarray(np.full((16, 16), value, np.uint8)).save(name)
    (here / "text.png").write_text("no image")
    (here / "cut.png").write_bytes((here / "image.png").read_bytes()[:80])
    refused_and_untouched(here, (told,), "complete", completing, *arguments)


def test_another_game_completes_nothing(run: Path) -> None:
    picture(Path("image.png"))
    refused(bigan("complete", run, "image.png", "out.png", "--mask", "left"), "cannot complete images; one of kind bigan does")
