"""Shards made by hand, with a manifest that believes them."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from bigan.batch import DataSpec
from bigan.data.index import ShardIndex
from bigan.data.manifest import Manifest, ShardEntry, sha256_of


def write_tar(path: Path, members: Iterable[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def read_tar(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [(member.name, file.read()) for member in tar if (file := tar.extractfile(member)) is not None]


def believed(folder: Path, spec: DataSpec, **manifest: Any) -> Path:
    """Write indices and a manifest that say what the folder's shards hold."""
    entries = []
    for shard in sorted(folder.glob("*.tar")):
        index = ShardIndex.build(shard)
        entry = ShardEntry(
            name=shard.name, samples=len(index.keys), bytes=shard.stat().st_size, sha256=sha256_of(shard),
            index_sha256=hashlib.sha256(index.dump()).hexdigest(),
        )  # fmt: skip
        (folder / entry.index_name).write_bytes(index.dump())
        entries.append(entry)
    spec = replace(spec, samples=sum(entry.samples for entry in entries))
    whole = {"source": "test", "request": "", "skipped": 0, "shuffled": True, **manifest}
    (folder / "manifest.json").write_bytes(Manifest(spec=spec, shards=tuple(entries), **whole).dump())
    return folder


def repacked(packed: Path, folder: Path, change: Callable[[str, bytes], tuple[str, bytes]], **spec: Any) -> Path:
    """The first shard of a packed set with changed members, and believed."""
    folder.mkdir()
    name = "shard-000000.tar"
    write_tar(folder / name, [change(*member) for member in read_tar(packed / name)])
    return believed(folder, replace(Manifest.load(packed).spec, **spec))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def locate(index: ShardIndex, rank: int) -> dict[str, tuple[int, int, int]]:
    """The members of one sample: extension → (offset, size, CRC-32)."""
    rows = {extension: tuple(table[rank].tolist()) for extension, table in index.members.items()}
    return {extension: row for extension, row in rows.items() if row[0] >= 0}
