"""The CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

from .tree import Tree

FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"


def runtime(name: str) -> str:
    found = subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_the_table_of_operators_is_clean(tree: Tree, capability: str) -> None:
    libraries = " ".join(runtime(name) for name in ("libasan.so", "libubsan.so"))
    tree.build(CFLAGS=FLAGS, LDFLAGS=FLAGS)
    done = tree.test(
        "tests/ops/test_table.py",
        "-k",
        "test_operator and not compiles",
        BIGAN_CPU_CAPABILITY=capability,
        LD_PRELOAD=libraries,
        # Python and torch keep what they allocate, and each library brings its own copy of torch's inline symbols.
        ASAN_OPTIONS="detect_leaks=0:detect_odr_violation=0",
        UBSAN_OPTIONS="print_stacktrace=1",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
