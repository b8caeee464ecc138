"""What each rank tells the others of itself, through a TCPStore that none of them waits for.

A thread of its own asks the store, as a call to one whose host is gone may never return. No clocks of two hosts are compared:
a rank is quiet for as long as its count of heartbeats stands still in ours.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

EVERY_S = 1.0
CONNECTING_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Beat:
    """Where a rank is.

    Attributes:
        count: of its steps; ranks play the same ones, so who has counted less is behind.
        where: in words.
        process: host and process id.
        paused: whether it is at something long, and said so.
        waits: whether it waits for other ranks, where it knows.
        ended: "" while it runs, then "left", "lost contact", "hung: …" or "ended: …", with the reason.
        heartbeat: rises as long as it tells anything.
    """

    count: int
    where: str
    process: str
    paused: bool = False
    waits: bool = False
    ended: str = ""
    heartbeat: int = 0


class Awake:
    """Seconds in which this process ran: one that was stopped and goes on has missed nothing.

    Args:
        every_s: how often `tick` is called.
    """

    def __init__(self, every_s: float) -> None:
        self._most, self._before = 2 * every_s, time.monotonic()
        self._lock = threading.Lock()
        self.now = 0.0

    def tick(self) -> None:
        """Let the time go on."""
        with self._lock:
            before, self._before = self._before, time.monotonic()
            self.now += min(self._before - before, self._most)


class Heartbeats:
    """A rank's own heartbeats told, and the others' heard.

    Args:
        rank: this one.
        size: of the group.
        prefix: of the keys; of this start of the run alone.
        awake: the clock to measure silence by.
        mine: what to tell.
    """

    def __init__(self, rank: int, size: int, prefix: str, awake: Awake, mine: Callable[[], Beat]) -> None:
        self._rank, self._prefix, self._awake, self._mine = rank, prefix, awake, mine
        self._keys = [str(other) for other in range(size)]
        self._every_s = max(EVERY_S, size / 64)
        self._heard: dict[int, tuple[Beat, float]] = {}
        self._answered = awake.now
        self._tell, self._over, self._told = threading.Event(), threading.Event(), threading.Event()
        self._complete = False
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        self._thread.start()

    @property
    def others(self) -> Mapping[int, tuple[Beat, float]]:
        """Rank → what it told last, and for how many seconds it has been quiet."""
        now = self._awake.now
        return {rank: (beat, now - since) for rank, (beat, since) in sorted(self._heard.items())}

    @property
    def silence_s(self) -> float:
        """For how many seconds the store has not answered."""
        return self._awake.now - self._answered

    @property
    def quiet_s(self) -> float:
        """After so many seconds without a heartbeat a rank says nothing."""
        return 3 * self._every_s

    def tell(self, wait_s: float) -> None:
        """Tell at once what is new, and hear; wait for it no longer than so many seconds."""
        self._told.clear()
        self._tell.set()
        self._told.wait(wait_s)

    def close(self, wait_s: float) -> None:
        """Tell a last time."""
        self._over.set()
        self._tell.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        store: Store | None = None
        number = 0
        while True:
            over = self._over.is_set()
            self._tell.clear()
            try:
                store = store or self._connected()
                number += 1
                store.set(self._keys[self._rank], json.dumps({**asdict(self._mine()), "heartbeat": number}))
                self._hear(store)
                self._answered = self._awake.now
                self._told.set()
            except (RuntimeError, OSError):  # no network, or no host: the watchdog sees that nothing is heard
                store = None
            if over:
                return
            self._tell.wait(self._every_s)

    def _connected(self) -> Store:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=CONNECTING_S), wait_for_workers=False)
        return PrefixStore(self._prefix, store)

    def _hear(self, store: Store) -> None:
        self._complete = self._complete or store.check(self._keys)
        keys = [key for key in self._keys if self._complete or store.check([key])]  # to ask for one that is not there waits
        for key, value in zip(keys, store.multi_get(keys), strict=True):
            rank, beat = int(key), Beat(**json.loads(value))
            if rank == self._rank:
                continue
            if rank not in self._heard or self._heard[rank][0].heartbeat != beat.heartbeat:
                self._heard[rank] = beat, self._awake.now
