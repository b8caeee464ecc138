"""Progress, and random numbers that are a function of where a run is."""

from dataclasses import FrozenInstanceError
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigan.clock import Clock, Draws, digest, unit, words

CPU = torch.device("cpu")
KEYS = st.tuples(st.integers(0, 2**64), st.integers(0, 3), st.integers(0, 10**9), st.text(max_size=8))
SHAPES = st.lists(st.integers(1, 5), max_size=3).map(tuple)


def draws(key: tuple[str | int, ...] = (7, 0, 3, "critic"), start: int = 0, count: int = 8) -> Draws:
    return Draws(key, start, count, CPU)


def test_a_clock_counts_images_by_rounds_and_not_by_moves() -> None:
    clock = Clock(batch=16)
    for _ in range(3):
        clock = clock.read("real").stepped("critic").read("real").stepped("critic").stepped("generator").next_round()
    assert (clock.round, clock.images) == (3, 48)
    assert clock.positions == {"real": 96}
    assert clock.steps == {"critic": 6, "generator": 3}


def test_a_clock_is_never_changed_in_place() -> None:
    before = Clock(batch=4, positions={"real": 4}, steps={"critic": 1})
    before.read("real")
    before.read("other")
    before.stepped("critic")
    before.next_round()
    assert before == Clock(batch=4, positions={"real": 4}, steps={"critic": 1})
    with pytest.raises(FrozenInstanceError):
        before.round = 2  # pyright: ignore[reportAttributeAccessIssue]


@settings(max_examples=60)
@given(
    key=KEYS,
    start=st.integers(0, 10**7),
    parts=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    shape=SHAPES,
    normal=st.booleans(),
)
def test_any_division_into_shares_draws_the_same(
    key: tuple[str | int, ...], start: int, parts: list[int], shape: tuple[int, ...], normal: bool
) -> None:
    def draw(first: int, count: int) -> torch.Tensor:
        share = draws(key, first, count)
        return share.normal("z", *shape) if normal else share.uniform("z", *shape)

    whole = draw(start, sum(parts))
    ends = np.cumsum([0, *parts]).tolist()
    shares = [draw(start + first, last - first) for first, last in pairwise(ends)]
    assert whole.shape == (sum(parts), *shape)
    assert whole.dtype == torch.float32
    assert torch.equal(torch.cat(shares), whole)


def test_a_row_is_a_row_of_its_own_for_every_width() -> None:
    """No width may overlap the words of the next row: a block of the generator has four."""
    for width in range(1, 14):
        values = words(("k",), 0, 200, width)
        assert len(np.unique(values)) == values.size, width


def test_every_part_of_the_key_and_the_name_count() -> None:
    keys = [(7, 0, 3, "critic"), (8, 0, 3, "critic"), (7, 1, 3, "critic"), (7, 0, 4, "critic"), (7, 0, 3, "generator")]
    keys += [("7", 0, 3, "critic"), (7, 0, "3", "critic"), (70, 3, "critic"), (7, 0, 3, "critic", 0)]
    first = {float(draws(key).normal(name)[0]) for key in keys for name in ("z", "c", "")}
    assert len(first) == 3 * len(keys)


def test_the_order_of_draws_does_not_matter() -> None:
    one, other = draws(), draws()
    a, b = one.normal("a", 3), one.uniform("b")
    assert torch.equal(other.uniform("b"), b)
    assert torch.equal(other.normal("a", 3), a)


def test_moments_of_the_normal() -> None:
    z = draws(count=20_000).normal("z", 5).double()
    assert abs(float(z.mean())) < 0.02
    assert float(z.var()) == pytest.approx(1.0, abs=0.02)
    assert abs(float((z**3).mean())) < 0.05
    assert float((z**4).mean()) == pytest.approx(3.0, abs=0.1)
    for bound, tail in ((1.0, 0.31731), (2.0, 0.0455), (3.0, 0.0027)):
        assert float((z.abs() > bound).double().mean()) == pytest.approx(tail, abs=0.004)


def test_columns_and_neighbouring_rows_are_uncorrelated() -> None:
    z = draws(count=20_000).normal("z", 6).double()
    both = torch.cat([z[:-1], z[1:], z[:-1].square(), z[1:].square()], 1)
    correlation = torch.corrcoef(both.T) - torch.eye(24)
    assert float(correlation.abs().max()) < 0.04


def test_the_uniform_is_flat_and_within_its_bounds() -> None:
    u = draws(count=20_000).uniform("u", 4)
    assert float(u.min()) >= 0.0
    assert float(u.max()) <= 1.0
    counts = np.histogram(u.numpy(), bins=20, range=(0, 1))[0]
    assert (abs(counts - 4000) < 5 * np.sqrt(4000)).all()


def test_the_extreme_words_stay_within_the_open_interval() -> None:
    ends = unit(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert 0.0 < ends[0] < 2.0**-52
    assert 1.0 - 2.0**-52 < ends[1] < 1.0
    assert ends[0] + ends[1] == 1.0
    assert np.isfinite(np.log(ends)).all()


def test_a_name_is_drawn_once_in_a_move() -> None:
    one = draws()
    one.normal("z", 2)
    for again in (one.normal, one.uniform):
        with pytest.raises(ValueError, match="'z' is drawn twice"):
            again("z")
    one.normal("y")


def test_within_is_a_scope_of_its_own() -> None:
    one = draws()
    plain, first, second = one.normal("z"), one.within("a").normal("z"), one.within("b").normal("z")
    nested = one.within("c").within("a").normal("z")
    assert len({float(t[0]) for t in (plain, first, second, nested)}) == 4
    assert torch.equal(draws().within("a").normal("z"), first)
    assert torch.equal(draws(start=3, count=2).within("a").normal("z"), first[3:5])
    with pytest.raises(ValueError, match="a/"):
        one.within("a")


def test_no_samples_and_no_columns() -> None:
    assert draws(count=0).normal("z", 3).shape == (0, 3)
    assert draws().normal("z", 0).shape == (8, 0)


def philox(counter: int, key: int) -> list[int]:
    """Four words of Philox4x64-10, from the paper (Salmon et al., 2011, section 3.3 and table 2)."""
    mask, multipliers, weyl = 2**64 - 1, (0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
    c, k = [counter >> 64 * i & mask for i in range(4)], [key & mask, key >> 64]
    for turn in range(10):
        if turn:
            k = [(k[0] + weyl[0]) & mask, (k[1] + weyl[1]) & mask]
        p, q = multipliers[0] * c[0], multipliers[1] * c[2]
        c = [q >> 64 ^ c[1] ^ k[0], q & mask, p >> 64 ^ c[3] ^ k[1], p & mask]
    return c


@given(key=KEYS, start=st.integers(0, 10**12), per_row=st.integers(1, 9))
def test_the_words_are_those_of_the_published_generator(key: tuple[str | int, ...], start: int, per_row: int) -> None:
    blocks = -(-per_row // 4)
    expected = [
        [word for block in range(blocks) for word in philox(row * blocks + block + 1, digest(key))][:per_row]
        for row in (start, start + 1)
    ]
    assert words(key, start, 2, per_row).tolist() == expected


def test_the_numbers_are_the_same_for_good() -> None:
    """A run must resume under any later version: these never change."""
    assert digest((3, "weights"), size=7) == 4100845509352292 < 2**63
    uniform, normal = draws(start=5, count=2).uniform("u", 2), draws(start=5, count=2).normal("z", 2)
    assert uniform.flatten().tolist() == pytest.approx([0.8230168524, 0.7428588091, 0.0350012450, 0.1769204794], abs=1e-7)
    assert normal.flatten().tolist() == pytest.approx([1.3244010210, 1.7482135296, 0.1339435130, -0.8553697467], abs=1e-6)


def test_integers_are_all_as_likely_and_below_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = draws(count=30_000).integers("n", 3)
    assert numbers.dtype == torch.int64
    assert (torch.bincount(numbers, minlength=3) / 30_000 - 1 / 3).abs().max() < 0.01
    assert torch.equal(numbers, (draws(count=30_000).uniform("n") * 3).long())  # as wide as a uniform number's row
    monkeypatch.setattr(Draws, "uniform", lambda self, name: torch.ones(4))
    assert draws(count=4).integers("n", 3).tolist() == [2] * 4
