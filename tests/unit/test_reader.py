"""The compiled reading of samples: zlib's CRC-32 over the file's bytes, and None for whatever is not whole."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigan.data.reader import compiled

read_checked = compiled()
pytestmark = pytest.mark.skipif(read_checked is None, reason="needs bigan._C")

CONTENT = np.random.default_rng(0).bytes(5000)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path = tmp_path_factory.mktemp("reader") / "shard.tar"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def member(offset: int, size: int) -> tuple[int, int, int]:
    return offset, size, zlib.crc32(CONTENT[offset : offset + size])


def read(file: int, *samples: tuple[tuple[int, int, int], ...]) -> list[bytes | None]:
    assert read_checked is not None
    lengths = [members[-1][0] + members[-1][1] - members[0][0] for members in samples]
    return read_checked([file] * len(samples), list(samples), lengths)


@given(cuts=st.lists(st.integers(0, 5000), min_size=2, max_size=6, unique=True))
def test_members_are_read_and_checked(file: int, cuts: list[int]) -> None:
    """Of every length and alignment, with bytes between them that are nobody's."""
    cuts = sorted(cuts)
    members = tuple(member(low, high - low) for low, high in zip(cuts[::2], cuts[1::2], strict=False))
    last = members[-1]
    assert read(file, members) == [CONTENT[cuts[0] : last[0] + last[1]]]


@pytest.mark.parametrize("size", [*range(1, 200), 1023, 1024, 1025, 4999])
def test_every_flipped_bit_is_seen(file: int, size: int) -> None:
    offset, _, crc = member(1, size)
    assert read(file, ((offset, size, crc),), ((offset, size, crc ^ 1),)) == [CONTENT[1 : 1 + size], None]


def test_what_is_not_whole_is_none(file: int, tmp_path: Path) -> None:
    assert read_checked is not None
    good = (member(0, 100), member(512, 100))
    assert read(file, good, (member(4990, 10),), ((4990, 11, 0),), ((9000, 5, 0),)) == [
        CONTENT[:612], CONTENT[4990:], None, None,
    ]  # fmt: skip
    with (tmp_path / "closed").open("wb") as closed:
        assert read_checked([closed.fileno(), -1], [(member(0, 9),)] * 2, [9, 9]) == [None, None]
    assert read_checked([file], [((0, 9, 0), (20, 9, 0))], [9]) == [None]  # a member beyond the bytes that were asked for
    assert read_checked([file], [((0, -9, 0),)], [9]) == [None]


@pytest.mark.parametrize(
    "arguments", [([0], [], []), ([0], [()], [1]), ([0], [((0, 1, 0),)], [0]), ([0], [((0, 1, 0),)], [-1])]
)
def test_nonsense_is_refused(arguments: tuple[list[int], list[tuple[tuple[int, int, int], ...]], list[int]]) -> None:
    assert read_checked is not None
    with pytest.raises(ValueError, match=r"lists of different lengths|a sample without bytes"):
        read_checked(*arguments)
