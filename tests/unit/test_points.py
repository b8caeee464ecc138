"""Pictures of points and moving pictures: looked at pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bigan.data.toy import Grid, Lines, Mixture, Ring, SwissRoll, Toy
from bigan.report.grid import save_animation, save_grid, sheet
from bigan.report.points import MADE, Plot

from ..movie import frames_of

VERMILION = np.array([int(MADE[place : place + 2], 16) for place in (1, 3, 5)])
TOYS = [
    Ring(),
    Grid(),
    SwissRoll(),
    Lines(),
    Mixture(means=(-1.0, 2.0), stds=(0.3, 1.4)),
    Mixture(means=((0, 0, 0), (1, 2, 3)), stds=(0.1, 0.1)),
]


def truth(toy: Toy) -> Tensor:
    return toy.open(0).read(0, 5000).modelled


def bowl(points: Tensor) -> tuple[Tensor, Tensor]:
    """A critic that is highest at the origin."""
    return -points.square().sum(1), -2 * points


def flat(points: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones(len(points)), torch.zeros_like(points)


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def vermilion(path: Path, width: int) -> np.ndarray:
    """Where the left `width` pixels show samples: [N, 2], row and column."""
    return np.argwhere(np.abs(picture(path)[:, :width] - VERMILION).sum(2) < 90)


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: f"{toy.kind}-{toy.dimensions}")
def test_every_set_has_its_picture(toy: Toy, tmp_path: Path) -> None:
    real = truth(toy)
    plot, out = Plot(real), tmp_path / "deep" / "a.png"
    plot.draw(real[:500], out, "1.5 kimg", bowl)
    assert picture(out).std() > 5
    plot.paths(real[:82].reshape(2, 41, -1), out, "1.5 kimg")
    assert picture(out).std() > 5


@pytest.mark.parametrize("toy", [TOYS[0], TOYS[4]], ids=["plane", "line"])
@pytest.mark.parametrize(
    "samples", [torch.full((4, 2), 100.0), torch.full((4, 2), float("nan")), torch.zeros(0, 2)], ids=["far", "NaN", "none"]
)
def test_what_a_bad_generator_makes_is_drawn_too(toy: Toy, samples: Tensor, tmp_path: Path) -> None:
    Plot(truth(toy)).draw(samples[:, : toy.dimensions], tmp_path / "a.png", "", flat)
    assert picture(tmp_path / "a.png").std() > 5


def test_axes_are_equal_and_upright(tmp_path: Path) -> None:
    """Samples above, below and beside the middle stand at equal distances, and what is above is above."""
    plot = Plot(truth(Ring()))
    spots = {
        name: torch.tensor([place] * 9) for name, place in {"up": (0.0, 2.0), "right": (2.0, 0.0), "left": (-2.0, 0.0)}.items()
    }
    places = {}
    for name, samples in spots.items():
        plot.draw(samples, out := tmp_path / f"{name}.png", "", bowl)
        places[name] = vermilion(out, 480).mean(0)
    middle = (places["left"] + places["right"]) / 2
    assert places["right"][1] - middle[1] == pytest.approx(middle[0] - places["up"][0], abs=1.0)
    assert places["right"][1] > places["left"][1] + 50


def test_the_density_is_where_the_data_are(tmp_path: Path) -> None:
    """Two modes, one above the other, and a third to the right of the upper one."""
    real = truth(Mixture(means=((0, -1), (0, 1), (1, 1)), stds=(0.05, 0.05, 0.05)))
    Plot(real).draw(torch.zeros(0, 2), out := tmp_path / "a.png", "")
    inside = picture(out)[60:470, 70:490]
    rows, columns = np.nonzero(inside[..., 2] > inside[..., 0] + 100)  # blue
    assert np.ptp(rows) > 1.5 * np.ptp(columns)
    assert rows[columns > 220].max() < 200


def test_the_critic_is_beside_the_samples_where_there_is_one(tmp_path: Path) -> None:
    plot, out = Plot(truth(Ring())), tmp_path / "a.png"
    plot.draw(torch.zeros(1, 2), out, "", None)
    alone = picture(out).shape
    plot.draw(torch.zeros(1, 2), out, "", bowl)
    both = picture(out)
    assert both.shape[1] == 2 * alone[1]
    field = both[60:440, 540:940]
    middle, corner = field[170:210, 180:220].mean((0, 1)), field[:30, :30].mean((0, 1))
    assert middle[0] > middle[2] + 60  # orange is high
    assert corner[2] > corner[0] + 30  # violet is low


def test_a_shift_of_the_samples_is_seen_on_a_line(tmp_path: Path) -> None:
    toy = Mixture(means=(0.0,), stds=(1.0,))
    plot, real = Plot(truth(toy)), truth(toy)
    columns = []
    for shift in (-1.5, 1.5):
        plot.draw(real[:1000] + shift, out := tmp_path / "a.png", "", bowl)
        places = vermilion(out, 720)
        columns.append(places[places[:, 0] > 60][:, 1].mean())  # below the legend
    assert columns[1] > columns[0] + 60


def test_no_figure_is_left_to_pyplot(tmp_path: Path) -> None:
    from matplotlib import pyplot

    Plot(truth(Ring())).draw(torch.zeros(1, 2), tmp_path / "a.png", "", bowl)
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_plays_its_frames(channels: int, tmp_path: Path) -> None:
    frames = [np.full((6, 8, channels), 40 * number, np.uint8) for number in range(4)]
    frames[0][0] = 255
    save_animation(frames, tmp_path / "a.gif", 1.6)
    assert frames_of(tmp_path / "a.gif") == (4, (8, 6))
    with Image.open(tmp_path / "a.gif") as movie:
        assert movie.info["duration"] == 400
        assert movie.info["loop"] == 0
        assert (np.asarray(movie.convert("RGB"))[0] == 255).all()
        movie.seek(3)
        assert np.abs(np.asarray(movie.convert("RGB")).astype(int) - 120).max() <= 8


def test_a_sheet_is_what_a_grid_file_holds(tmp_path: Path) -> None:
    images = torch.linspace(-1, 1, 5 * 3 * 4 * 4).reshape(5, 3, 4, 4)
    save_grid(images, tmp_path / "a.png", columns=5)
    assert (picture(tmp_path / "a.png") == sheet(images, 5)).all()
