"""Data, run folders and places for samples that cannot be: one line that names the path, and nothing half-written."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .launch import bigan, kimg, pack_digits, refused, refused_and_untouched, write_config

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
    assert "2 images [1, 16, 16] of 2 classes in 1 shards; 1 skipped" in said.out
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
    ("optimizer.lr=0.1", "optimizer.lr (0.02 → 0.1)"),
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


@pytest.mark.parametrize("out", ["run.yaml/a.png", "run.yaml/a.npz", "run.yaml/folder", "/proc/a.png"])
def test_samples_into_a_place_that_cannot_be_written(run: Path, out: str) -> None:
    refused_and_untouched(Path.cwd(), (f"{out}: cannot be written",), "sample", run, f"--out={out}", "--count=2")


@pytest.mark.parametrize("out", ["a.jpg", "run.yaml"])
def test_samples_of_a_kind_that_is_not_written(run: Path, out: str) -> None:
    refused_and_untouched(Path.cwd(), (f"--out {out}: ends in .png",), "sample", run, f"--out={out}", "--count=2")
