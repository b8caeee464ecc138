"""A training job on a real cluster is preempted, loses a node, runs out of time: it comes back and ends bit-equal."""

import os
import signal
from pathlib import Path

import pytest

from ..cli.launch import saved
from .cluster import Cluster, wait_until
from .training import SAVED_EVERY, Whole, submit


def test_a_job_that_is_warned_saves_goes_back_and_ends_exactly(cluster: Cluster, whole: Whole, tmp_path: Path) -> None:
    """USR1 to the batch shell alone, as `--signal=B:USR1@300` has Slurm do it before the time limit."""
    training = submit(cluster, whole, tmp_path).in_the_middle()
    cluster.say("scancel", "--batch", "--signal=USR1", training.number)
    training.until(lambda: training.status() == "preempted", "nothing was saved")
    assert 5 <= saved(training.home).clock.round < SAVED_EVERY
    training.came_back_exactly(whole)
    assert "preempted; not complete; back into the queue" in training.said()


@pytest.mark.soak
def test_a_job_runs_to_its_end(cluster: Cluster, whole: Whole, tmp_path: Path) -> None:
    training = submit(cluster, whole, tmp_path)
    assert training.ended().state == "COMPLETED"
    assert training.job.restarts == 0
    training.is_exactly(whole)
    assert "complete; the run has its whole length" in training.said()


@pytest.mark.soak
def test_a_job_that_slurm_requeues_ends_exactly(cluster: Cluster, whole: Whole, tmp_path: Path) -> None:
    """All its processes get SIGTERM; nothing that was played is lost."""
    training = submit(cluster, whole, tmp_path).in_the_middle()
    cluster.say("scontrol", "requeue", training.number)
    training.until(lambda: training.status() == "preempted", "nothing was saved")
    training.came_back_exactly(whole)


@pytest.mark.soak
def test_a_job_that_another_one_preempts_ends_exactly(cluster: Cluster, whole: Whole, tmp_path: Path) -> None:
    training = submit(cluster, whole, tmp_path).in_the_middle()
    urgent = cluster.submit("--partition=urgent", "--exclusive", "--nodes=2", f"--output={tmp_path / 'urgent'}", "--wrap=true")
    training.came_back_exactly(whole)
    assert cluster.job(urgent).state == "COMPLETED"


@pytest.mark.soak
@pytest.mark.parametrize("node", ["n1", "n2"])
@pytest.mark.parametrize("forgotten", [False, True], ids=["power cut", "training goes on"])
def test_a_job_that_loses_a_node_ends_exactly(
    cluster: Cluster, whole: Whole, tmp_path: Path, node: str, forgotten: bool
) -> None:
    """slurmd and slurmstepd are killed on the first node, where the script runs, or on the other one."""
    training = submit(cluster, whole, tmp_path).in_the_middle(SAVED_EVERY + 5)
    cluster.lose_node(node, and_the_jobs=not forgotten)
    try:
        wait_until(lambda: cluster.job(training.number).restarts == 1, "Slurm does not give the node up")
    finally:
        cluster.start_node(node)
    training.came_back_exactly(whole)


@pytest.mark.soak
def test_a_job_that_runs_out_of_time_ends_exactly(cluster: Cluster, whole: Whole, tmp_path: Path) -> None:
    """By Slurm's own clock, whose unit is the minute; the ranks are held up meanwhile."""
    training = submit(cluster, whole, tmp_path, "--time=3", "--signal=B:USR1@60").in_the_middle()
    workers = cluster.workers(training.number)
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    training.until(lambda: "SIGUSR1 came" in training.said(), "Slurm gave no warning")
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    training.came_back_exactly(whole)


@pytest.mark.soak
def test_a_job_that_its_user_cancels_does_not_come_back(cluster: Cluster, whole: Whole, tmp_path: Path) -> None:
    training = submit(cluster, whole, tmp_path).in_the_middle()
    cluster.say("scancel", training.number)
    training.until(lambda: training.status() == "preempted", "nothing was saved")
    assert training.ended().state == "CANCELLED"
    training.until(lambda: "Slurm calls the job" in training.said(), "the script said nothing")
    assert cluster.job(training.number).restarts == 0
    assert saved(training.home).clock.round >= 5


@pytest.mark.soak
def test_a_job_does_not_come_back_for_ever(cluster: Cluster, whole: Whole, tmp_path: Path) -> None:
    training = submit(cluster, whole, tmp_path, MAX_REQUEUES="0").in_the_middle()
    cluster.say("scancel", "--batch", "--signal=USR1", training.number)
    assert training.ended().state == "FAILED"
    assert "not complete after 0 requeues; submit it again to go on" in training.said()
