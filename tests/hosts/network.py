"""Two hosts on one machine: network namespaces with addresses of their own and a link between them that can be cut."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ADDRESSES = ("10.213.77.1", "10.213.77.2")
INTERFACE = "link0"


class Hosts:
    """Two namespaces, joined by a link.

    Args:
        names: of the namespaces.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, host: int, command: Sequence[object], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start a command on a host, in a session of its own."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.names[host], *map(str, command)],
                env=dict(environment), stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    def cut(self) -> None:
        """Cut the link: what is sent is lost, and nobody is told."""
        _ip("-n", self.names[0], "link", "set", INTERFACE, "down")

    def mend(self) -> None:
        """Put the link back."""
        _ip("-n", self.names[0], "link", "set", INTERFACE, "up")

    def stop(self) -> None:
        """Kill all that runs on either host."""
        for pid in [int(pid) for name in self.names for pid in _ip("netns", "pids", name).split()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.wait()


def why_not() -> str | None:
    """Why there can be no hosts here."""
    if shutil.which("ip") is None:
        return "ip is not installed: apt-get install iproute2"
    name = f"bigan-{os.getpid()}-try"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode != 0:
        return "this user may not make network namespaces"
    _ip("netns", "del", name)
    return None


@contextmanager
def joined_hosts() -> Iterator[Hosts]:
    """Two hosts that reach each other; afterwards nothing of them is left."""
    names = [f"bigan-{os.getpid()}-{number}" for number in range(2)]
    hosts = Hosts(names)
    with ExitStack() as held:
        for name in names:
            _ip("netns", "add", name)
            held.callback(_ip, "netns", "del", name)
        held.callback(hosts.stop)
        _ip("link", "add", INTERFACE, "netns", names[0], "type", "veth", "peer", "name", INTERFACE, "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            for interface in ("lo", INTERFACE):
                _ip("-n", name, "link", "set", interface, "up")
        yield hosts


def _ip(*arguments: str) -> str:
    ended = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"ip {' '.join(arguments)}: {ended.stderr}"
    return ended.stdout
