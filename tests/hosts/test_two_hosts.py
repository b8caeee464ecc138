"""Two hosts with a link between them train one run; the link is cut, both say so and end, and the same command goes on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..cli.launch import ENVIRONMENT, differing, saved
from ..slurm.cluster import wait_until
from ..slurm.training import SAVED_EVERY, Whole, undisturbed
from ..unit.packed import ROOT
from .network import ADDRESSES, INTERFACE, Hosts, joined_hosts, why_not

HANG_S = 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return undisturbed(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if why := why_not():
        pytest.skip(why)
    with joined_hosts() as hosts:
        yield hosts


def train(hosts: Hosts, whole: Whole, place: Path, *assignments: str) -> list[subprocess.Popen[bytes]]:
    """The same command on both hosts; the first one's restarts are none, so that a fault ends it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    common = ENVIRONMENT | {"PATH": path, "PYTHONPATH": str(ROOT), "PROCS": "1", "MAX_RESTARTS": "0"}
    command = [ROOT / "launch/many_machines.sh", 2, ADDRESSES[0], whole.config, f"folder={place}", *assignments]
    return [
        hosts.start(number, command, common | {"ADDRESS": address, "GLOO_SOCKET_IFNAME": INTERFACE}, place / f"log {number}")
        for number, address in enumerate(ADDRESSES)
    ]


def ended(training: list[subprocess.Popen[bytes]], place: Path) -> list[int]:
    """Wait for both; their exit statuses."""
    wait_until(lambda: all(each.poll() is not None for each in training), f"they do not end: {said(place)}", 240)
    return [each.wait() for each in training]


def said(place: Path) -> list[str]:
    """What each host wrote, without the ticks."""
    logs = [(place / f"log {number}").read_text(errors="replace").splitlines() for number in range(2)]
    return ["\n".join(line for line in log if "images/s" not in line) for log in logs]


def in_the_middle(training: list[subprocess.Popen[bytes]], events: Path) -> bool:
    assert all(each.poll() is None for each in training)
    return events.is_file() and events.read_bytes().count(b"\n") > SAVED_EVERY


@pytest.mark.soak
def test_two_hosts_end_where_one_does(hosts: Hosts, whole: Whole, tmp_path: Path) -> None:
    assert ended(train(hosts, whole, tmp_path), tmp_path) == [0, 0], said(tmp_path)
    assert differing(saved(tmp_path / "run"), saved(whole.home)) == []


@pytest.mark.soak
def test_a_cut_link_ends_both_sides_and_a_restart_goes_on_exactly(hosts: Hosts, whole: Whole, tmp_path: Path) -> None:
    """Nobody is told of the cut, so that only the watchdog of each rank can notice."""
    training = train(hosts, whole, tmp_path, f"hang_timeout_s={HANG_S}")
    wait_until(lambda: in_the_middle(training, tmp_path / "run" / "events.jsonl"), f"nothing was played: {said(tmp_path)}")
    hosts.cut()
    wait_until(lambda: all("no progress for" in log for log in said(tmp_path)), f"a side says nothing: {said(tmp_path)}", 120)
    assert 0 not in ended(training, tmp_path)
    hosts.mend()
    assert ended(train(hosts, whole, tmp_path), tmp_path) == [0, 0], said(tmp_path)
    assert differing(saved(tmp_path / "run"), saved(whole.home)) == []
    assert sum(log.count("2 rank(s); from 0 kimg") for log in said(tmp_path)) == 1
