"""The order of the endless stream: every epoch whole, every slicing the same, no state."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigan.data import order as order_module
from bigan.data.hashing import flips, shifts
from bigan.data.order import Order, permutation
from bigan.data.pack import pack
from bigan.data.sources import open_source
from bigan.data.stream import Shards

from .pictures import folder_of

SEEDS = st.integers(0, 2**64 - 1)


COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=12)
WINDOWS = st.integers(1, 120)
BLOCKS = st.none() | st.integers(1, 50)


@given(counts=COUNTS, seed=SEEDS, epoch=st.integers(0, 10**9), window=WINDOWS, block=BLOCKS)
def test_every_epoch_visits_every_sample_once(counts: list[int], seed: int, epoch: int, window: int, block: int | None) -> None:
    samples = sum(counts)
    visited = Order(counts, seed, window, block).samples_at(epoch * samples, samples)
    assert sorted(visited.tolist()) == list(range(samples))


@given(
    counts=COUNTS,
    seed=SEEDS,
    window=WINDOWS,
    block=BLOCKS,
    start=st.integers(0, 500),
    ranks=st.integers(1, 8),
    workers=st.integers(1, 4),
    share=st.integers(1, 20),
    rounds=st.integers(1, 5),
    stop=st.integers(0, 5),
    other_ranks=st.integers(1, 8),
)
def test_ranks_and_workers_read_what_one_reader_reads_also_after_a_stop(
    counts: list[int],
    seed: int,
    window: int,
    block: int | None,
    start: int,
    ranks: int,
    workers: int,
    share: int,
    rounds: int,
    stop: int,
    other_ranks: int,
) -> None:
    """The global batch stays when a run goes on with another number of ranks."""
    batch = ranks * share * other_ranks
    straight = Order(counts, seed, window, block).samples_at(start, rounds * batch)

    def read(world: int, first: int, last: int) -> list[int]:
        readers = [Order(counts, seed, window, block) for _ in range(world)]
        part = batch // world
        found: list[int] = []
        for step in range(first, last):
            for rank, reader in enumerate(readers):
                mine = reader.samples_at(start + step * batch + rank * part, part)
                dealt = np.empty_like(mine)
                for worker in range(workers):  # as ShardStream splits a read over its threads
                    dealt[worker::workers] = mine[worker::workers]
                found += dealt.tolist()
        return found

    stop = min(stop, rounds)
    assert read(ranks, 0, stop) + read(other_ranks, stop, rounds) == straight.tolist()


@given(counts=COUNTS, seed=SEEDS, window=WINDOWS, block=BLOCKS, position=st.integers(0, 10**6))
def test_a_position_does_not_depend_on_what_was_read_before(
    counts: list[int], seed: int, window: int, block: int | None, position: int
) -> None:
    order = Order(counts, seed, window, block)
    order.samples_at(0, 3 * sum(counts))
    assert order.samples_at(position, 1) == Order(counts, seed, window, block).samples_at(position, 1)


@given(counts=COUNTS, seed=SEEDS, epoch=st.integers(0, 9), block=BLOCKS, more=st.integers(0, 50))
def test_a_set_no_larger_than_a_window_is_shuffled_whole(
    counts: list[int], seed: int, epoch: int, block: int | None, more: int
) -> None:
    samples = sum(counts)
    found = Order(counts, seed, samples + more, block).samples_at(epoch * samples, samples)
    assert found.tolist() == permutation(samples, seed, epoch, 0).tolist()


@given(shards=st.integers(2, 30), size=st.integers(1, 40), seed=SEEDS, window=st.integers(1, 300))
def test_a_window_reads_few_shards(shards: int, size: int, seed: int, window: int) -> None:
    order = Order([size] * shards, seed, window)
    position = 0
    windows = []
    while position < shards * size:
        samples, first = order.window_at(position)
        assert first == position
        windows.append({int(sample) // size for sample in samples})
        position += len(samples)
    assert position == shards * size
    assert sum(len(read) for read in windows) == shards  # each shard in one window alone
    assert max(len(read) for read in windows) <= window // size + 1
    assert max(len(read) for read in windows) - min(len(read) for read in windows) <= 1


def test_blocks_mix_shards_that_are_sorted_by_class() -> None:
    """Sixteen sorted shards: windows of whole shards see two classes each, windows of short blocks all sixteen."""
    whole, blocks = Order([100] * 16, 3, 200), Order([100] * 16, 3, 200, 5)
    assert len({int(sample) // 100 for sample in whole.window_at(0)[0]}) == 2
    assert len({int(sample) // 100 for sample in blocks.window_at(0)[0]}) > 10
    assert len({int(sample) // 5 for sample in blocks.window_at(0)[0]}) == 40


def test_a_seek_makes_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """However far it goes; a larger set costs more blocks, never more samples."""
    drawn: list[int] = []

    def counting(count: int, seed: int, epoch: int, part: int) -> np.ndarray:
        drawn.append(count)
        return permutation(count, seed, epoch, part)

    monkeypatch.setattr(order_module, "permutation", counting)
    for position in (0, 450_000, 10**12):
        drawn.clear()
        Order([1000] * 500, 0, 4000).samples_at(position, 1)
        assert drawn == [500, 4000]


def test_a_seed_is_any_unsigned_64_bit_number(tmp_path: Path) -> None:
    pack(open_source(str(folder_of(tmp_path / "set", *(f"{n}.png" for n in range(9))))), tmp_path / "out", size=4)
    settings = Shards(path=str(tmp_path / "out"), flip=True)
    seen: set[bytes] = set()
    for seed in (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
        with settings.open(seed) as stream:
            seen.add(stream.read(2**40, 30)["images"].numpy().tobytes())
    assert len(seen) == 7
    for seed in (-1, 2**64):
        for make in (lambda seed: Order([3], seed), settings.open):
            with pytest.raises(AssertionError, match=f"seed {seed} is no unsigned 64-bit number"):
                make(seed)


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(permutation(20, seed, epoch, part).tolist()) for seed in range(5) for epoch in range(5) for part in (0, 1)}
    assert len(orders) == 50


def test_the_first_sample_is_uniform() -> None:
    counts = np.bincount([permutation(10, 3, epoch, 0)[0] for epoch in range(5000)], minlength=10)
    assert (abs(counts - 500) < 5 * np.sqrt(500 * 0.9)).all()


def test_the_order_is_the_same_for_good() -> None:
    """A run must resume under any later numpy: these numbers never change."""
    assert permutation(12, seed=7, epoch=3, part=0).tolist() == [2, 5, 9, 7, 3, 0, 6, 8, 4, 1, 11, 10]
    assert Order([3, 2], seed=2**64 - 1).samples_at(3, 9).tolist() == [3, 1, 3, 2, 4, 0, 1, 2, 3]


def test_windows_are_the_same_for_good() -> None:
    assert Order([4, 3, 4, 2], seed=7, window=5, block=2).samples_at(39, 13).tolist() == [
        7,
        10,
        8,
        2,
        9,
        3,
        11,
        12,
        0,
        1,
        4,
        5,
        6,
    ]


def test_threads_share_an_order() -> None:
    order = Order([50, 1, 50], 5, 30)
    starts = list(range(0, 4000, 37))
    expected = [Order([50, 1, 50], 5, 30).samples_at(start, 50).tolist() for start in starts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda start: order.samples_at(start, 50).tolist(), starts))
    assert found == expected


@given(seed=st.integers(0, 2**64 - 1), start=st.integers(0, 2**50), count=st.integers(0, 100), cut=st.integers(0, 100))
def test_flips_are_a_function_of_seed_and_position(seed: int, start: int, count: int, cut: int) -> None:
    cut = min(cut, count)
    parts = np.concatenate([flips(seed, start, cut), flips(seed, start + cut, count - cut)])
    assert parts.tolist() == flips(seed, start, count).tolist()


def test_flips_are_fair_and_independent() -> None:
    drawn = np.stack([flips(seed, 0, 20_000) for seed in range(4)]).astype(float)
    assert (abs(drawn.mean(axis=1) - 0.5) < 0.02).all()
    pairs = [
        (drawn[0], drawn[1]),
        (drawn[0][1:], drawn[0][:-1]),
        (drawn[2][1:], drawn[3][:-1]),
        (drawn[0][1797:], drawn[0][:-1797]),
    ]
    assert all(abs(np.corrcoef(*pair)[0, 1]) < 0.04 for pair in pairs)
    assert np.flatnonzero(flips(7, 10**6, 12)).tolist() == [0, 1, 4, 8, 9, 10, 11]  # for good: a resumed run must flip alike


@given(seed=st.integers(0, 2**64 - 1), start=st.integers(0, 2**50), most=st.integers(1, 40))
def test_shifts_are_a_function_of_seed_and_position(seed: int, start: int, most: int) -> None:
    drawn = shifts(seed, start, 50, most)
    assert drawn.shape == (50, 2)
    assert (abs(drawn) <= most).all()
    assert (shifts(seed, start + 20, 5, most) == drawn[20:25]).all()


def test_shifts_are_even_and_independent() -> None:
    drawn = shifts(3, 0, 50_000, 2)
    counts = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=5)[0]
    assert (abs(counts / 2000 - 1) < 0.1).all()  # of 25 shifts each
    mirrored = flips(3, 0, 50_000).astype(float)
    assert all(abs(np.corrcoef(mirrored, axis)[0, 1]) < 0.02 for axis in drawn.T)
    assert shifts(7, 10**6, 3, 8).tolist() == [[8, 5], [6, 8], [-6, 7]]  # for good
