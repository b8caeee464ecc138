"""Every config that is shipped plays: narrow networks, three rounds."""

import math
from pathlib import Path

import pytest
import torch

from bigan.build import prepared
from bigan.config import dump, load, parse
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
    narrow = [
        f"game.{name}.width=4" for name, value in dump(whole)["game"].items() if isinstance(value, dict) and "width" in value
    ]
    paths = [f"data.{stream}.path={digits}" for stream in whole.data]
    run = load(path, [*narrow, *paths, "batch=8", f"folder={tmp_path}"])
    assert narrow
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
    images = samples["images"]
    assert images.shape == (5, 1, 32, 32)
    assert images.abs().max() <= 1
    assert images.std() > 0
    assert list(tmp_path.iterdir()) == []
