"""Ranks that meet in a store in which other ranks have met before."""

import threading

import pytest
from torch.distributed import HashStore, PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]

from bigan.distributed.meeting import start_of


def meet(store: Store, ranks: list[int], size: int, begun: dict[int, Store], timeout_s: float = 60) -> list[threading.Thread]:
    def one(rank: int) -> None:
        begun[rank] = start_of(store, rank, size, timeout_s)

    threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in ranks]
    for thread in threads:
        thread.start()
    return threads


def together(begun: dict[int, Store]) -> None:
    for rank, store in begun.items():
        store.set(str(rank), "here")
    for store in begun.values():
        assert store.check([str(rank) for rank in begun])


def test_each_start_has_keys_of_its_own() -> None:
    store = HashStore()
    before: dict[int, Store] = {}
    for _ in range(3):
        begun: dict[int, Store] = {}
        for thread in meet(store, [2, 0, 1], 3, begun):
            thread.join()
        together(begun)
        for old in before.values():
            old.set("mine", "old")
        assert not begun[0].check(["mine"])
        before = begun


def test_a_rank_follows_the_rank_0_that_lives() -> None:
    """The one that answered first is dead: its host learned of the restart later."""
    store = HashStore()
    begun: dict[int, Store] = {}
    guest = meet(store, [1], 3, begun)
    with pytest.raises(TimeoutError, match="rank 2 did not come"):
        start_of(store, 0, 3, 0.3)
    others = meet(store, [0, 2], 3, begun)
    for thread in (*guest, *others):
        thread.join()
    together(begun)


def test_who_does_not_come_is_named() -> None:
    with pytest.raises(TimeoutError, match="rank 1, rank 2 did not come"):
        start_of(HashStore(), 0, 3, 0.05)
    with pytest.raises(TimeoutError, match="rank 0 did not come"):
        start_of(PrefixStore("x", HashStore()), 1, 3, 0.05)
