import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest

from bigan import doctor, ops
from bigan.doctor import Finding, diagnose, exit_status, find_compiler, find_nvcc, import_errors, release

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which all is well, whatever the one that tests is like; nothing is imported in other processes."""
    monkeypatch.setattr(doctor, "import_errors", lambda _names: {})
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(10**12, 0, 10**12))
    monkeypatch.setattr(ops, "backend", lambda: ops.Backend("compiled cpu+cuda", build={"compiler": "gcc 14"}))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: doctor.NEEDED[name] or "1.0")


def the(name: str) -> Finding:
    (found,) = (finding for finding in diagnose() if finding.name == name)
    return found


def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name, **_options: None)
    for variable in ("CXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)


def test_where_all_is_well_the_status_is_0() -> None:
    findings = diagnose()
    assert exit_status(findings) == 0
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)
    expected = {"python", *doctor.NEEDED, "C++ compiler", "CUDA compiler", "kernels", "GPUs", "CPU", "memory", "disk", "Slurm"}
    assert expected <= set(names)
    assert the("disk").value.startswith("1000.0 GB free")
    assert all(finding.ok and finding.value for finding in findings)


def test_the_versions_are_those_of_pyproject() -> None:
    document = tomllib.loads((Path(doctor.__file__).parents[1] / "pyproject.toml").read_text())
    assert {
        name: oldest for name, _, oldest in (line.partition(">=") for line in document["project"]["dependencies"])
    } == doctor.NEEDED
    assert document["project"]["requires-python"] == ">=" + ".".join(map(str, doctor.PYTHON))


def test_an_old_torch_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {**doctor.NEEDED, "ninja": "1.13", "torch": "2.9.1+cu128"}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    found = the("torch")
    assert not found.ok
    assert "older than 2.11" in found.value
    assert found.way_out == "pip install 'torch>=2.11'"
    assert exit_status(diagnose()) == 1


def test_a_missing_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ("deepspeed", "ninja"):
            raise importlib.metadata.PackageNotFoundError(name)
        return doctor.NEEDED[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert the("deepspeed") == Finding("deepspeed", "not installed", False, "pip install 'deepspeed>=0.19.5'")
    assert the("ninja").way_out == "pip install ninja"
    assert exit_status(diagnose()) == 1


def test_a_package_that_does_not_import_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"torchvision": "RuntimeError: operator torchvision::nms does not exist\nmore", "torch": "OSError: libc10.so"}
    monkeypatch.setattr(doctor, "import_errors", lambda _names: broken)
    found = the("torchvision")
    assert not found.ok
    assert found.value.endswith("nms does not exist")
    assert "--force-reinstall torch torchvision" in found.way_out
    assert not the("torch").ok
    monkeypatch.setattr(doctor, "import_errors", lambda names: {"sklearn": "ImportError: x"} if "sklearn" in names else {})
    assert not the("scikit-learn").ok
    assert the("scikit-learn").way_out.endswith("python -c 'import sklearn'")
    monkeypatch.setattr(doctor, "import_errors", lambda _names: broken)
    assert "kernels" not in [finding.name for finding in diagnose()]  # cannot be asked without torch


def test_a_full_disk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(10**12, 0, 1_900_000_000))
    found = the("disk")
    assert not found.ok
    assert found.value.startswith("1.9 GB free")
    assert "free 2 GB" in found.way_out
    assert exit_status(diagnose()) == 1


def test_the_reference_without_a_compiler_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    no_program(monkeypatch)
    monkeypatch.setattr(ops, "backend", lambda: ops.Backend("reference", "bigan._C is not built"))
    monkeypatch.setattr(ops, "describe", lambda: ["kernels: reference"])
    found = the("kernels")
    assert found.ok
    assert found.value == "reference (bigan._C is not built)"
    assert "apt install g++" in found.way_out
    compiler = the("C++ compiler")
    assert (compiler.value, compiler.ok) == ("none", True)
    assert "bigan works without" in compiler.way_out
    assert "apt install g++" in compiler.way_out
    assert exit_status(diagnose()) == 0


def test_the_reference_with_a_compiler_says_how_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_options: f"/bin/{name}")
    monkeypatch.setattr(ops, "backend", lambda: ops.Backend("reference", "bigan._C is not built"))
    found = the("kernels")
    assert found.way_out.endswith("pip install -e .")
    assert "apt" not in found.way_out


def test_kernels_without_a_compiler_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    no_program(monkeypatch)
    assert not any(finding.way_out for finding in diagnose() if finding.name in ("kernels", "C++ compiler", "Slurm"))


def test_kernels_that_are_required_and_missing_fail() -> None:
    # In a process of its own: this one has long decided which kernels it runs.
    script = """
import sys
sys.modules["bigan._C"] = None
from bigan import doctor
doctor.import_errors = lambda names: {}
findings = doctor.diagnose()
(kernels,) = (finding for finding in findings if finding.name == "kernels")
print(doctor.exit_status(findings), kernels.ok, kernels.value, kernels.way_out)
"""
    environment = {**os.environ, "BIGAN_REQUIRE_KERNELS": "1"}
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True).stdout
    assert told.startswith("1 False KernelsMissingError: BIGAN_REQUIRE_KERNELS=1")
    assert "pip install -e ." in told


def test_gpus_without_cuda_kernels_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(doctor, "_gpu", lambda index: f"GPU {index}")
    assert the("GPUs") == Finding("GPUs", "GPU 0, GPU 1")
    monkeypatch.setattr(ops, "backend", lambda: ops.Backend("compiled cpu", "bigan._C_cuda is not built"))
    found = the("GPUs")
    assert found.ok
    assert "BIGAN_CUDA=1 pip install -e ." in found.way_out


def test_a_gpu_that_torch_does_not_see_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name, **_options: f"/bin/{name}")
    assert "nvidia-smi" in the("GPUs").way_out
    no_program(monkeypatch)
    assert the("GPUs") == Finding("GPUs", "none")


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PYTHON", (99, 1))
    assert the("python").way_out == "use Python 99.1 or newer"


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_free_memory", lambda: 1e9)
    assert the("memory").ok
    assert "end other programs" in the("memory").way_out
    monkeypatch.setattr(doctor, "_free_memory", lambda: None)
    assert the("memory") == Finding("memory", "unknown")


def test_compilers_are_found_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvcc, cxx = tmp_path / "bin" / "nvcc", tmp_path / "my-c++"
    nvcc.parent.mkdir()
    for program in (nvcc, cxx):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", f"{cxx} -std=c++20")
    assert (find_nvcc(), find_compiler()) == (str(nvcc), str(cxx))
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    assert find_compiler() is None


def test_every_package_has_a_module() -> None:
    assert all(importlib.util.find_spec(doctor._module(name)) for name in doctor.NEEDED)


def test_imports_are_tried_apart_and_say_why_they_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("print('hello')\n")
    (tmp_path / "broken.py").write_text("raise RuntimeError('two\\nlines')\n")
    (tmp_path / "dying.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert import_errors(["loud", "broken", "json"]) == {"broken": "RuntimeError: two\nlines"}
    assert "status 7" in import_errors(["json", "dying"])["json"]
    assert "broken" not in sys.modules

    def slow(*_args: object, **_options: object) -> None:
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(subprocess, "run", slow)
    assert "takes longer" in import_errors(["json"])["json"]


@pytest.mark.parametrize(
    ("version", "numbers"), [("2.11.0+cu130", (2, 11, 0)), ("2.13.0.dev20260101", (2, 13, 0)), ("1.0rc1", (1, 0)), ("?", ())]
)
def test_versions_compare_by_their_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert release(version) == numbers
