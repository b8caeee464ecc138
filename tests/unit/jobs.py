"""`python jobs.py JOBS`: runs jobs such as `sleep:1000 die` in two processes, and prints what came of it."""

import os
import signal
import sys
import time
from collections.abc import Callable

from bigan.data.workers import run

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def say(*words: object) -> None:
    os.write(1, f"{' '.join(map(str, words))}\n".encode())  # at once, for two processes write there


def work(job: str, tick: Callable[[int], None]) -> None:
    what, _, argument = job.partition(":")
    if what == "say":
        masked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        say(os.getpid(), *(os.environ.get(name) for name in THREADS), masked)
    elif what == "sleep":
        say(os.getpid())
        time.sleep(float(argument))
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "raise":
        raise OSError(28, argument)
    tick(1)


def main() -> None:
    ticks: list[int] = []
    large = "x" * 10**6  # more than a pipe holds
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where tests run in the background of a shell
    try:
        run(work, [f"{job}" if job != "large" else f"large:{large}" for job in sys.argv[1].split()], 2, ticks.append)
    except KeyboardInterrupt:
        print("interrupted")
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}")
    print("ticks", sum(ticks), *(os.environ.get(name) for name in THREADS))


if __name__ == "__main__":
    main()
