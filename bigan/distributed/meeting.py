"""How the ranks of one start find each other in a store that still holds what an earlier start left.

torchrun (2.15) starts killed ranks anew on the same store, in which the addresses of the dead lie under the keys under which
gloo looks for the living: about every second restart would hang. Its count of restarts is no way to tell starts apart, as each
of several hosts counts its own.
"""

import os
import time

from torch.distributed import PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]

EVERY_S = 0.02


def start_of(store: Store, rank: int, size: int, timeout_s: float) -> Store:
    """The part of a store that only the ranks of this start know; a collective.

    Rank 0 names the start, to whoever greets it; when all have come, it tells them to go.

    Raises:
        TimeoutError: naming the ranks that have not come.
    """
    until = time.monotonic() + timeout_s
    store = PrefixStore("bigan/meeting", store)
    return _host(store, size, until) if rank == 0 else _guest(store, rank, until)


def _host(store: Store, size: int, until: float) -> Store:
    start = os.urandom(8).hex()
    greeted: set[bytes] = set()
    missing = set(range(1, size))
    while missing:
        for rank in sorted(missing):
            if store.check([f"hello/{rank}"]) and (hello := store.get(f"hello/{rank}")) not in greeted:
                store.set(f"answer/{hello.decode()}", start)  # the dead have greeted, too; nobody reads those answers
                greeted.add(hello)
        missing = {rank for rank in missing if not store.check([f"{start}/here/{rank}"])}
        _wait(until, f"{', '.join(f'rank {rank}' for rank in sorted(missing)[:8])} did not come")
    store.set(f"{start}/go", "")
    return PrefixStore(start, store)


def _guest(store: Store, rank: int, until: float) -> Store:
    hello = os.urandom(8).hex()
    store.set(f"hello/{rank}", hello)
    while True:
        if store.check([f"answer/{hello}"]):
            start = store.get(f"answer/{hello}").decode()  # of a new rank 0, if the one that answered first is dead by now
            store.set(f"{start}/here/{rank}", "")
            if store.check([f"{start}/go"]):
                return PrefixStore(start, store)
        _wait(until, "rank 0 did not come, or not all others")


def _wait(until: float, why: str) -> None:
    if time.monotonic() > until:
        raise TimeoutError(why)
    time.sleep(EVERY_S)
