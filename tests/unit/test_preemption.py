"""Which signal a wish to stop is told by."""

import os
import signal

import pytest

from bigan.distributed.preemption import listening


@pytest.mark.parametrize(
    ("numbers", "kept"),
    [
        ([signal.SIGINT, signal.SIGTERM], signal.SIGINT),
        ([signal.SIGTERM, signal.SIGUSR1], signal.SIGTERM),
        ([signal.SIGUSR1, signal.SIGTERM], signal.SIGUSR1),
    ],
)
def test_the_first_signal_is_kept(numbers: list[int], kept: int) -> None:
    with listening() as stop:
        assert (stop.asked, stop.number) == (False, 0)
        for number in numbers:
            os.kill(os.getpid(), number)
        assert (stop.asked, stop.number) == (True, kept)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_another_signal_ends_at_once(first: int) -> None:
    with listening():
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
