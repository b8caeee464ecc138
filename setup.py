"""Build the compiled operators; everything else about the package stands in pyproject.toml.

`bigan._C`       the CPU operators and the description of the build (pybind11)
`bigan._C_cuda`  the CUDA kernels alone, so that `_C` loads beside a CPU-only torch

Both use torch's stable ABI: one binary serves every torch from 2.11 on. What the environment may say:

BIGAN_CUDA=0|1            leave CUDA out, or insist on it; otherwise it is built where nvcc is found
BIGAN_REQUIRE_KERNELS=1   fail where no C++ compiler is found, instead of installing without the extension
TORCH_CUDA_ARCH_LIST      CUDA architectures, as torch reads them; default: 8.0, 9.0, 10.0 and PTX of the last
MAX_JOBS                  parallel compilations, as torch reads it
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence

from setuptools import Extension, setup

TORCH_TARGET_VERSION = "0x020b000000000000"  # 2.11, the oldest torch whose stable ABI has all that csrc uses
DEFAULT_ARCHES = ("8.0", "9.0", "10.0")
CPU_SOURCES = ["csrc/module.cpp", "csrc/ops.cpp", *sorted(glob.glob("csrc/cpu/*.cpp"))]
CUDA_SOURCES = sorted(glob.glob("csrc/cuda/*.cu"))
HEADERS = [path for end in ("h", "inc", "cuh") for path in glob.glob(f"csrc/**/*.{end}", recursive=True)]


def say(line: str) -> None:
    print(f"bigan: {line}", file=sys.stderr)


def flag(name: str) -> bool | None:
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SystemExit(f"bigan: {name} must be 0 or 1, got {value!r}")
    return None if value == "" else value == "1"


def cxx_compiler() -> str | None:
    """The C++ compiler that torch's cpp_extension would take, or None."""
    if "CXX" in os.environ:
        return shutil.which(os.environ["CXX"].split()[0])
    configured = (sysconfig.get_config_var("CXX") or "c++").split()[0]
    return shutil.which(configured) and shutil.which("c++")


def why_no_extension() -> str | None:
    if cxx_compiler() is None:
        return f"no C++ compiler found ({os.environ.get('CXX', 'c++')})"
    try:
        import torch.utils.cpp_extension  # noqa: F401
    except ImportError as error:
        return f"torch cannot be imported by the build ({error}); pass --no-build-isolation"
    return None


def find_cuda_home() -> None:
    """Leave the toolkit's folder in CUDA_HOME, for torch, which takes the folder above nvcc's.

    That folder is wrong where the nvcc on PATH is a link or a script; nvcc itself knows where it lies.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is None or os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        return
    told = subprocess.run([nvcc, "--dryrun", "-E", "-x", "cu", os.devnull], capture_output=True, text=True, check=False)
    here = re.search(r"_HERE_=(.+)", told.stderr)
    if here is not None:
        os.environ["CUDA_HOME"] = os.path.dirname(here[1].strip())


def nvcc_output(*arguments: str) -> str:
    from torch.utils.cpp_extension import CUDA_HOME

    return subprocess.check_output([f"{CUDA_HOME}/bin/nvcc", *arguments], text=True)


def why_no_cuda() -> str | None:
    """None where nvcc is found and fits torch. Never asks for a GPU: the machine that builds often has none."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    if torch.version.cuda is None:
        return "torch is a build without CUDA"
    if CUDA_HOME is None or not os.path.exists(f"{CUDA_HOME}/bin/nvcc"):
        return "nvcc is not found; put it on PATH or set CUDA_HOME"
    release = re.search(r"release (\d+)", nvcc_output("--version"))
    if release is None or release[1] != torch.version.cuda.split(".")[0]:
        return f"nvcc is of CUDA {release[1] if release else 'unknown'}, torch of CUDA {torch.version.cuda}"
    return None


def choose_cuda() -> bool:
    wanted = flag("BIGAN_CUDA")
    if wanted is False:
        return False
    reason = why_no_cuda()
    if reason is not None and wanted:
        raise SystemExit(f"bigan: BIGAN_CUDA=1, but {reason}")
    if reason is not None:
        say(f"building without CUDA: {reason}")
    return reason is None


def cuda_arches() -> str:
    """Return the architectures, and leave them in TORCH_CUDA_ARCH_LIST, which is where torch looks."""
    if not os.environ.get("TORCH_CUDA_ARCH_LIST"):
        known = nvcc_output("--list-gpu-arch").split()
        arches = [arch for arch in DEFAULT_ARCHES if f"compute_{arch.replace('.', '')}" in known]
        os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(arches) + "+PTX"
    return os.environ["TORCH_CUDA_ARCH_LIST"]


def compile_flags(*more: str) -> list[str]:
    # No contraction of a * b + c: the instruction sets' results are equal bit for bit.
    return ["-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=off", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}", *more]


def extensions() -> Sequence[Extension]:
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    if not choose_cuda():
        return [CppExtension("bigan._C", CPU_SOURCES, depends=HEADERS, extra_compile_args=compile_flags())]
    version = re.search(r"V([\d.]+)", nvcc_output("--version"))
    cxx = compile_flags(
        f'-DBIGAN_CUDA_ARCHES="{cuda_arches()}"',
        f'-DBIGAN_CUDA_COMPILER="nvcc {version[1] if version else "unknown"}"',
    )
    # USE_CUDA uncovers the CUDA part of the stable ABI's headers. No contraction, as on the host.
    nvcc = ["-O3", "--fmad=false", "-DUSE_CUDA", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"]
    return [
        CppExtension("bigan._C", CPU_SOURCES, depends=HEADERS, extra_compile_args=cxx),
        CUDAExtension("bigan._C_cuda", CUDA_SOURCES, depends=HEADERS, extra_compile_args={"cxx": [], "nvcc": nvcc}),
    ]


def main() -> None:
    find_cuda_home()  # before the import of torch's cpp_extension, which reads it
    reason = why_no_extension()
    if reason is None:
        from torch.utils.cpp_extension import BuildExtension

        setup(ext_modules=list(extensions()), cmdclass={"build_ext": BuildExtension})
        return
    if flag("BIGAN_REQUIRE_KERNELS"):
        raise SystemExit(f"bigan: BIGAN_REQUIRE_KERNELS=1, but {reason}")
    say(f"installing without compiled kernels: {reason}")
    setup()


main()
