"""What `bigan doctor` looks at: is all there that a run needs, and what runs where. It prints nothing and changes nothing."""

import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

PYTHON = (3, 11)
NEEDED: Mapping[str, str] = {
    "torch": "2.11",
    "torchvision": "0.26",
    "numpy": "1.26",
    "matplotlib": "3.8",
    "deepspeed": "0.19.5",
    "webdataset": "1.0",
    "fsspec": "2024.2",
    "aiohttp": "3.10",
    "braceexpand": "0.1.7",
    "opencv-python-headless": "4.11",
    "pillow": "10",
    "pydantic": "2.7",
    "pyyaml": "6",
    "rich": "13",
    "safetensors": "0.4.3",
    "scikit-learn": "1.4",
    "scipy": "1.11",
    "simplejpeg": "1.8",
    "typer": "0.15",
    "ninja": "",
    "pybind11": "2.12",
}
"""Distribution → the oldest version that will do ("": any); a test holds it to what pyproject.toml lists.

A copy, so that the doctor also speaks where bigan's own metadata is missing or stale.
"""

_MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}  # where the name differs

GB = 1e9
LEAST_DISK = 2 * GB  # a checkpoint of a large GAN is about one, and the old one stays until the new one is whole
LEAST_MEMORY = 2 * GB
IMPORT_SECONDS = 120  # a cold network file system reads torch slowly

# Each import on its own, so that one that breaks, or prints, does neither to the others nor to the caller.
_IMPORTS = """
import contextlib, importlib, io, json, sys, warnings
warnings.simplefilter("ignore")
errors = {}
for name in sys.argv[1:]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(name)
    except BaseException as error:
        errors[name] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(errors))
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        value: what was found.
        ok: False where bigan cannot work like this.
        way_out: what to do; with `ok`, it is a warning: bigan works, but less well than it could. Empty where all is well.
    """

    name: str
    value: str
    ok: bool = True
    way_out: str = ""


def diagnose() -> list[Finding]:
    """Look at everything; takes seconds, most of them to import DeepSpeed in a process of its own."""
    cxx, nvcc = find_compiler(), find_nvcc()
    findings = [_python(), *_packages()]
    torch_works = all(finding.ok for finding in findings if finding.name == "torch")
    findings += [_compiler(cxx, torch_works), _cuda_compiler(nvcc)]
    if torch_works:
        findings += [*_kernels(cxx), _gpus(nvcc)]
    findings += [_cpu(torch_works), _memory(), _disk(Path.cwd()), _slurm()]
    return findings


def exit_status(findings: Sequence[Finding]) -> int:
    """0, or 1 where something that is needed is missing; warnings leave it 0."""
    return 0 if all(finding.ok for finding in findings) else 1


def find_compiler() -> str | None:
    """The C++ compiler that a build would take: $CXX, else c++ or g++ on PATH."""
    chosen = os.environ.get("CXX", "").split()
    names = chosen[:1] or ["c++", "g++"]
    return next(filter(None, map(shutil.which, names)), None)


def find_nvcc() -> str | None:
    """The CUDA compiler: in $CUDA_HOME or $CUDA_PATH, else on PATH."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        home = os.environ.get(variable)
        found = shutil.which("nvcc", path=str(Path(home) / "bin")) if home else None
        if found:
            return found
    return shutil.which("nvcc")


def import_errors(names: Sequence[str]) -> dict[str, str]:
    """Import modules in a process of its own: name → error, for those that do not import."""
    command = [sys.executable, "-c", _IMPORTS, *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=IMPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return dict.fromkeys(names, f"the import takes longer than {IMPORT_SECONDS} s")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return dict.fromkeys(names, f"the import ended Python with status {done.returncode}: {last}")
    return json.loads(lines[-1])


def _python() -> Finding:
    wanted = ".".join(map(str, PYTHON))
    ok = sys.version_info[:2] >= PYTHON
    return Finding("python", platform.python_version(), ok, "" if ok else f"use Python {wanted} or newer")


def _packages() -> list[Finding]:
    versions: dict[str, str] = {}
    for name in NEEDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    errors = import_errors([_module(name) for name in versions]) if versions else {}
    return [_package(name, versions.get(name), errors.get(_module(name))) for name in NEEDED]


def _module(distribution: str) -> str:
    return _MODULES.get(distribution, distribution)


def _package(name: str, version: str | None, error: str | None) -> Finding:
    oldest = NEEDED[name]
    install = f"pip install '{name}>={oldest}'" if oldest else f"pip install {name}"
    if version is None:
        return Finding(name, "not installed", False, install)
    if release(version) < release(oldest):
        return Finding(name, f"{version}, older than {oldest}", False, install)
    if error is not None:
        first = error.splitlines()[0]
        return Finding(name, f"{version}, but its import fails: {first}", False, _reinstall(name))
    return Finding(name, version)


def _reinstall(name: str) -> str:
    if name == "torchvision":
        return "install the torchvision that was built for this torch: pip install --force-reinstall torch torchvision"
    return f"pip install --force-reinstall {name}, and see the whole error with: python -c 'import {_module(name)}'"


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing: '2.11.0+cu130' → (2, 11, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _compiler(found: str | None, torch_works: bool) -> Finding:
    ops = _load_ops() if torch_works else None
    built = isinstance(ops, ModuleType) and ops.backend().name != "reference"
    way_out = "" if found or built else f"bigan works without, but slowly, on plain PyTorch; {_build(found)}"
    return Finding("C++ compiler", found or "none", True, way_out)


def _cuda_compiler(found: str | None) -> Finding:
    return Finding("CUDA compiler", found or "none")


def _kernels(cxx: str | None) -> list[Finding]:
    ops = _load_ops()
    if isinstance(ops, Exception):
        return [Finding("kernels", f"{type(ops).__name__}: {ops}", False, _build(cxx))]
    backend = ops.backend()
    slow = backend.name == "reference"
    way_out = f"bigan works, but slowly, on plain PyTorch; {_build(cxx)}" if slow else ""
    return [Finding("kernels", str(backend), True, way_out), *(_detail(line) for line in ops.describe()[1:])]


def _load_ops() -> ModuleType | Exception:
    try:
        return importlib.import_module("bigan.ops")
    except Exception as error:  # KernelsMissingError, or whatever a broken library raises while it loads
        return error


def _detail(line: str) -> Finding:
    name, _, value = line.strip().partition(": ")
    return Finding(f"kernels: {name}", value)


def _build(cxx: str | None) -> str:
    if cxx is None:
        return (
            "install a C++ compiler (apt install g++, module load gcc, or set CXX), then install bigan again: pip install -e ."
        )
    return "build them with: pip install -e ."


def _gpus(nvcc: str | None) -> Finding:
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        unseen = shutil.which("nvidia-smi") is not None
        way_out = f"torch {torch.__version__} sees no GPU, though nvidia-smi is here: see whether nvidia-smi lists one, and "
        way_out += "whether torch was built for a CUDA that the driver knows (https://pytorch.org/get-started/locally)"
        return Finding("GPUs", "none", True, way_out if unseen else "")
    value = ", ".join(_gpu(index) for index in range(count))
    ops = _load_ops()
    if isinstance(ops, Exception) or "cuda" in ops.backend().name:  # an exception is the kernels' finding
        return Finding("GPUs", value)
    first = "" if nvcc else "install the CUDA toolkit or set CUDA_HOME, then "
    return Finding("GPUs", value, True, f"there are no CUDA kernels; {first}build them with: BIGAN_CUDA=1 pip install -e .")


def _gpu(index: int) -> str:
    import torch

    found = torch.cuda.get_device_properties(index)
    return f"{found.name} ({found.total_memory / GB:.0f} GB, compute capability {found.major}.{found.minor})"


def _cpu(torch_works: bool) -> Finding:
    value = f"{_cores()} cores for this process"
    if torch_works:
        import torch

        value += f", {torch.backends.cpu.get_cpu_capability()}"
    return Finding("CPU", value)


def _cores() -> int:
    """Cores that this process may use: under Slurm fewer than the machine has."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> Finding:
    free = _free_memory()
    if free is None:
        return Finding("memory", "unknown")
    way_out = "" if free >= LEAST_MEMORY else "end other programs, or use a machine with more"
    return Finding("memory", f"{free / GB:.1f} GB free", True, way_out)


def _free_memory() -> float | None:
    """Bytes that can be had without swapping, where Linux says so."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024.0 if found else None


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    value = f"{free / GB:.1f} GB free in {folder}"
    if free >= LEAST_DISK:
        return Finding("disk", value)
    return Finding(
        "disk", value, False, f"free {LEAST_DISK / GB:.0f} GB, or write runs to another disk: checkpoints would not fit"
    )


def _slurm() -> Finding:
    return Finding("Slurm", shutil.which("sbatch") or "no sbatch on PATH (needed on a cluster only)")
