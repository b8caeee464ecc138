"""Fixtures of the files that come from elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bigan.data.cache import ShardCache

from .cached import QUICK, SHARDS, SIZE
from .http_server import FaultyServer, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(dict(SHARDS)) as server:
        yield server


@pytest.fixture
def small_cache(tmp_path: Path) -> Iterator[ShardCache]:
    """In tmp_path/cache, with room for two and a half shards."""
    with ShardCache(tmp_path / "cache", SIZE * 5 // 2, QUICK) as cache:
        yield cache
