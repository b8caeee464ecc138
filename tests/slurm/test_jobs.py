"""The other scripts on a real cluster: packing by an array, then a sweep, then what measures it."""

import os
import sys
from pathlib import Path

import pytest

from ..cli.launch import saved
from ..unit.packed import ROOT, checked
from ..unit.pictures import folder_of
from .cluster import Cluster, wait_until
from .training import OVER, Whole

HERE = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def complete(cluster: Cluster, number: str, log: Path) -> None:
    """Wait for a job, which must succeed."""
    wait_until(lambda: cluster.job(number).state in OVER, f"job {number} does not end: {cluster.job(number)}")
    assert cluster.job(number).state == "COMPLETED", f"{cluster.job(number)}\n{log.read_text()}"


@pytest.mark.soak
def test_an_array_packs_and_a_second_job_waits_for_it(cluster: Cluster, tmp_path: Path) -> None:
    folder_of(tmp_path / "set", *(f"{n}.png" for n in range(9)))
    pack = (str(ROOT / "slurm/pack.sh"), "set", "out", "--size", "4", "--grey", "--samples-per-shard", "2")
    flags = ("--cpus-per-task=1", f"--chdir={tmp_path}")
    first = cluster.submit("--array=0-2", f"--output={tmp_path}/first-%a", *flags, *pack, **HERE)
    log = tmp_path / "second"
    after = (f"--dependency=afterany:{first}", "--array=0", f"--output={log}")
    complete(cluster, cluster.submit(*after, *flags, *pack, **HERE), log)
    assert checked(tmp_path / "out").spec.samples == 9
    assert " is up to date" in log.read_text()


@pytest.mark.soak
def test_a_sweep_is_trained_and_measured(cluster: Cluster, whole: Whole, tmp_path: Path) -> None:
    """Two lines of a file on a node each; the measuring waits until they are complete."""
    lines = tmp_path / "lines"
    lines.write_text("seed=5\nseed=6 game.critic.width=8")
    variables = HERE | {"DATA": str(whole.digits), "CONFIG": str(whole.config), "RUNS": f"{tmp_path}/runs", "SWEEP": str(lines)}
    sweep = ("--array=1-2", f"--output={tmp_path}/sweep-%a", "slurm/sweep.sh", "length_kimg=0.16")
    first = cluster.submit(f"--chdir={ROOT}", *sweep, **variables)
    run, log = tmp_path / "runs" / "tiny-run-line2", tmp_path / "card"
    measure = ("--cpus-per-task=1", f"--output={log}", "slurm/evaluate.sh", str(run), "--count", "50")
    complete(cluster, cluster.submit(f"--dependency=afterok:{first}", f"--chdir={ROOT}", *measure, **HERE), log)
    assert "Fréchet distance" in log.read_text()
    assert (run / "STATUS").read_text().startswith("complete\n")
    assert saved(run).config["seed"] == 6
    assert saved(run).config["game"]["critic"]["width"] == 8
    assert saved(tmp_path / "runs" / "tiny-run-line1").config["seed"] == 5
