"""Every config that is shipped plays: narrow networks, three rounds."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bigan.batch import modelled
from bigan.build import prepared
from bigan.config import dump, load, parse
from bigan.data.stream import Shards
from bigan.distributed.group import Alone
from bigan.play import Meter, play, sample

from ..cli.launch import pack_digits

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("games") / "digits", size=32, limit=40)


def test_there_are_configs() -> None:
    assert len(CONFIGS) >= 2


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_a_config_plays(path: Path, digits: Path, tmp_path: Path) -> None:
    whole = load(path)
    assert parse(dump(whole), path) == whole
    assert len(path.read_text().splitlines()) <= 40
    small = [*_smaller("game", dump(whole)["game"])]
    paths = [f"data.{stream}.path={digits}" for stream, data in whole.data.items() if isinstance(data, Shards)]
    run = load(path, [*small, *paths, "batch=8", f"folder={tmp_path}"])
    assert small
    meter = Meter()
    with prepared(run, Alone(), CPU) as setup:
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
            assert len(still) <= 1
        samples = sample(setup.table.game, setup.table.averages, clock, 5, device=CPU)
    name, shape = modelled({stream: opened.spec for stream, opened in setup.streams.items()}, next(iter(whole.data)))
    assert samples[name].shape == (5, *shape)
    assert samples[name].std() > 0
    if name == "images":
        assert samples[name].abs().max() <= 1
    assert list(tmp_path.iterdir()) == []


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
