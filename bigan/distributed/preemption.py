"""Asking a run to stop: Ctrl-C, SIGTERM and SIGUSR1 end it after the round, with a save; a second Ctrl-C ends it at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether this process was asked to stop, and by which signal first: torchrun sends SIGTERM after a second Ctrl-C."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def number(self) -> int:
        """The signal, or 0: the highest over the ranks says whether one of them was asked, and by what."""
        return self.signal or 0


@contextmanager
def listening() -> Iterator[Stop]:
    """Within, the signals raise a flag instead of ending the process."""
    stop = Stop()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = stop.signal or number

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
