"""What the tests of the cache share: four shards on a faulty server, and processes that open them."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from bigan.data.fetch import RetryPolicy

from .http_server import FaultyServer

SIZE = 100_000
SHARDS = {f"/{name}": hashlib.shake_256(name.encode()).digest(SIZE) for name in "abcd"}

QUICK = RetryPolicy(attempts=3, delay_s=0.01)
IMPATIENT = RetryPolicy(attempts=3, delay_s=0.01, stall_s=0.5)  # where a server stalls

USE = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from bigan.data.cache import ShardCache
folder, limit, threads, *rest = sys.argv[1:]
files = [(url, int(size), sha256) for url, size, sha256 in zip(*[iter(rest)] * 3)]
with ShardCache(folder, int(limit)) as cache, ThreadPoolExecutor(int(threads)) as pool:
    list(pool.map(lambda file: os.close(cache.open(*file)), files))
"""
"""A process that opens files: FOLDER LIMIT THREADS (URL SIZE SHA256)…"""


def sha256(path: str) -> str:
    return hashlib.sha256(SHARDS[path]).hexdigest()


def file(server: FaultyServer, path: str) -> tuple[str, int, str]:
    return server.url(path), SIZE, sha256(path)


def read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as opened:
        return opened.read()


def names(folder: Path) -> list[str]:
    """Of all files."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def kept(folder: Path) -> str:
    """The letters of the shards that are there whole; ? for any other file."""
    letters = {sha256(path): path[1:] for path in SHARDS}
    return "".join(sorted(letters.get(name, "?") for name in names(folder)))


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
