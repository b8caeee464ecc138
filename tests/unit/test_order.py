"""The order of the endless stream: every epoch whole, every slicing the same, no state."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigan.data.order import Order, epoch_permutation
from bigan.data.pack import pack
from bigan.data.source import open_source
from bigan.data.stream import Shards, flips

from .pictures import folder_of

SEEDS = st.integers(0, 2**64 - 1)


@given(samples=st.integers(1, 200), seed=SEEDS, epoch=st.integers(0, 10**9))
def test_every_epoch_visits_every_sample_once(samples: int, seed: int, epoch: int) -> None:
    visited = Order(samples, seed).samples_at(epoch * samples, samples)
    assert sorted(visited.tolist()) == list(range(samples))


@given(
    samples=st.integers(1, 60),
    seed=SEEDS,
    start=st.integers(0, 500),
    ranks=st.integers(1, 8),
    share=st.integers(1, 20),
    rounds=st.integers(1, 5),
)
def test_ranks_together_read_what_one_reader_reads(
    samples: int, seed: int, start: int, ranks: int, share: int, rounds: int
) -> None:
    stride = ranks * share
    straight = Order(samples, seed).samples_at(start, rounds * stride)
    readers = [Order(samples, seed) for _ in range(ranks)]
    parts = [
        readers[rank].samples_at(start + step * stride + rank * share, share) for step in range(rounds) for rank in range(ranks)
    ]
    assert np.concatenate(parts).tolist() == straight.tolist()


@given(samples=st.integers(1, 50), seed=SEEDS, position=st.integers(0, 10**6))
def test_a_position_does_not_depend_on_what_was_read_before(samples: int, seed: int, position: int) -> None:
    order = Order(samples, seed)
    order.samples_at(0, 3 * samples)
    assert order.sample(position) == Order(samples, seed).sample(position)
    assert order.sample(position) == epoch_permutation(samples, seed, position // samples)[position % samples]


def test_a_seed_is_any_unsigned_64_bit_number(tmp_path: Path) -> None:
    pack(open_source(str(folder_of(tmp_path / "set", *(f"{n}.png" for n in range(9))))), tmp_path / "out", size=4)
    settings = Shards(path=str(tmp_path / "out"), flip=True)
    seen: set[bytes] = set()
    for seed in (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
        with settings.open(seed) as stream:
            seen.add(stream.read(2**40, 30)["images"].numpy().tobytes())
    assert len(seen) == 7
    for seed in (-1, 2**64):
        for make in (lambda seed: Order(3, seed), settings.open):
            with pytest.raises(AssertionError, match=f"seed {seed} is no unsigned 64-bit number"):
                make(seed)


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(epoch_permutation(20, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_the_first_sample_is_uniform() -> None:
    counts = np.bincount([epoch_permutation(10, 3, epoch)[0] for epoch in range(5000)], minlength=10)
    assert (abs(counts - 500) < 5 * np.sqrt(500 * 0.9)).all()


def test_the_order_is_the_same_for_good() -> None:
    """A run must resume under any later numpy: these numbers never change."""
    assert epoch_permutation(12, seed=7, epoch=3).tolist() == [2, 5, 9, 7, 3, 0, 6, 8, 4, 1, 11, 10]
    assert Order(5, seed=2**64 - 1).samples_at(3, 9).tolist() == [3, 1, 3, 2, 4, 0, 1, 2, 3]


def test_threads_share_an_order() -> None:
    order = Order(101, 5)
    starts = list(range(0, 4000, 37))
    expected = [Order(101, 5).samples_at(start, 50).tolist() for start in starts]
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
