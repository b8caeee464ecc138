"""A run over damaged data: said once, logged, replaced alike on one rank and on two, kept over a stop, ended when too much."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bigan.data.index import ShardIndex
from bigan.data.manifest import Manifest

from ..unit.tars import locate
from .launch import ENVIRONMENT, bigan, differing, kimg, refused, saved, write_config

TWO_RANKS = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "bigan")
BUDGET: dict[str, Any] = {"data__real__bad_samples": 0.1}


@pytest.fixture
def damaged(here: Path, digits: Path) -> Path:
    """Fifty digits, three of which have a flipped bit."""
    data = Path(shutil.copytree(digits, here / "damaged"))
    entry = Manifest.load(data).shards[0]
    index = ShardIndex.load(data, entry)
    with (data / entry.name).open("r+b") as file:
        for rank in (3, 14, 15):
            offset, size, _ = locate(index, rank)["png"]
            file.seek(offset + size // 2)
            byte = file.read(1)[0]
            file.seek(offset + size // 2)
            file.write(bytes([byte ^ 16]))
    return data


def test_the_first_bad_sample_ends_a_run_without_a_budget(here: Path, damaged: Path) -> None:
    config = write_config(here / "run.yaml", damaged, length_kimg=kimg(12))
    refused(
        bigan("train", config), "shard-000000.tar", "its bytes are not those that were packed", "`bad_samples` allows 0 of 50"
    )


def test_within_the_budget_they_are_told_and_logged(here: Path, damaged: Path) -> None:
    config = write_config(here / "run.yaml", damaged, length_kimg=kimg(12), **BUDGET)
    said = bigan("train", config)
    assert said.status == 0, said
    assert said.out.count("data.real: a bad sample, replaced: ") == 3
    events = [json.loads(line) for line in Path("runs/run/events.jsonl").read_text().splitlines()]
    assert events[-1]["data.real/bad"] == 3
    assert len(saved(Path("runs/run")).data["real"]["bad"]) == 3


def test_a_stop_changes_nothing(here: Path, damaged: Path, digits: Path) -> None:
    """Also where the data was mended meanwhile: a sample that was bad stays replaced, or the run would not be the same."""
    for name, lengths in (("straight", (12,)), ("stopped", (9, 12))):
        for rounds in lengths:
            config = write_config(here / "run.yaml", damaged, name=name, length_kimg=kimg(rounds), **BUDGET)
            if name == "stopped" and rounds == 12:
                shutil.copytree(digits, damaged, dirs_exist_ok=True)
            assert bigan("train", config).status == 0
    assert differing(saved(Path("runs/straight")), saved(Path("runs/stopped"))) == []


def test_two_ranks_replace_what_one_replaces(here: Path, damaged: Path) -> None:
    config = write_config(here / "run.yaml", damaged, length_kimg=kimg(12), **BUDGET)
    assert bigan("train", config).status == 0
    ended = subprocess.run(
        [*TWO_RANKS, "train", str(config), "name=two"], env=ENVIRONMENT, capture_output=True, text=True, timeout=200
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    one, two = saved(Path("runs/run")), saved(Path("runs/two"))
    assert sorted(one.data["real"]["bad"]) == sorted(two.data["real"]["bad"])
    assert ended.stdout.count("a bad sample, replaced") == 3  # by rank 0, whichever met it
    apart = {name: float((one.tensors[name].double() - two.tensors[name].double()).abs().max()) for name in one.tensors}
    assert max(value for name, value in apart.items() if ".module." in name and "running" not in name) < 1e-4


def test_shards_without_an_index_are_streamed_and_the_run_says_so(here: Path, digits: Path) -> None:
    data = {"kind": "webdataset", "urls": f"{digits}/shard-000000.tar", "image_shape": [1, 16, 16], "samples": 50}
    config = write_config(here / "run.yaml", digits, data={"real": data}, length_kimg=kimg(12))
    for rounds in (12, 15):
        said = bigan("train", config, f"length_kimg={kimg(rounds)}")
        assert said.status == 0, said
        assert "data.real: streamed without an index: not exact" in said.out
    refused(bigan("train", config, "length_kimg=1", "data.real.samples=49"), "data.real.samples")
    refused(bigan("train", config, "name=x", "data.real.urls=pipe:cat x"), "data.real", "pipe:", "is not opened")
