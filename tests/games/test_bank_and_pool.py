"""What a game keeps of its rounds: conditions for `sample`, and old fakes for the critic."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bigan.batch import Batch
from bigan.clock import Clock, Draws
from bigan.game import Context, Round
from bigan.games.bank import Bank
from bigan.games.pool import Pool

CPU = torch.device("cpu")
BATCH = 4


def context(round: int, start: int = 0, count: int = BATCH, batches: Mapping[str, Batch] | None = None) -> Context:
    draws, clock = Draws((0, round), start, count, CPU), Clock(batch=BATCH, round=round)
    return Context(players={}, batches=batches or {}, draws=draws, clock=clock, state=nn.Module())


def numbers(batch: Batch) -> dict[str, Tensor]:
    return {"labels": batch.labels}


def after(round: int, kept: dict[str, Tensor]) -> Round:
    clock = Clock(batch=BATCH, round=round + 1)
    named = {f"critic/{name}": value for name, value in kept.items()}
    return Round(clock, dict, named, Draws((0, "after"), 0, BATCH, CPU))


def banked(size: int, rounds: int, repeat: int = 1) -> Bank:
    bank = Bank({"labels": torch.tensor(0), "images": torch.zeros(1, 2, 2, dtype=torch.uint8)}, size)
    for round in range(rounds):
        ctx = context(round)
        rows = torch.arange(BATCH) + BATCH * round
        bank.offer(ctx, {"labels": rows, "images": (rows / 10 - 1).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)})
        kept = {name: torch.cat([value, *[value + 100] * (repeat - 1)]) for name, value in ctx.kept.items()}
        bank.put(after(round, kept), "critic")
    return bank


def test_a_bank_fills_and_stays() -> None:
    assert banked(6, 1).get_buffer("labels").tolist() == [0, 1, 2, 3, 0, 0]
    for rounds in (2, 3, 9):
        assert banked(6, rounds, repeat=2).get_buffer("labels").tolist() == [0, 1, 2, 3, 4, 5]


def test_a_bank_draws_rows_that_are_there() -> None:
    bank = banked(1000, 2)
    drawn = bank.draw(context(2, count=256), "real", numbers)
    assert set(drawn["labels"].tolist()) == set(range(8))
    torch.testing.assert_close(drawn["images"][:, 0, 0, 0], drawn["labels"] / 10 - 1, atol=1 / 255, rtol=0)
    first = banked(6, 0).draw(context(0), "real", numbers)
    assert first["labels"].tolist() == [0] * BATCH


def test_a_bank_stands_back_where_the_data_are_at_hand() -> None:
    batch = Batch(torch.arange(BATCH), {"labels": torch.arange(50, 50 + BATCH)})
    assert banked(6, 2).draw(context(2, batches={"real": batch}), "real", numbers)["labels"].tolist() == [50, 51, 52, 53]
    other = banked(6, 2).draw(context(2, batches={"source": batch}), "real", numbers)
    assert set(other["labels"].tolist()) <= set(range(6))


def pooled(size: int, rounds: int, ranks: int = 1) -> tuple[Pool, list[Tensor]]:
    """Fakes are their own numbers; each rank sees its share of the batch."""
    pool, shown = Pool({"real": (1,)}, size), []
    for round in range(rounds):
        parts = [context(round, rank * BATCH // ranks, BATCH // ranks) for rank in range(ranks)]
        fakes = (torch.arange(BATCH) + BATCH * round).float().view(-1, 1)
        seen = [pool.shown(ctx, "real", part) for ctx, part in zip(parts, fakes.chunk(ranks), strict=True)]
        shown.append(torch.cat(seen).flatten())
        kept = {name: torch.cat([ctx.kept[name] for ctx in parts]) for name in parts[0].kept}
        pool.put(after(round, kept), "critic")
    return pool, shown


def test_a_pool_is_filled_first() -> None:
    pool, shown = pooled(6, 2)
    assert torch.cat(shown).tolist() == [*range(8)]
    assert pool.get_buffer("real").flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_a_pool_shows_old_fakes_half_of_the_time() -> None:
    rounds = 400
    pool, shown = pooled(8, rounds)
    old = [number < BATCH * round for round, seen in enumerate(shown) for number in seen.tolist()][8:]
    assert 0.45 < sum(old) / len(old) < 0.55
    now = pool.get_buffer("real").flatten().tolist()
    assert len(set(now)) == 8
    assert min(now) > BATCH * (rounds - 40)  # nothing stays for long


def test_what_was_shown_from_the_pool_left_it() -> None:
    pool, _ = pooled(8, 40)
    held = set(pool.get_buffer("real").flatten().tolist())
    for round in range(40, 60):
        ctx = context(round)
        fakes = (torch.arange(BATCH) + BATCH * round).float().view(-1, 1)
        seen = pool.shown(ctx, "real", fakes).flatten().tolist()
        pool.put(after(round, ctx.kept), "critic")
        taken = {number for number in seen if number < BATCH * round}
        assert taken <= held
        held = set(pool.get_buffer("real").flatten().tolist())
        assert not taken & held


def test_of_two_fakes_that_choose_one_place_the_later_stays() -> None:
    pool, _ = pooled(2, 1)
    kept = {"slot.real": torch.tensor([1, -1, 1, 0]), "pool.real": torch.tensor([[5.0], [6.0], [7.0], [8.0]])}
    pool.put(after(1, kept), "critic")
    assert pool.get_buffer("real").flatten().tolist() == [8, 7]


def test_a_pool_is_the_same_on_any_number_of_ranks() -> None:
    (one, seen), (two, others) = pooled(6, 30), pooled(6, 30, ranks=2)
    assert torch.equal(one.get_buffer("real"), two.get_buffer("real"))
    assert torch.equal(torch.cat(seen), torch.cat(others))


def test_no_pool_keeps_nothing() -> None:
    ctx, fakes = context(0), torch.ones(BATCH, 1)
    pool = Pool({"real": (1,)}, 0)
    assert pool.shown(ctx, "real", fakes) is fakes
    assert not ctx.kept
    assert not [*pool.buffers()]
