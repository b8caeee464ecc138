"""`bigan pack`: every option reaches the packing, in one line each where it cannot."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from ..unit.packed import ROOT, checked
from ..unit.pictures import contents, folder_of, raw_samples
from .launch import BIGAN, ENVIRONMENT, bigan, refused, refused_and_untouched


@pytest.fixture
def images(here: Path) -> Path:
    return folder_of(here / "images", *(f"{'ab'[n % 2]}/{n}.png" for n in range(6)), mode="RGB")


def test_parts_then_the_rest(here: Path, images: Path) -> None:
    options = ("--size", "4x6", "--rgb", "--samples-per-shard", 2, "--format", "jpg", "--quality", 80, "--keep-order")
    said = bigan("pack", images, "out", *options, "--part", "1/2")
    assert said.status == 0
    assert said.out == (
        "out: 1 of 3 shards are there, among them all of part 1/2; the last part to end puts the data set there, or the "
        "same command without --part\n"
    )
    assert not (here / "out").exists()
    said = bigan("pack", images, "out", *options, "--workers", 2)
    assert (said.status, said.out) == (0, "out: packed: 6 images [3, 4, 6] of 2 classes in 3 shards; 0 skipped\n")
    checked(here / "out")
    samples = raw_samples(here / "out")
    assert [(sample["__key__"], sample["cls"]) for sample in samples] == [
        (f"{n:08d}", b"01"[n // 3 : n // 3 + 1]) for n in range(6)
    ]
    assert all(sample["jpg"][:2] == b"\xff\xd8" for sample in samples)
    assert not json.loads((here / "out" / "manifest.json").read_bytes())["shuffled"]
    assert "is up to date" in bigan("pack", images, "out", *options, "--part", "1/2").out


def test_workers_of_the_installed_command(here: Path, images: Path) -> None:
    """In a process of its own: what a worker imports anew is the command itself."""
    command = [*BIGAN, "pack", "images", "out", "--size=4", "--samples-per-shard=1", "--workers=2"]
    ended = subprocess.run(command, env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bigan("pack", images, "alone", "--size=4", "--samples-per-shard=1", "--workers=1").status == 0
    assert contents(here / "out") == contents(here / "alone")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--part", "1"), "--part 1: give I/N"),
        (("--part", "a/b"), "--part a/b: give I/N"),
        (("--part", "2/2", "--rgb"), "part: 2/2"),
        (("--part", "0/2"), "part: needs --grey or --rgb"),
        (("--part", "0/2", "--rgb", "--overwrite"), "part: cannot overwrite"),
        (("--format", "tiff"), "format: tiff; give one of png, jpg, webp"),
        (("--quality", "90"), "quality: 90; a png loses nothing"),
        (("--format", "jpg", "--quality", "101"), "quality: 101; give 1 to 100"),
        (("--workers", "0"), "workers: 0; at least 1"),
    ],
)
def test_options_that_do_not_go(here: Path, images: Path, options: tuple[str, ...], named: str) -> None:
    refused_and_untouched(here, (named,), "pack", images, "out", "--size", 4, *options)


def test_a_packed_set_is_checked_and_described(here: Path, digits: Path) -> None:
    said = bigan("pack", digits, "--check")
    assert (said.status, said.out) == (0, f"{digits}: 50 samples in 1 shards read: all is well\n")
    assert "class 3: " in bigan("pack", digits, "--stats").out
    damaged = Path(shutil.copytree(digits, here / "damaged"))
    with (damaged / "shard-000000.tar").open("r+b") as file:
        file.seek(700)
        file.write(b"!!")
    said = bigan("pack", damaged, "--check", "--workers", "1")
    assert said.status == 1
    assert "sha256: damaged/shard-000000.tar" in said.out.replace(f"{here}/", "")
    assert "changed: " in said.out
    refused(bigan("pack", damaged, "out", "--check"), "leave OUT away")
    refused(bigan("pack", damaged, "--check", "--workers", "0"), "workers: 0")
    refused(bigan("pack", "http://localhost/x", "--check"), "--check reads a folder")
    refused(bigan("pack", digits), "OUT: is missing")
    refused(bigan("pack", digits, "out", "--size", "²"), "--size ²")


def test_shards_of_others_are_indexed_and_trained_on(here: Path, digits: Path) -> None:
    (here / "theirs").mkdir()
    shutil.copy(digits / "shard-000000.tar", here / "theirs" / "train-0.tar")
    said = bigan("index", "theirs")
    assert (said.status, said.out) == (0, "theirs: indexed: 50 samples in 1 shards\n")
    refused(bigan("index", "theirs"), "has a manifest.json already")
    assert bigan("pack", "theirs", "--check").status == 0


def test_a_pipe_among_the_images_is_skipped(here: Path) -> None:
    """To open it would be to wait for ever."""
    (here / "images").mkdir()
    os.mkfifo(here / "images" / "a.png")
    Image.new("L", (4, 4)).save(here / "images" / "b.png")
    said = bigan("pack", "images", "out", "--size", "4", "--workers", "1")
    assert said.status == 0, said
    assert "skipped a.png: is no regular file" in said.err
