"""What the scripts refuse before anything is trained, without Slurm; and the config that they train unless told otherwise."""

import os
import subprocess
from pathlib import Path

import pytest

from bigan.batch import DataSpec
from bigan.config import load

from ..unit.packed import ROOT

TRAIN, SWEEP, EVALUATE = (f"slurm/{name}.sh" for name in ("train_celeba_hq", "sweep", "evaluate"))


def said(script: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """A script in a job of one node, as far as its environment says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")} | variables
    ended = subprocess.run([script, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("script", [TRAIN, SWEEP, EVALUATE])
def test_a_script_outside_a_job_tells_its_usage(script: str) -> None:
    status, error = said(script)
    assert status == 2
    assert error.startswith("usage: ")
    assert f" {script} " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        (("name=other",), {}, "name=other: set NAME or RUNS"),
        (("folder=/elsewhere",), {}, "folder=/elsewhere: set NAME or RUNS"),
        (("configs/digits.yaml",), {}, "the config is named by CONFIG"),
        (("--fast",), {}, "--fast: arguments are assignments"),
        (("seed=1", "--resume"), {}, "--resume: auto, none or a path must follow"),
        (("--resume", "--fast"), {}, "--resume: auto, none or a path must follow"),
        (("--resume", "none"), {"CONFIG": "none.yaml"}, "none.yaml: is no file"),
        (("--resume=runs/other", "seed=1"), {"CONFIG": "none.yaml"}, "none.yaml: is no file"),
        ((), {"CONFIG": "none.yaml"}, "none.yaml: is no file"),
        ((), {"DATA": "/nowhere"}, "/nowhere: holds no packed shards"),
    ],
)
def test_what_cannot_be_trained_is_told(arguments: tuple[str, ...], variables: dict[str, str], named: str) -> None:
    status, error = said(TRAIN, *arguments, SLURM_JOB_ID="7", **variables)
    assert status == 2
    assert named in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("task", ["0", "3"])
def test_a_sweep_has_no_task_without_a_line(tmp_path: Path, task: str) -> None:
    lines = tmp_path / "lines"
    lines.write_text("seed=1\nseed=2")
    status, error = said(SWEEP, SLURM_ARRAY_TASK_ID=task, SWEEP=str(lines))
    assert (status, error) == (2, f"sweep.sh: {lines}: has no line {task}; lines count from 1, as --array=1-2 does\n")


def test_the_config_for_celeba_hq_builds_its_networks() -> None:
    """For images of 256 px in colour."""
    run = load(ROOT / "configs" / "celeba_hq.yaml")
    game = run.game.build({"real": DataSpec(samples=30_000, image_shape=(3, 256, 256))})
    assert set(game.players) == {"generator", "critic"}
    assert run.precision == "bf16"
