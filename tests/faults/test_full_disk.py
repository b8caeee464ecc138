"""A disk that is full: the run says so and ends, what stood stands, and where there is room again the run goes on."""

import errno
import json
import os
from pathlib import Path

import pytest

from ..cli.launch import bigan, differing, kimg, saved, write_config
from ..disk import full_disk

HOME = Path("runs/run")


def rounds(home: Path) -> list[int]:
    return [json.loads(line)["round"] for line in (home / "events.jsonl").read_text().splitlines()]


def test_a_full_disk_loses_nothing_that_stood(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits)
    assert bigan("train", config).status == 0
    assert rounds(HOME) == [1, 2, 3, 4, 5, 6]
    log = (HOME / "events.jsonl").stat().st_size
    with full_disk(log * 7 // 6 + 50):  # enough for a line more, and for no checkpoint
        said = bigan("train", config, f"length_kimg={kimg(15)}")
    assert said.status == 2, said
    (line,) = said.err.splitlines()
    assert "tensors.safetensors: cannot be written" in line
    assert said.out.count("events.jsonl: cannot be written") == 1
    assert saved(HOME).clock.round == 6
    assert not list((HOME / "checkpoints").glob("*.incomplete"))
    assert rounds(HOME)[:6] == [1, 2, 3, 4, 5, 6]
    assert bigan("train", config, f"length_kimg={kimg(15)}").status == 0
    assert rounds(HOME) == list(range(1, 16))
    assert bigan("train", config, f"length_kimg={kimg(15)}", "name=whole").status == 0
    assert differing(saved(HOME), saved(Path("runs/whole"))) == []


@pytest.mark.parametrize(("call", "file"), [("write", "events.jsonl"), ("fsync", ""), ("fsync", "STATUS")])
def test_no_space_left(here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch, call: str, file: str) -> None:
    """As a full file system says it: of half of what is written, or only when it is flushed."""
    config = write_config(here / "run.yaml", digits)
    assert bigan("train", config).status == 0
    log, done = (HOME / "events.jsonl").read_text(), getattr(os, call)

    def full(descriptor: int, *content: bytes) -> int:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if not (name.startswith(str(here / HOME)) and file in name):
            return done(descriptor, *content)
        if content:
            done(descriptor, content[0][: len(content[0]) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        said = bigan("train", config, f"length_kimg={kimg(9)}")
    assert "cannot be written (No space left on device" in said.out + said.err
    assert (HOME / "STATUS").read_text().startswith("complete\n")
    assert not list(HOME.rglob("*.incomplete")) + list(HOME.rglob("*.tmp"))
    if file == "events.jsonl":  # half a line would spoil the next one; the run is worth more than its log
        assert (said.status, saved(HOME).clock.round) == (0, 9)
        assert (HOME / "events.jsonl").read_text() == log
    else:
        assert (said.status, saved(HOME).clock.round) == (2, 6)
        assert len(said.err.splitlines()) == 1
    assert bigan("train", config, f"length_kimg={kimg(15)}").status == 0
    assert saved(HOME).clock.round == 15
    assert rounds(HOME)[-6:] == [10, 11, 12, 13, 14, 15]
