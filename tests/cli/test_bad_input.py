"""What the user can mend is one line that names the key or the path, exit status 2, and nothing half-written."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigan.distributed.group import Alone

from .launch import BIGAN, ENVIRONMENT, Said, bigan, kimg, pack_digits, tree, write_config


def refused(said: Said, *names: str) -> None:
    """One line that names what is wrong."""
    assert said.status == 2, said
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("bigan: ")
    assert "Traceback" not in said.err + said.out
    for name in names:
        assert name in lines[0]


def refused_and_untouched(place: Path, names: tuple[str, ...], *arguments: object) -> None:
    """As `refused`, and every file is what it was."""
    before = tree(place)
    refused(bigan(*arguments), *names)
    assert tree(place) == before


# --- the config -------------------------------------------------------------------------------------------------------

CHANGES = [
    ({"lenght_kimg": 1}, "lenght_kimg: is no key"),
    ({"game__critic__widht": 4}, "game.gan.critic.widht: is no key"),
    ({"data__real__shuffle": True}, "data.real.shuffle: is no key"),
    ({"game__penalties__0__wieght": 1}, "wieght: is no key"),
    ({"batch": "many"}, "batch: "),
    ({"batch": 0}, "batch: "),
    ({"length_kimg": -1}, "length_kimg: "),
    ({"length_kimg": float("inf")}, "length_kimg: "),
    ({"seed": 1.5}, "seed: "),
    ({"game__generator__width": [4]}, "generator.width: "),
    ({"optimizer__kind": "adamw"}, "optimizer: "),
    ({"game__kind": "stylegan"}, "game: "),
    ({"name": "a/b"}, "name: 'a/b'"),
    ({"data__real__path": "nowhere"}, "nowhere: no such folder"),
    ({"data__real__workers": 0}, "data.real: workers"),
    ({"data": {}}, "data.real: is missing"),
    ({"optimizers": {"painter": {"kind": "sgd"}}}, "optimizers.painter: is no player"),
    ({"game__critic__norm": "batch"}, "penalties: a gradient penalty needs"),
    ({"micro_batch": 3}, "micro_batch: 3 does not divide"),
    ({"micro_batch": 4}, "micro_batch: 4 of 8 would split"),
    ({"game__kind": "mine.py:Mine"}, "there is no file mine.py"),
]


@pytest.mark.parametrize(("changes", "names"), CHANGES, ids=[names for _, names in CHANGES])
def test_a_config_is_refused_by_its_key(here: Path, digits: Path, changes: dict[str, Any], names: str) -> None:
    config = write_config(here / "run.yaml", digits, **changes)
    refused_and_untouched(here, (names,), "train", config)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (None, "No such file"),
        ("- a\n- b\n", "a config is a mapping"),
        ("", "a config is a mapping"),
        ("a: [1\nb: 2\n", "is no YAML"),
        ("name: x\n", "game: is missing"),
        ("name: x\ngame: gan\nlength_kimg: 1\n", "data: is missing"),
        (b"name: \xff\xfe\n", "cannot be read as a config"),
    ],
    ids=["missing", "a list", "empty", "no YAML", "no game", "no data", "no text"],
)
def test_a_file_that_is_no_config(here: Path, content: str | bytes | None, names: str) -> None:
    if content is not None:
        (here / "run.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    refused_and_untouched(here, ("run.yaml", names), "train", "run.yaml")


@pytest.mark.parametrize(
    ("assignment", "names"),
    [
        ("batch", "'batch': write key=value"),
        ("=4", "write key=value"),
        ("batch=[1", "batch: '[1' is no YAML"),
        ("game.penalties.7.weight=1", "game.penalties.7.weight: '7' is no place"),
        ("batch.size=1", "batch.size: what stands before .size"),
        ("batch=", "batch: "),
    ],
)
def test_a_malformed_assignment(here: Path, digits: Path, assignment: str, names: str) -> None:
    config = write_config(here / "run.yaml", digits)
    refused_and_untouched(here, (names,), "train", config, assignment)


def test_a_batch_that_the_ranks_cannot_divide(here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Three(Alone):
        size = 3

    @contextmanager
    def joined(device: object) -> Iterator[Alone]:
        yield Three()

    monkeypatch.setattr("bigan.train.joined", joined)
    config = write_config(here / "run.yaml", digits)
    refused_and_untouched(here, ("batch: 8 is not divisible by 3 ranks",), "train", config)


# --- the data ---------------------------------------------------------------------------------------------------------


def test_data_without_a_manifest(here: Path, digits: Path) -> None:
    (here / "data").mkdir()
    config = write_config(here / "run.yaml", digits, data__real__path="data")
    refused_and_untouched(here, ("data: has no manifest.json",), "train", config)


def test_data_whose_shard_is_missing_or_cut(here: Path, digits: Path) -> None:
    data = Path(shutil.copytree(digits, here / "data"))
    config = write_config(here / "run.yaml", data)
    shard = data / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    refused_and_untouched(here, (str(shard), "bytes"), "train", config)
    shard.unlink()
    refused_and_untouched(here, (str(shard), "missing"), "train", config)


def test_data_of_a_size_that_the_network_cannot_make(here: Path) -> None:
    config = write_config(here / "run.yaml", pack_digits(here / "data", size=30))
    refused_and_untouched(here, ("30x30", "--size"), "train", config)


def test_data_under_another_name_than_the_game_reads(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits, data={"photos": {"path": str(digits)}})
    refused_and_untouched(here, ("data.real: is missing",), "train", config)


@pytest.mark.parametrize("content", [(), ("notes.txt", "table.csv"), ("broken.png",)], ids=["empty", "no images", "broken"])
def test_a_source_without_images(here: Path, content: tuple[str, ...]) -> None:
    source = here / "source"
    source.mkdir()
    for name in content:
        (source / name).write_text("no image")
    refused_and_untouched(here, ("source",), "pack", source, "out", "--size", 16)


def test_a_file_that_is_no_image_is_skipped_and_listed(here: Path) -> None:
    for name in "ab":
        (here / "source" / name).mkdir(parents=True)
        Image.fromarray(np.full((20, 20), 7, np.uint8)).save(here / "source" / name / "1.png")
    (here / "source" / "a" / "2.png").write_text("no image")
    said = bigan("pack", "source", "out", "--size", 16)
    assert said.status == 0
    assert "2 images [1, 16, 16] of 2 classes in 1 shards; 1 unreadable" in said.out
    assert "skipped a/2.png" in said.err
    assert "a/2.png" in (here / "out" / "skipped.txt").read_text()


@pytest.mark.parametrize("size", ["0", "-4", "16x", "x16", "16x16x16", "big", "1.5", "99999"])
def test_a_size_that_is_none(here: Path, size: str) -> None:
    refused_and_untouched(here, (size, "size"), "pack", "digits", "out", f"--size={size}")


def test_a_source_that_is_none(here: Path) -> None:
    refused_and_untouched(here, ("nowhere: no such folder",), "pack", "nowhere", "out")


def test_packing_never_replaces_what_it_did_not_make(here: Path, digits: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "thesis.tex").write_text("mine")
    pack_it = ("pack", "digits", "out", "--size=16", "--limit=20")
    refused_and_untouched(here, ("out", "thesis.tex"), *pack_it)
    refused_and_untouched(here, ("out", "thesis.tex"), *pack_it, "--overwrite")
    shutil.rmtree(here / "out")
    shutil.copytree(digits, here / "out")
    refused_and_untouched(here, ("out", "other settings"), *pack_it)
    shutil.rmtree(here / "out")
    (here / "out").write_text("a file")
    refused_and_untouched(here, ("out",), *pack_it)


# --- the run folder ---------------------------------------------------------------------------------------------------


def test_a_file_where_the_run_folder_belongs(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits)
    (here / "runs").write_text("a file")
    refused_and_untouched(here, ("runs: a file stands",), "train", config)
    (here / "runs").unlink()
    (here / "runs").mkdir()
    (here / "runs" / "run").write_text("a file")
    refused_and_untouched(here, ("runs/run: a file stands",), "train", config)


def test_a_folder_of_something_else(here: Path, digits: Path) -> None:
    (here / "runs" / "run").mkdir(parents=True)
    (here / "runs" / "run" / "thesis.tex").write_text("mine")
    refused_and_untouched(here, ("runs/run: is no run folder",), "train", write_config(here / "run.yaml", digits))


def test_a_run_folder_that_cannot_be_made(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits, folder="/proc")  # not even root may write there
    refused_and_untouched(here, ("/proc/run: cannot be written",), "train", config)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_folder_that_is_closed(here: Path, digits: Path) -> None:
    (here / "runs").mkdir(mode=0o500)
    refused_and_untouched(here, ("runs/run: cannot be written",), "train", write_config(here / "run.yaml", digits))


def test_a_checkpoint_that_cannot_be_written(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("a file")
    refused(bigan("train", "run.yaml", f"length_kimg={kimg(9)}"), "runs/run")


RESUMES = [
    ("game.generator.width=8", "game.generator.width (4 → 8)"),
    ("batch=16", "batch (8 → 16)"),
    ("seed=1", "seed (0 → 1)"),
    ("optimizer.lr=0.1", "optimizer.lr"),
    ("game.penalties=[]", "game.penalties"),
    ("data.real.flip=true", "data.real.flip (False → True)"),
]


@pytest.mark.parametrize(("assignment", "names"), RESUMES, ids=[a for a, _ in RESUMES])
def test_a_run_of_another_config(run: Path, assignment: str, names: str) -> None:
    refused_and_untouched(Path.cwd(), ("runs/run: was begun with another config", names), "train", "run.yaml", assignment)


def _renamed_classes(data: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["classes"][0] = "nought"
    (data / "manifest.json").write_text(json.dumps(manifest))


def _fewer(data: Path) -> None:
    shutil.rmtree(data)
    pack_digits(data, limit=40)


@pytest.mark.parametrize("change", [_renamed_classes, _fewer])
def test_other_data_than_the_run_was_begun_with(run: Path, digits: Path, change: Callable[[Path], None]) -> None:
    """Whatever the manifest says is held by its digest: the samples, their sizes, the names of the classes."""
    data = Path(shutil.copytree(digits, Path.cwd() / "data"))
    change(data)
    arguments = ("train", "run.yaml", f"length_kimg={kimg(9)}", "data.real.path=data")
    refused_and_untouched(Path.cwd(), ("data.real: data is not the data that runs/run was begun with",), *arguments)


def test_streams_may_not_be_added(run: Path, digits: Path) -> None:
    arguments = ("train", "run.yaml", f"length_kimg={kimg(9)}", f"data.more={{path: {digits}}}")
    refused_and_untouched(Path.cwd(), ("data.more",), *arguments)


def test_a_run_whose_checkpoints_are_all_damaged(run: Path) -> None:
    for number, place in enumerate(sorted((run / "checkpoints").iterdir())):
        tensors = place / "tensors.safetensors"
        content = bytearray(tensors.read_bytes())
        content[len(content) // 2] ^= 1  # one bit
        tensors.write_bytes(content if number else content[:-1])
    for arguments in (("train", "run.yaml"), ("sample", run, "--out=a.png")):
        refused_and_untouched(Path.cwd(), ("runs/run/checkpoints: all 2 checkpoints are damaged",), *arguments)


# --- sampling ---------------------------------------------------------------------------------------------------------


def test_samples_of_what_is_no_run(here: Path) -> None:
    (here / "empty").mkdir()
    for folder in ("nowhere", "empty"):
        refused_and_untouched(here, (f"{folder}: is no run folder",), "sample", folder, "--out=a.png")


def test_samples_of_a_run_that_was_never_saved(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    refused_and_untouched(Path.cwd(), ("runs/run: holds no checkpoint",), "sample", run, "--out=a.png")


@pytest.mark.parametrize("count", ["0", "-3"])
def test_no_samples(run: Path, count: str) -> None:
    refused_and_untouched(Path.cwd(), (f"--count {count}",), "sample", run, "--out=a.png", f"--count={count}")


@pytest.mark.parametrize("out", ["run.yaml/a.png", "run.yaml/a.npz", "run.yaml", "run.yaml/folder", "/proc/a.png"])
def test_samples_into_a_place_that_cannot_be_written(run: Path, out: str) -> None:
    refused_and_untouched(Path.cwd(), (f"{out}: cannot be written",), "sample", run, f"--out={out}", "--count=2")


# --- a user's own game ------------------------------------------------------------------------------------------------

FILES = [
    ("def (:", "mine.py"),
    ("import nothing_of_that_name", "nothing_of_that_name"),
    ("raise RuntimeError('oh')", "mine.py"),
    ("x = 1 / 0", "mine.py"),
    ("class Other: pass", "a frozen dataclass Mine"),
    ("Mine = 3", "a frozen dataclass Mine"),
    ("class Mine: pass", "a frozen dataclass Mine"),
    ("from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    a: int = 1", "a method build"),
]


@pytest.mark.parametrize(("text", "names"), FILES, ids=[text[:20] for text, _ in FILES])
def test_a_game_file_that_is_broken(here: Path, digits: Path, text: str, names: str) -> None:
    (here / "mine.py").write_text(text)
    config = write_config(here / "run.yaml", digits, game__kind="mine.py:Mine")
    refused_and_untouched(here, ("game: ", names), "train", config)


# --- as a process -----------------------------------------------------------------------------------------------------


def test_a_process_ends_with_status_2(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits, game__critic__widht=4)
    before = tree(here)
    for arguments, names in (
        (["train", str(config)], "game.gan.critic.widht: is no key"),
        (["pack", "nowhere", "out"], "nowhere: no such folder"),
    ):
        ended = subprocess.run([*BIGAN, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        refused(Said(ended.returncode, ended.stdout, ended.stderr), names)
    assert tree(here) == before
