"""Two ranks play what one plays, at the same global batch: weights, buffers, averages, gradients, what is logged."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bigan.distributed.checkpoint import Checkpoint
from bigan.distributed.group import Alone

from ..cli.launch import bigan, differing, kimg, saved, tree, write_config
from .cases import BEGUN, CASES, ROUNDS, settings
from .conftest import TORCHRUN, Played, launch
from .worker import run_to

BOUND = 1e-6
"""On tensors of size 1 after 20 rounds in float32, whose unit in the last place is 1.2e-7: sums in another order."""

KINDS = {
    ".optimizer.": "moments",
    ".average.": "averages",
    "state.": "state",
    "running_": "buffers",
    "num_batches": "buffers",
}
"""What a part of a tensor's name says that it is."""


def folder(name: str) -> str:
    return name.replace(", ", " ")


def distances(one: Checkpoint, other: Checkpoint) -> dict[str, float]:
    """The largest difference of parameters, buffers and averages, and of moments and the game's state, which add up what they
    are given, and are relative where they are above 1."""
    assert one.tensors.keys() == other.tensors.keys()
    assert all(tensor.isfinite().all() for tensor in one.tensors.values()), "NaN is equal to nothing, and differs by nothing"
    found = dict.fromkeys(("parameters", *KINDS.values()), 0.0)
    for name, tensor in one.tensors.items():
        kind = next((kind for mark, kind in KINDS.items() if mark in name), "parameters")
        scale = max(1.0, float(tensor.abs().max())) if kind in ("moments", "state") else 1.0
        found[kind] = max(found[kind], float((tensor.double() - other.tensors[name].double()).abs().max()) / scale)
    return found


def told_apart(one: dict[str, float], other: dict[str, float]) -> float:
    """The largest difference of means, relative where they are above 1."""
    assert one.keys() == other.keys()
    return max(abs(value - other[name]) / max(1.0, abs(value)) for name, value in one.items())


def moved(played: Played, name: str, whole: Checkpoint) -> float:
    """How far the weights went; a test of weights that stand still would prove nothing."""
    begin = played.one / "begin"
    run_to(settings(begin, played.digits, name, 1), 0, Alone())
    first = saved(begin / folder(name))
    return max(
        float((tensor - whole.tensors[key]).abs().max())
        for key, tensor in first.tensors.items()
        if ".module." in key and "running" not in key and tensor.is_floating_point()
    )


@pytest.mark.parametrize("name", [name for name in CASES if name not in BEGUN])
def test_two_ranks_end_where_one_ends(played: Played, name: str) -> None:
    one, two = saved(played.one / folder(name)), saved(played.two / folder(name))
    assert one.clock == two.clock
    assert one.clock.round == ROUNDS
    found = distances(one, two)
    losses = told_apart(played.told["one"][name], played.told["two"][name])
    went = moved(played, name, one)
    print(f"{name}: {', '.join(f'{kind} {value:.1e}' for kind, value in found.items())}; logged {losses:.1e}; went {went:.1e}")
    assert went > 0.02
    assert max(found.values()) <= BOUND
    assert losses <= BOUND
    assert played.told["two"][name]["apart"] == 0.0


@pytest.mark.parametrize("stage", [0, 1])
def test_two_ranks_have_one_ranks_gradients(played: Played, stage: int) -> None:
    begin = played.one / "first"
    name = f"gradient {stage}"
    run_to(
        settings(begin, played.digits, name, 1, game=_config(played.one / name)["game"], optimizer={"kind": "sgd", "lr": 1.0}),
        0,
        Alone(),
    )
    first, one, two = (saved(place / name) for place in (begin, played.one, played.two))

    def gradient(after: Checkpoint) -> dict[str, Tensor]:
        return {
            key: first.tensors[key] - tensor
            for key, tensor in after.tensors.items()
            if ".module." in key and "running" not in key and tensor.is_floating_point()
        }

    mine, theirs = gradient(one), gradient(two)
    for player in ("critic", "generator"):
        keys = [key for key in mine if key.startswith(f"player.{player}.")]
        norm = float(torch.cat([mine[key].flatten() for key in keys]).norm())
        apart = max(float((mine[key] - theirs[key]).abs().max()) for key in keys)
        print(f"gradients, ZeRO {stage}, {player}: {apart:.1e} apart, norm {norm:.3g}")
        assert norm > 1.2, "DeepSpeed's clipping at 1 would not be seen"
        assert apart <= BOUND * max(1.0, norm)


def _config(home: Path) -> dict[str, object]:
    return json.loads((home / "checkpoints" / "round_00000001" / "state.json").read_text())["config"]


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("rank", ["one", "two", "second"])
def test_a_frozen_player_leaves_no_trace_on_any_rank(played: Played, rank: str, stage: int) -> None:
    found = played.told[rank]["frozen"][stage]
    assert found["mover moved"] != []
    assert found["mover's batches"] == 2
    assert found["frozen at the end"] == []
    assert not found["other asked for gradients"]
    assert not found["other got gradients"]
    assert found["other moved"] == []


@pytest.mark.parametrize("ranks", ["one", "two"])
@pytest.mark.parametrize("stage", [0, 1])
def test_as_many_ranks_resume_to_the_last_bit(played: Played, ranks: str, stage: int) -> None:
    place = played.one if ranks == "one" else played.two
    through, halved = saved(place / f"through {stage}"), saved(place / f"halved {stage}")
    assert sorted(path.name for path in (place / f"halved {stage}" / "checkpoints").iterdir()) == [
        "round_00000010", "round_00000020",
    ]  # fmt: skip
    assert sum(name.endswith("/exp_avg_sq") for name in through.tensors) > 4
    assert through.clock == halved.clock
    assert differing(through, halved) == []


@pytest.mark.parametrize("name", BEGUN)
def test_other_ranks_go_on(played: Played, name: str, tmp_path: Path) -> None:
    """Ten rounds on two ranks and ten on one, and the other way about, against twenty on one."""
    game, optimizer, _, _ = CASES[name]
    whole = settings(tmp_path, played.digits, "whole", 1, game=game, optimizer=optimizer)
    run_to(whole, ROUNDS, Alone())
    shutil.copytree(played.two / folder(name), tmp_path / folder(name))
    run_to(settings(tmp_path, played.digits, name, 1), ROUNDS, Alone())
    reference = saved(whole.home)
    for way, place in (("2 → 1", tmp_path / folder(name)), ("1 → 2", played.two / folder(f"{name} elsewhere"))):
        resumed = saved(place)
        assert resumed.clock == reference.clock
        found = distances(reference, resumed)
        print(f"{way}, {name}: {', '.join(f'{kind} {value:.1e}' for kind, value in found.items())}")
        assert max(found.values()) <= BOUND


def test_one_rank_needs_no_deepspeed(played: Played) -> None:
    assert played.told["one"]["ranks"] == 1
    assert not played.told["one"]["deepspeed"]
    assert played.told["two"]["ranks"] == 2
    assert played.told["two"]["deepspeed"]


def test_the_command_under_torchrun(tmp_path: Path, digits: Path) -> None:
    """`torchrun -m bigan train` ends and logs as `bigan train` does, says each line once, and refuses what cannot be."""
    sgd = {"kind": "sgd", "lr": 0.02}
    config = write_config(tmp_path / "run.yaml", digits, folder=str(tmp_path / "runs"), optimizer=sgd, length_kimg=kimg(8))
    ended = launch([*TORCHRUN, "-m", "bigan", "train", config, "name=two"])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("finished; samples") == 1
    assert "2 rank(s)" in ended.stdout
    assert bigan("train", config, "name=one").status == 0
    one, two = tmp_path / "runs" / "one", tmp_path / "runs" / "two"
    assert tree(one).keys() | {"deepspeed.json"} == tree(two).keys()
    assert max(distances(saved(one), saved(two)).values()) <= BOUND
    lines = [[json.loads(line) for line in (home / "events.jsonl").read_text().splitlines()] for home in (one, two)]
    assert len(lines[0]) == len(lines[1]) == 8
    for mine, theirs in zip(*lines, strict=True):
        for measured in ("images/s", "s/kimg", "loader_wait"):
            assert mine.pop(measured) >= 0
            assert theirs.pop(measured) >= 0
        assert told_apart(mine, theirs) <= 2 * BOUND  # the log rounds to 6 places
    before = tree(tmp_path)
    refused = launch([*TORCHRUN, "-m", "bigan", "train", config, "name=two", f"length_kimg={kimg(9)}", "batch=9"])
    assert refused.returncode != 0
    assert refused.stderr.count("bigan: batch: 9 is not divisible by 2 ranks") == 1
    assert tree(tmp_path) == before
