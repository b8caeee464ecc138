"""A real Slurm cluster of two nodes on this machine, with ports, keys and folders of its own, for the length of a test."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
SYSTEM_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
CPUS = 2

CONFIG = """
ClusterName=bigan
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdTimeout=10
MessageTimeout=10
KillWait=30
ReturnToService=2
MpiDefault=none
PartitionName=all Nodes={nodes} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={nodes} MaxTime=INFINITE State=UP PriorityTier=2
"""


def missing() -> list[str]:
    """The programs of Slurm that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]


@dataclass(frozen=True)
class Job:
    """What scontrol says of a job."""

    state: str
    reason: str
    restarts: int


class Cluster:
    """A running cluster.

    Args:
        place: its folder.
        environment: what a user's shell has there.
    """

    def __init__(self, place: Path, environment: Mapping[str, str]) -> None:
        self.place, self.environment = place, dict(environment)
        self.daemons: list[subprocess.Popen[bytes]] = []

    def say(self, *command: object, **variables: str) -> str:
        """Run a program of Slurm; what it printed."""
        environment = self.environment | variables
        ended = subprocess.run([*map(str, command)], env=environment, text=True, capture_output=True, timeout=60)
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
        return ended.stdout.strip()

    def submit(self, *command: object, **variables: str) -> str:
        """`sbatch …`; the number of the job."""
        return self.say("sbatch", "--parsable", *command, **variables)

    def job(self, number: str) -> Job:
        """How a job stands."""
        text = self.say("scontrol", "--oneliner", "show", "job", number)
        told = {key: value for key, _, value in (part.partition("=") for part in text.split())}
        return Job(told["JobState"], told["Reason"], int(told["Restarts"]))

    def node(self, name: str) -> str:
        """A node's state, such as `idle`."""
        return self.say("sinfo", "--noheader", f"--nodes={name}", "--partition=all", "--format=%T")

    def start(self, *command: object) -> None:
        """Start a daemon in the foreground of its own session."""
        with (self.place / f"{command[0]}.err").open("ab") as log:
            daemon = subprocess.Popen(
                [*map(str, command)], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.daemons.append(daemon)

    def stop(self) -> None:
        """Kill all that belongs to the cluster, the jobs' processes too."""
        while left := processes(self.place):
            _kill(left)
            time.sleep(0.05)
        for daemon in self.daemons:
            daemon.wait()

    def start_node(self, name: str) -> None:
        """Start a node's slurmd."""
        self.start("slurmd", "-D", "-N", name)

    def lose_node(self, name: str, *, and_the_jobs: bool) -> None:
        """Kill a node's slurmd and slurmstepds at one blow; the processes of the jobs too, as a power cut would, or not."""
        lost = [
            pid
            for pid in processes(self.place)
            if (name in _opened(pid, self.place) and _program(pid) in ("slurmd", "slurmstepd"))
            or (and_the_jobs and f"SLURMD_NODENAME={name}" in _environment(pid))
        ]
        assert any(_program(pid) == "slurmd" for pid in lost)
        _kill(lost)

    def workers(self, job: str) -> list[int]:
        """The processes that torchrun started in a job."""
        found = {pid: _environment(pid) for pid in processes(self.place)}
        return [pid for pid, has in found.items() if f"SLURM_JOB_ID={job}" in has and "LOCAL_RANK=0" in has]

    def log(self) -> str:
        """The end of every log, for a failure's message."""
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in sorted(self.place.glob("*.log"))
        )


@contextmanager
def running() -> Iterator[Cluster]:
    """Two nodes that are up; afterwards nothing of them is left."""
    with ExitStack() as held:
        # Not pytest's folder: munge wants one that everybody may enter, and the name of a socket must be short.
        place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bigan-slurm-", dir="/tmp")))
        place.chmod(0o755)
        cluster = _prepare(place)
        held.callback(cluster.stop)
        try:
            _start(cluster)
            wait_until(lambda: all(cluster.node(name) == "idle" for name in NODES), "the nodes did not come up", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{cluster.log()}") from None
        yield cluster


def wait_until(true: Callable[[], bool], otherwise: str, seconds: float = 180) -> None:
    """Poll; the limit is against a hang alone."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def processes(place: Path) -> list[int]:
    """All processes of the cluster at this place: whose environment names it, or which hold files in it."""
    found = []
    for entry in Path("/proc").iterdir():
        pid = int(entry.name) if entry.name.isdigit() else os.getpid()
        if pid != os.getpid() and (any(str(place) in value for value in _environment(pid)) or _opened(pid, place)):
            found.append(pid)
    return found


def _prepare(place: Path) -> Cluster:
    """Write its configuration."""
    user = pwd.getpwuid(os.getuid()).pw_name
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SRUN"))}
    environment |= {"PATH": SYSTEM_PATH, "SLURM_CONF": str(place / "slurm.conf")}
    for name in ("state", *NODES):
        (place / name).mkdir()
    key = place / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    ctld, *slurmds = _free_ports(1 + len(NODES))
    lines = [
        f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory=4000"
        for name, port in zip(NODES, slurmds, strict=True)
    ]
    text = CONFIG.format(ctld=ctld, user=user, place=place, nodes=",".join(NODES)) + "\n".join(lines) + "\n"
    (place / "slurm.conf").write_text(text.lstrip())
    (place / "cgroup.conf").write_text("CgroupPlugin=autodetect\n")
    return Cluster(place, environment)


def _start(cluster: Cluster) -> None:
    place = cluster.place
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
    cluster.start("munged", "--foreground", "--force", *(f"--{option}={place / name}" for option, name in files.items()))
    wait_until((place / "munge.socket").exists, f"munged did not start: {(place / 'munged.err').read_text()}", 30)
    cluster.start("slurmctld", "-D")
    for name in NODES:
        cluster.start_node(name)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


def _environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return []


def _opened(pid: int, place: Path) -> set[str]:
    """The first parts below a folder of what a process holds open there."""
    found = set()
    with suppress(OSError):
        for link in [Path(f"/proc/{pid}/cwd"), *Path(f"/proc/{pid}/fd").iterdir()]:
            with suppress(OSError, ValueError):
                found.add(Path(os.readlink(link)).relative_to(place).parts[0].removesuffix(".log"))
    return found


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
