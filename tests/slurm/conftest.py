"""A cluster for the tests of this folder, and the run that nobody disturbs."""

import os
from collections.abc import Iterator

import pytest

from .cluster import Cluster, missing, running
from .training import Whole, undisturbed


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if lacking := missing():
        why = f"Slurm is not installed ({', '.join(lacking)}): apt-get install slurmctld slurmd slurm-client munge"
        if os.environ.get("BIGAN_REQUIRE_SLURM") == "1":
            pytest.fail(why)
        pytest.skip(why)
    with running() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return undisturbed(tmp_path_factory.mktemp("whole"))
