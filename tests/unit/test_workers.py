"""Jobs in processes: none outlives the first one, and whatever ends one of them is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bigan.data.workers import run

from .packed import ROOT

JOBS = Path(__file__).with_name("jobs.py")


Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def started() -> Iterator[Start]:
    """Runs jobs in a process of its own, which is gone at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "3"}
    environment.pop("OPENBLAS_NUM_THREADS", None)
    with ExitStack() as stack:

        def start(jobs: str) -> subprocess.Popen[str]:
            running = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(JOBS), jobs], env=environment, text=True, start_new_session=True,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
            )  # fmt: skip
            stack.callback(running.kill)
            return running

        yield start


def processes_of(running: subprocess.Popen[str], count: int) -> list[int]:
    """The workers' ids, once so many of them sleep."""
    assert running.stdout is not None
    return [int(running.stdout.readline()) for _ in range(count)]


def gone(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def wait_for_the_end_of(processes: list[int]) -> None:
    while not all(map(gone, processes)):  # the time limit of every test ends this one, too
        time.sleep(0.01)


def test_every_job_is_done_once_by_a_worker_of_one_thread(started: Start) -> None:
    out, error = started("say " * 9).communicate()
    *lines, last = out.splitlines()
    assert error == ""
    assert len(lines) == 9
    assert {tuple(line.split()[1:]) for line in lines} == {("1", "1", "True")}  # and deaf to Ctrl-C
    assert 1 <= len({line.split()[0] for line in lines}) <= 2
    assert last == "ticks 9 3 None"  # and the environment is as it was


def test_one_worker_is_this_process() -> None:
    done: list[str] = []
    ticks: list[int] = []
    run(lambda job, tick: (done.append(job), tick(2))[1], "abc", 1, ticks.append)
    assert (done, ticks) == (["a", "b", "c"], [2, 2, 2])


@pytest.mark.parametrize("jobs", ["sleep:1000 die", "sleep:1000 large large die large large large large", "die die"])
def test_a_worker_that_dies_ends_all_in_one_line(started: Start, jobs: str) -> None:
    running = started(jobs)
    out, error = running.communicate()
    assert error == ""
    message = "ValueError: workers: one of 2 died, perhaps killed for want of memory; take fewer of them"
    assert any(line.startswith(message) for line in out.splitlines())
    wait_for_the_end_of([int(line) for line in out.splitlines() if line.isdigit()])


def test_an_error_of_one_ends_the_others_at_once(started: Start) -> None:
    running = started("sleep:1000 raise:full sleep:1000")
    out, error = running.communicate()
    assert error == ""
    assert "OSError: [Errno 28] full" in out.splitlines()
    wait_for_the_end_of([int(line) for line in out.splitlines() if line.isdigit()])


def test_ctrl_c_ends_all_at_once_and_without_a_word_of_the_workers(started: Start) -> None:
    running = started("sleep:1000 sleep:1000 say say")
    workers = processes_of(running, 2)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    out, error = running.communicate()
    assert (out.splitlines()[0], error) == ("interrupted", "")
    wait_for_the_end_of(workers)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_first_process(started: Start, end: signal.Signals) -> None:
    running = started("sleep:1000 sleep:1000 say")
    workers = processes_of(running, 2)
    running.send_signal(end)
    wait_for_the_end_of(workers)
    assert running.wait() == -end
    running.communicate()


def test_no_more_jobs_are_made_than_are_needed(started: Start) -> None:
    """A listing of millions is not turned into jobs before the first of them is done."""
    running = started("sleep:1000 " * 2 + "say " * 20)
    workers = processes_of(running, 2)
    running.kill()
    out, _ = running.communicate()
    assert out == ""
    wait_for_the_end_of(workers)
