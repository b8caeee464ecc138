"""`bigan checkpoint …`, `--checkpoint` and `--resume`, as a user gives them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from bigan.distributed import checkpoint
from bigan.images import to_uint8

from .launch import bigan, differing, kimg, refused, refused_and_untouched, saved, tree, write_config

OLD, NEW = "round_00000003", "round_00000006"


def measured(run: Path, **values: float) -> None:
    """As if the checkpoints had been measured while the run went on."""
    for name, value in values.items():
        path = run / "checkpoints" / name
        state = json.loads((path / "state.json").read_text()) | {"metrics": {"frechet": value}}
        (path / "state.json").write_text(json.dumps(state))
        files = {each: checkpoint._seal(path / each) for each in checkpoint.SEALED}
        (path / "manifest.json").write_text(json.dumps({"schema": 1, "files": files}))


def test_a_list_of_checkpoints(run: Path) -> None:
    measured(run, **{OLD: 1.5, NEW: 2.25})
    (run / "checkpoints" / f"{NEW}.x.incomplete").mkdir()
    said = bigan("checkpoint", "ls", run)
    assert (said.status, said.err) == (0, "")
    new, old = [line.split() for line in said.out.splitlines()]
    assert new[:3] == [NEW, "0.048", "kimg"]
    assert new[5:] == ["newest,", "frechet", "2.25"]
    assert old[5:] == ["best,", "frechet", "1.5"]
    (run / "checkpoints" / NEW / "state.json").write_text("")
    assert bigan("checkpoint", "ls", run).out.splitlines()[0].endswith("newest, damaged")
    shutil.rmtree(run / "checkpoints")
    assert bigan("checkpoint", "ls", run).out == f"{run}: holds no checkpoint yet; train it first\n"


def test_what_is_whole_is_said_to_be(run: Path) -> None:
    before = tree(run)
    said = bigan("checkpoint", "verify", run)
    folder = run / "checkpoints"
    assert (said.status, said.out) == (0, f"{folder / NEW}: is whole\n{folder / OLD}: is whole\n")
    assert bigan("checkpoint", "verify", folder / OLD).out == f"{folder / OLD}: is whole\n"
    assert tree(run) == before


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors", "manifest.json"])
def test_what_is_damaged_is_named(run: Path, file: str) -> None:
    (run / "checkpoints" / OLD / file).unlink()
    for path in (run, run / "checkpoints" / OLD):
        said = bigan("checkpoint", "verify", path)
        assert (said.status, said.err) == (1, "")
        assert f"{OLD}: is damaged: {file} " in said.out
    assert f"{NEW}: is whole" in bigan("checkpoint", "verify", run).out


@pytest.mark.parametrize("command", [("ls",), ("verify",), ("export", "out.safetensors")])
def test_what_is_no_run(here: Path, command: tuple[str, ...]) -> None:
    refused(bigan("checkpoint", command[0], "missing", *command[1:]), "missing: is n", "run folder")


def test_the_one_that_is_meant(run: Path) -> None:
    def draw(*which: str) -> np.ndarray:
        assert bigan("sample", run, "--out=a.npz", "--count=3", *which).status == 0
        return np.load("a.npz")["images"]

    old, new = draw("--checkpoint=3"), draw()
    assert not np.array_equal(old, new)
    assert np.array_equal(draw("--checkpoint=6"), new)
    assert np.array_equal(draw(f"--checkpoint={OLD}"), old)
    refused(bigan("sample", run, "--out=a.npz", "--checkpoint=best"), "no checkpoint was measured", "evaluation.every_kimg")
    refused(bigan("sample", run, "--out=a.npz", "--checkpoint=4"), "has no checkpoint 4; it has 6, 3")
    measured(run, **{OLD: 1.5, NEW: 2.25})
    assert np.array_equal(draw("--checkpoint=best"), old)
    refused(bigan("sample", run, "--out=a.npz", "--checkpoint=4"), "has no checkpoint 4; it has best, 6, 3")
    (run / "checkpoints" / OLD / "tensors.safetensors").write_bytes(b"")
    refused(bigan("sample", run, "--out=a.npz", "--checkpoint=best"), OLD, "is damaged: tensors.safetensors has 0 bytes")


def test_an_exported_file_draws_as_the_documentation_says(run: Path) -> None:
    """The block in docs/checkpoints.md draws what `bigan sample` draws; the run itself need not be there."""
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    block = page.split("```python\n")[2].split("```")[0]

    def drawn() -> Tensor:
        scope: dict[str, Tensor] = {}
        exec(compile(block, "docs/checkpoints.md", "exec"), scope)
        return to_uint8(scope["images"][:5]).permute(0, 2, 3, 1)

    def sampled(*options: str) -> Tensor:
        assert bigan("sample", run, "--out=a.npz", "--count=5", *options).status == 0
        return torch.from_numpy(np.load("a.npz")["images"])

    for options in ((), ("--live",), ("--checkpoint=3",)):
        wanted = sampled(*options)
        said = bigan("checkpoint", "export", run, "generator.safetensors", *options)
        assert (said.status, said.out) == (0, "generator.safetensors: generator\n")
        assert (drawn().int() - wanted.int()).abs().max() <= 1, options  # convolutions of 64 and of 5 round differently
    with safe_open("generator.safetensors", "pt") as file:
        about = json.loads(file.metadata()["bigan"])
        names = list(file.keys())
    assert (about["players"], about["weights"], about["clock"]["round"]) == (["generator"], "average", 3)
    assert {name.split(".")[1] for name in names if name.startswith("player.")} == {"generator"}
    shutil.rmtree(run)
    drawn()


def test_an_export_that_cannot_be_written(run: Path) -> None:
    refused_and_untouched(run, ("out.pt: must end in .safetensors",), "checkpoint", "export", run, "out.pt")
    Path("taken.safetensors").mkdir()
    refused(bigan("checkpoint", "export", run, "taken.safetensors"), "taken.safetensors: cannot be written")
    assert [path.name for path in Path().iterdir() if path.name.endswith(".tmp")] == []


def test_a_branch_goes_on_as_the_run_it_left(run: Path) -> None:
    """From a checkpoint of another run, a run plays what that one played; the same command then goes on with its own."""
    first = run / "checkpoints" / OLD
    branch = ("train", "run.yaml", "name=branch", "--resume", first)
    said = bigan(*branch)
    assert (said.status, said.err) == (0, "")
    assert f"begins where {first} ends" in said.out
    assert differing(saved(Path("runs/branch")), saved(run)) == []
    said = bigan(*branch, f"length_kimg={kimg(9)}")
    assert "from 0.048 kimg" in said.out
    assert "begins where" not in said.out
    assert saved(Path("runs/branch")).clock.round == 9


def test_resume_none(run: Path) -> None:
    names = ("--resume none: runs/run/checkpoints holds checkpoints", "set name=")
    refused_and_untouched(run, names, "train", "run.yaml", "--resume=none")
    said = bigan("train", "run.yaml", "name=other", "--resume=none")
    assert said.status == 0
    assert "from 0 kimg" in said.out
    assert differing(saved(Path("runs/other")), saved(run)) == []


@pytest.mark.parametrize("path", ["missing", "run.yaml", "runs"])
def test_resume_from_what_holds_no_checkpoint(run: Path, path: str) -> None:
    names = (f"--resume {path}: is neither a checkpoint nor a run folder",)
    refused_and_untouched(run, names, "train", "run.yaml", "name=new", f"--resume={path}")


def test_resume_from_an_older_one_of_its_own(run: Path) -> None:
    names = (f"has gone on to {NEW}", "set name=")
    refused_and_untouched(run, names, "train", "run.yaml", f"--resume={run / 'checkpoints' / OLD}")


def test_that_the_newest_was_damaged_is_said(run: Path) -> None:
    (run / "checkpoints" / NEW / "state.json").write_text("{}")
    said = bigan("train", "run.yaml")
    assert f"{NEW}: is damaged: state.json has 2 bytes" in said.out
    assert "the one before it is taken" in said.out


def test_what_a_killed_save_left_is_swept(run: Path) -> None:
    left = run / "checkpoints" / "round_00000009.host-1-ab.incomplete"
    shutil.copytree(run / "checkpoints" / NEW, left)
    assert bigan("train", "run.yaml").status == 0
    assert left.is_dir()  # a run that is finished changes nothing
    assert bigan("train", "run.yaml", f"length_kimg={kimg(7)}").status == 0
    assert not left.exists()


def test_a_run_that_is_saved_in_its_midst_ends_as_one_that_is_not(run: Path, digits: Path) -> None:
    """Its saves overlap its rounds."""
    often = write_config(Path("often.yaml"), digits, name="often", checkpoint_kimg=kimg(1))
    assert bigan("train", often).status == 0
    assert differing(saved(Path("runs/often")), saved(run)) == []
