"""Every config that is shipped plays, resumes and is sampled: narrow networks, a few rounds."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bigan.batch import modelled
from bigan.build import prepared
from bigan.config import Run, dump, load, parse
from bigan.data.derived import Derived, Grey
from bigan.data.pack import pack
from bigan.data.ratings import Ratings
from bigan.data.sources import open_source
from bigan.data.stream import Shards
from bigan.distributed.checkpoint import Checkpoint, save
from bigan.distributed.group import Alone
from bigan.games.irgan import IRGAN
from bigan.games.pix2pix import Pix2Pix
from bigan.play import Meter, play, sample
from bigan.sample import restore

from ..cli.launch import differing, pack_digits
from .tastes import tastes

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
CPU = torch.device("cpu")
MODELS = {"semi", "energy"}
"""Games whose critic is used by itself, so that it has an average as what is sampled has."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("games") / "digits", size=32, limit=40)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(open_source("digits", limit=40), tmp_path_factory.mktemp("coloured") / "digits", size=32, channels=3).folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digit beside the one that follows it, and the sine and cosine of a turn."""
    source = open_source("digits", limit=40)
    partners = [*source.items[1:], source.items[0]]
    items = [
        item._replace(attributes=(0.6, 0.8), more=(other.load,)) for item, other in zip(source.items, partners, strict=True)
    ]
    turned = replace(source, items=items, attributes=("sin", "cos"), more=("source",))
    return pack(turned, tmp_path_factory.mktemp("pairs") / "digits", size=32).folder


@pytest.fixture(scope="module")
def likings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tastes(tmp_path_factory.mktemp("likings"))


@pytest.fixture(scope="module")
def tiny(digits: Path, coloured: Path, pairs: Path, likings: Path) -> Callable[[Path, Path], Run]:
    """From a config and the runs' folder to its run with narrow networks, on a few digits; every move within three rounds."""

    def made(path: Path, folder: Path) -> Run:
        whole = load(path)
        small = [*_smaller("game", dump(whole)["game"])]
        assert small
        place = pairs if isinstance(whole.game, Pix2Pix) else digits
        paths = [f"data.{stream}.path={place}" for stream, data in whole.data.items() if isinstance(data, Shards)]
        derived = {stream: data for stream, data in whole.data.items() if isinstance(data, Derived)}
        paths += [f"data.{s}.of.path={coloured if isinstance(data.map, Grey) else digits}" for s, data in derived.items()]
        rated = [f"data.{stream}" for stream, data in whole.data.items() if isinstance(data, Ratings)]
        paths += [f"{name}.{key}" for name in rated for key in (f"path={likings}", "test=test.txt")]
        if isinstance(whole.game, IRGAN):
            small += ["game.pretrain_kimg=0.008", "game.phase_kimg=[0.008, 0.008]"]
        return load(path, [*small, *paths, "batch=8", f"folder={folder}"])

    return made


def test_there_are_configs() -> None:
    assert len(CONFIGS) >= 2


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_a_config_plays(path: Path, tiny: Callable[[Path, Path], Run], tmp_path: Path) -> None:
    whole = load(path)
    assert parse(dump(whole), path) == whole
    assert len(path.read_text().splitlines()) <= 40
    run = tiny(path, tmp_path)
    meter = Meter()
    with prepared(run, Alone(), CPU) as setup:
        judges = set() if dump(whole)["game"]["kind"] in MODELS else {"critic", "critics", "discriminator"}
        assert setup.table.game.averaged == setup.players.keys() - judges
        before = {name: {n: p.clone() for n, p in player.module.named_parameters()} for name, player in setup.players.items()}
        clock = setup.clock
        for _ in range(3):
            clock = play(setup.table, clock, meter)
        means = meter.means(Alone())
        assert {move.name for move in setup.table.game.moves} == {name.split("/")[0] for name in means}
        assert all(math.isfinite(value) for value in means.values()), means
        for name, player in setup.players.items():
            now = dict(player.module.named_parameters())
            assert all(p.isfinite().all() for p in now.values())
            still = [n for n, p in now.items() if torch.equal(p, before[name][n])]
            assert all(n.endswith("bias") for n in still), still  # a Wasserstein critic's last one has no gradient
            assert len(still) <= len([*player.module.children()] if isinstance(player.module, nn.ModuleDict) else [player])
        samples = sample(setup.table.game, setup.table.averages, clock, 5, device=CPU)
    if isinstance(whole.game, IRGAN):
        assert samples["items"].shape == (5,)
        return
    name, shape = modelled({stream: opened.spec for stream, opened in setup.streams.items()}, next(iter(whole.data)))
    assert samples[name].shape == (5, *shape)
    assert samples[name].std() > 0
    if name == "images":
        assert samples[name].abs().max() <= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_a_config_goes_on_where_it_stopped(path: Path, tiny: Callable[[Path, Path], Run], tmp_path: Path) -> None:
    """A round, a checkpoint and, by a process that knows nothing else, another round; then samples of what it left."""
    run = tiny(path, tmp_path)

    def played() -> Checkpoint:
        with prepared(run, Alone(), CPU) as setup:
            whole = setup.checkpoint(play(setup.table, setup.clock, Meter()))
            setup.folder.home.mkdir(exist_ok=True)
            setup.folder.config.touch()
            save(setup.folder.checkpoints, whole, keep=9)
            if whole.clock.round == 1:
                through.append(setup.checkpoint(play(setup.table, whole.clock, Meter())))
            return whole

    through: list[Checkpoint] = []
    played()
    resumed = played()
    assert resumed.clock == through[0].clock
    assert differing(resumed, through[0]) == []
    restored = restore(run.home)
    samples = restored.look.samples(2)
    again = restore(run.home).look.samples(2)
    assert all(torch.equal(again[name], value) for name, value in samples.items())


def _smaller(key: str, settings: dict[str, Any]) -> Iterator[str]:
    """Assignments that make every network below a key narrow."""
    for name, value in (("width", 4), ("minibatch.group", 4)):
        if _has(settings, name):
            yield f"{key}.{name}={value}"
    for name, inner in settings.items():
        if isinstance(inner, dict):
            yield from _smaller(f"{key}.{name}", inner)


def _has(value: Any, key: str) -> bool:
    """Whether there is a value at a dotted key."""
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value is not None
