"""A copy of the sources, built another way and tested there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Tree:
    """The package, its kernels and their tests in a folder of their own; CPU only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        for name in ("bigan", "csrc", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))

    def copy_kernels(self) -> None:
        """Take the compiled kernels of the tree that is tested."""
        for path in (ROOT / "bigan").glob("_C.*"):
            shutil.copy(path, self.folder / "bigan")

    def build(self, **environment: str) -> None:
        """Compile what has changed; a failure shows the compiler's words."""
        self._run([sys.executable, "setup.py", "build_ext", "--inplace"], check=True, BIGAN_CUDA="0", **environment)

    def test(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run pytest on the copy."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
        return self._run(command, check=False, BIGAN_REQUIRE_KERNELS="1", OMP_NUM_THREADS="1", **environment)

    def _run(self, command: list[str], *, check: bool, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done
