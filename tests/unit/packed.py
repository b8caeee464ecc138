"""What a packed folder should be, and what its bytes decode to."""

import hashlib
from pathlib import Path

from numpy.typing import NDArray

from bigan.data.decode import Decoder, empty
from bigan.data.index import ShardIndex
from bigan.data.manifest import Manifest, verify

from .tars import locate

ROOT = Path(__file__).parents[2]


def checked(folder: Path) -> Manifest:
    """The manifest, after every byte of the shards was compared with it."""
    manifest = verify(folder)
    for entry in manifest.shards:
        for name, digest in ((entry.name, entry.sha256), (entry.index_name, entry.index_sha256)):
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert {path.name for path in folder.iterdir()} - {"manifest.json", "skipped.txt"} == {
        name for entry in manifest.shards for name in (entry.name, entry.index_name)
    }
    return manifest


def decoded(folder: Path) -> tuple[list[int], dict[str, NDArray]]:
    """The keys, as numbers, and the rows that the trainer makes of the samples."""
    manifest = checked(folder)
    rows, keys = empty(manifest.spec, manifest.spec.samples), list[int]()
    for entry in manifest.shards:
        index, data = ShardIndex.load(folder, entry), (folder / entry.name).read_bytes()
        for sample, key in enumerate(index.keys):
            places = locate(index, sample)
            members = {kind: data[offset : offset + size] for kind, (offset, size, _) in places.items()}
            Decoder(manifest.spec).decode(members, rows, len(keys))
            keys.append(int(key))
    return keys, rows
