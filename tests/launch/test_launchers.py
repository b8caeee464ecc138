"""The launchers train, each in its way, and say in a line what they cannot do."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ..cli.launch import ENVIRONMENT, differing, pack_digits, saved, write_config
from ..unit.packed import ROOT

ONE, MANY, DEEPSPEED = (ROOT / "launch" / f"{name}.sh" for name in ("one_machine", "many_machines", "deepspeed"))


def launch(*command: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a launcher to its end, with the torchrun and the bigan of these tests."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = ENVIRONMENT | {"PATH": path, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"} | variables
    return subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=240, check=False)


def free_port() -> str:
    with socket.socket() as any_port:
        any_port.bind(("", 0))
        return str(any_port.getsockname()[1])


@pytest.mark.parametrize("script", [ONE, MANY, DEEPSPEED], ids=lambda script: script.stem)
def test_a_launcher_tells_its_usage(script: Path) -> None:
    asked, silent = launch(script, "--help"), launch(script)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert (silent.returncode, silent.stdout) == (2, "")
    assert asked.stdout == silent.stderr
    assert asked.stdout.startswith("usage: ")
    assert f"launch/{script.name} " in asked.stdout
    assert asked.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "variables", "named"),
    [
        ((ONE, "none.yaml"), {}, "none.yaml: is no file"),
        ((ONE, "run.yaml", "--fast"), {}, "--fast: is no assignment"),
        ((ONE, "run.yaml", "seed=1", "--resume"), {}, "--resume: auto, none or a path must follow"),
        ((ONE, "run.yaml"), {"PROCS": "two"}, "PROCS=two: must be a number"),
        ((MANY, "run.yaml"), {}, "NODES, HEAD and CONFIG are needed"),
        ((MANY, "0", "localhost", "run.yaml"), {}, "0: NODES is a number of machines"),
        ((MANY, "2", "localhost:29400", "run.yaml"), {}, "localhost:29400: HEAD is a host name"),
        ((MANY, "2", "localhost", "run.yaml"), {"PORT": "x"}, "PORT=x: must be a number"),
        ((DEEPSPEED, "run.yaml"), {}, "HOSTFILE and CONFIG are needed"),
        ((DEEPSPEED, "none", "run.yaml"), {}, "none: is no file; a hostfile has lines"),
        ((DEEPSPEED, "wrong", "run.yaml"), {}, "'localhost:2' is no line of a hostfile"),
        ((DEEPSPEED, "empty", "run.yaml"), {}, "names no machine"),
    ],
)
def test_what_does_not_go_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[object, ...], variables: dict[str, str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"run.yaml": "name: run\n", "wrong": "localhost:2\n", "empty": "# none yet\n"}.items():
        Path(name).write_text(text)
    said = launch(*command, **variables)
    assert said.returncode == 2
    assert said.stdout == ""
    assert named in said.stderr
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize("resume", [("--resume", "none"), ("--resume=runs/other=1",)], ids=" ".join)
@pytest.mark.parametrize(
    ("script", "before", "starter"),
    [(ONE, (), "torchrun"), (MANY, ("1", "localhost"), "torchrun"), (DEEPSPEED, ("hostfile",), "deepspeed")],
    ids=["one", "many", "deepspeed"],
)
def test_resume_is_passed_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: Path,
    before: tuple[str, ...],
    starter: str,
    resume: tuple[str, ...],
) -> None:
    """To whatever starts the processes; the scripts lie where there is no environment of their own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(script.parent, tmp_path / "launch")
    Path("run.yaml").touch()
    Path("hostfile").write_text("localhost slots=2\n")
    Path("bin").mkdir()
    Path("bin", starter).write_text('#!/bin/sh\necho "$@"\n')
    Path("bin", starter).chmod(0o755)
    said = launch(tmp_path / "launch" / script.name, *before, "run.yaml", *resume, "seed=1", PATH=f"bin:{os.environ['PATH']}")
    assert said.returncode == 0, said.stderr
    assert said.stdout.endswith(f"bigan train run.yaml {' '.join(resume)} seed=1\n")


@pytest.mark.soak
def test_all_launchers_train_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes each; DeepSpeed's launcher over two slots of this machine."""
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "run.yaml", pack_digits(tmp_path / "digits"))
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("# this machine\nlocalhost slots=2\n")
    ended = [
        launch(ONE, config, "name=one", PROCS="2"),
        launch(MANY, 1, "127.0.0.1", config, "name=many", PROCS="2", PORT=free_port()),
        launch(DEEPSPEED, hostfile, config, "name=deepspeed", PORT=free_port()),
    ]
    for said in ended:
        assert said.returncode == 0, said.stdout + said.stderr
        assert "2 rank(s)" in said.stdout
    whole = saved(Path("runs/one"))
    assert whole.clock.round == 6
    assert all(differing(whole, saved(Path("runs") / name)) == [] for name in ("many", "deepspeed"))
