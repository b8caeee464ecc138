"""Runs on points: trained, drawn, resumed, judged and sampled by the commands; and ways between samples of any run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ..movie import frames_of
from .launch import ENVIRONMENT, bigan, differing, kimg, refused, refused_and_untouched, saved, tree

RAW: dict[str, Any] = {
    "name": "run",
    "data": {"real": {"kind": "ring"}},
    "game": {
        "kind": "gan",
        "generator": {"kind": "mlp", "latent": 3, "width": 16, "depth": 1},
        "critic": {"kind": "mlp", "width": 16, "depth": 1},
        "penalties": [{"kind": "r1", "weight": 0.1}],
    },
    "optimizer": {"kind": "adam", "lr": 0.01},
    "batch": 8,
    "length_kimg": kimg(4),
    "tick_kimg": kimg(2),
    "checkpoint_kimg": kimg(2),
}

BOTH_WAYS = '''
"""Points with an encoder beside the generator (BiGAN): its critic judges pairs, and no point alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from bigan.batch import DataSpec, modelled
from bigan.game import Context, Game, Move, Samples, Terms


@dataclass(frozen=True, kw_only=True)
class BothWays:
    def build(self, data: Mapping[str, DataSpec]) -> Game:
        name, (size,) = modelled(data, "real")
        ways = nn.ModuleDict({"decode": nn.Linear(2, size), "encode": nn.Linear(size, 2)})
        return Game(
            players={"ways": ways, "critic": nn.Sequential(nn.Linear(size + 2, 8), nn.ReLU(), nn.Linear(8, 1))},
            moves=(
                Move(player="critic", loss=lambda ctx: self.loss(ctx, 1), reads=("real",)),
                Move(player="ways", loss=lambda ctx: self.loss(ctx, -1), reads=("real",)),
            ),
            sample=lambda ctx: {name: ctx.players["ways"]["decode"](ctx.normal("z", 2))},
        )

    def loss(self, ctx: Context, sign: int) -> Terms:
        z, x = ctx.normal("z", 2), ctx.batch("real").modelled
        ways, critic = ctx.players["ways"], ctx.players["critic"]
        real = critic(torch.cat([x, ways["encode"](x)], 1))
        fake = critic(torch.cat([ways["decode"](z), z], 1))
        return {"pairs": softplus(-sign * real).mean() + softplus(sign * fake).mean()}
'''


def config(place: Path, **changes: Any) -> Path:
    (path := place / "points.yaml").write_text(yaml.safe_dump(RAW | changes))
    return path


def events(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "events.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with points.yaml and the finished run runs/run; not to be changed."""
    place = tmp_path_factory.mktemp("ring")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        said = bigan("train", config(place))
    assert (said.status, said.err) == (0, ""), said
    return place


def test_what_a_run_on_points_leaves(ring: Path) -> None:
    home = ring / "runs" / "run"
    names = ["kimg_00000.016.png", "kimg_00000.032.png"]
    for folder in ("grids", "interpolation"):
        assert sorted(path.name for path in (home / folder).iterdir()) == names
    with Image.open(home / "grids" / names[0]) as grid:
        assert frames_of(home / "animation.gif") == (2, grid.size)
    for event in events(home):
        assert 0 <= event["modes"] <= 8
        assert 0 <= event["high_quality"] <= 1
        assert event["input_gradient"] > 0


def test_a_run_on_points_goes_on_as_if_it_had_not_stopped(here: Path) -> None:
    path = config(here)
    for rounds in (2, 4):
        assert bigan("train", path, f"length_kimg={kimg(rounds)}").status == 0
    assert bigan("train", path, "name=whole").status == 0
    assert differing(saved(Path("runs/run")), saved(Path("runs/whole"))) == []


def test_two_ranks_go_on_where_one_stopped(here: Path) -> None:
    """They read the same points; the pictures, which one rank draws, hold up no other."""
    sgd = {"kind": "sgd", "lr": 0.05}
    path = config(here, optimizer=sgd)
    assert bigan("train", path).status == 0
    assert bigan("train", path, "name=two", f"length_kimg={kimg(2)}").status == 0
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    command = [*torchrun, "-m", "bigan", "train", str(path), "name=two"]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert Path("runs/two/animation.gif").is_file()
    one, two = saved(Path("runs/run")), saved(Path("runs/two"))
    assert one.clock == two.clock
    apart = {name: float((one.tensors[name].double() - two.tensors[name].double()).abs().max()) for name in one.tensors}
    assert max(apart.values()) < 1e-5, apart


def test_ticks_leave_no_trace(here: Path) -> None:
    path = config(here)
    assert bigan("train", path).status == 0
    assert bigan("train", path, "name=seldom", f"tick_kimg={kimg(4)}").status == 0
    assert differing(saved(Path("runs/run")), saved(Path("runs/seldom"))) == []


def test_points_are_judged(ring: Path, here: Path) -> None:
    said = bigan("evaluate", ring / "runs" / "run", "--count=500")
    assert (said.status, said.err) == (0, "")
    for text in ("500 points a set", "sliced Wasserstein", "modes covered", "8/8", "high quality"):
        assert text in said.out
    card = json.loads((ring / "runs" / "run" / "evaluation.json").read_text())
    assert card["fake_distance"] > card["real_distance"]
    assert card["real_modes"] == {"covered": 8, "present": 8, "high_quality": pytest.approx(0.99, abs=0.02)}
    refused(bigan("evaluate", ring / "runs" / "run", "--count=50000"), "--count 50000: at most 32768")


def test_points_are_sampled_into_an_array(ring: Path, here: Path) -> None:
    home = ring / "runs" / "run"
    assert bigan("sample", home, "--out=a.npz", "--count=300").status == 0
    points = np.load("a.npz")["points"]
    assert (points.shape, points.dtype) == ((300, 2), np.float32)
    assert bigan("sample", home, "--out=b.npz", "--count=7").status == 0
    assert np.load("b.npz")["points"] == pytest.approx(points[:7], abs=1e-6)
    refused_and_untouched(here, ("points", "no images", ".npz"), "sample", home, "--out=a.png")


def test_ways_between_points_are_drawn(ring: Path, here: Path) -> None:
    home = ring / "runs" / "run"
    said = bigan("interpolate", home, "--out=deep/a.png", "--seed=3")
    assert (said.status, said.out, said.err) == (0, "deep/a.png\n", "")
    with Image.open("deep/a.png") as image:
        assert image.size == (520, 520)
    refused_and_untouched(here, ("a.gif", "samples points"), "interpolate", home, "--out=a.gif")
    refused_and_untouched(here, ("a.jpg: ends in .png",), "interpolate", home, "--out=a.jpg")
    refused_and_untouched(here, ("nowhere", "is no run folder"), "interpolate", "nowhere", "--out=a.png")


def test_points_cannot_be_judged_while_they_train(here: Path) -> None:
    said = bigan("train", config(here, evaluation={"every_kimg": kimg(2)}))
    refused(said, "evaluation.every_kimg: the game samples points, no images; set it to 0")


def test_a_game_without_a_critic_of_points_is_drawn_without(here: Path) -> None:
    (here / "both.py").write_text(BOTH_WAYS)
    data = {"real": {"kind": "mixture", "means": [3], "stds": [0.5]}}
    said = bigan("train", config(here, game="both.py:BothWays", data=data))
    assert (said.status, said.err) == (0, "")
    assert Path("runs/run/animation.gif").is_file()
    (*_, event) = events(Path("runs/run"))
    assert "input_gradient" not in event
    assert event["modes"] in (0, 1)


def test_stacked_digits_are_trained_on(here: Path) -> None:
    networks = {"generator": {"kind": "dcgan", "latent": 4, "width": 4}, "critic": {"kind": "dcgan", "width": 4}}
    said = bigan("train", config(here, data={"real": {"kind": "stacked_digits", "size": 16}}, game={"kind": "gan", **networks}))
    assert (said.status, said.err) == (0, "")
    assert not Path("runs/run/animation.gif").exists()
    with Image.open("runs/run/grids/kimg_00000.032.png") as grid:
        assert grid.mode == "RGB"
    told = bigan("evaluate", "runs/run", "--count", 200)
    assert told.status == 0
    assert "modes of 1000" in told.out
    card = json.loads(Path("runs/run/evaluation.json").read_text())
    assert card["real"]["modes"] > 100 > card["fake"]["modes"]
    assert card["accuracy"] > 0.9
    refused(bigan("evaluate", "runs/run", "--count", 10**9), "--count 1000000000: at most")
    refused(bigan("evaluate", "runs/run", "--data", here), "path: ", "no idx images file")
    refused(bigan("train", "points.yaml", "name=two", "evaluation={every_kimg: 0.1, samples: 50}"), "evaluation.every_kimg")


def test_a_picture_that_cannot_be_written_ends_no_run(here: Path) -> None:
    path = config(here)
    assert bigan("train", path, f"length_kimg={kimg(2)}").status == 0
    for path_in_the_way in ("grids/kimg_00000.032.png", "animation.gif"):
        (Path("runs/run") / path_in_the_way).unlink(missing_ok=True)
        (Path("runs/run") / path_in_the_way).mkdir()
    said = bigan("train", path)
    assert (said.status, said.err) == (0, "")
    assert "kimg_00000.032.png: cannot be written" in said.out
    assert "animation.gif: cannot be written" in said.out


# of images


def test_ways_between_images(run: Path) -> None:
    before = tree(run)
    for out in ("a.png", "a.gif"):
        assert bigan("interpolate", run, f"--out={out}").status == 0
    assert tree(run) == before
    with Image.open("a.png") as strips:
        assert strips.size == (9 * 18 + 2, 8 * 18 + 2)
    assert frames_of(Path("a.gif")) == (80, (4 * 18 + 2, 4 * 18 + 2))
    assert bigan("sample", run, "--out=s.npz", "--count=16").status == 0
    with Image.open("a.png") as strips:
        pixels = np.asarray(strips)
    images = np.load("s.npz")["images"][..., 0].astype(int)
    for way in range(8):
        rows = slice(2 + 18 * way, 18 + 18 * way)
        assert np.abs(pixels[rows, 2:18] - images[way]).max() <= 1
        assert np.abs(pixels[rows, 2 + 8 * 18 : 18 + 8 * 18] - images[8 + way]).max() <= 1
    with Image.open(run / "interpolation" / "kimg_00000.048.png") as ticked:
        assert np.abs(np.asarray(ticked).astype(int) - pixels).max() <= 1
