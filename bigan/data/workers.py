"""Do jobs in processes that end with the one that began them, however it ends."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar, final

Job = TypeVar("Job")
Tick = Callable[[int], None]
Work = Callable[[Job, Tick], None]
"""Does one job, and calls its second argument with how much came about since the last call, for the progress."""

_TELL_S = 0.1  # how often a worker tells of its progress: of thousands of images a second each would be a message
# Ctrl-C that comes after Python has last looked for signals, and before the wait begins, ends no wait: it is seen after this.
_LOOK_S = 1.0
# Read when the libraries load, so they must be set before a process begins: of 64 workers each would start 64 threads.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def run(work: Work[Job], jobs: Iterable[Job], workers: int, tick: Tick) -> None:
    """Do all jobs: in this process if it is to be one worker, else in processes of their own, in any order.

    Not by ProcessPoolExecutor: it can wait for ever for a worker that died before it was looked after (its manager is woken
    before the process is begun), and has no way to end workers at once. Here each worker has a pipe of its own and one job at
    a time; a pipe that ends is a worker that died.

    Args:
        work: pickles, as the jobs do, where there are several workers.
        jobs: of each, `work(job, tick)` is called; they are made as they are needed.
        workers: how many processes. They are spawned: one that has used torch or OpenMP must not be forked.
        tick: called in this process with how much came about since its last call.

    Raises:
        ValueError: a worker died.
        Exception: the first that `work` raised. The other workers end at once, as they do at Ctrl-C.
    """
    if workers == 1:
        for job in jobs:
            work(job, tick)
        return
    with _Crew(work, workers, tick) as crew:
        for job in jobs:
            crew.give(job)
        crew.finish()


@final
class _Crew:
    """The worker processes; on leaving it they end."""

    def __init__(self, work: Work, most: int, tick: Tick) -> None:
        self._work = work
        self._most = most
        self._tick = tick
        self._idle: list[Connection] = []
        self._busy: list[Connection] = []
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> "_Crew":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        for process in self._processes if error else ():
            process.kill()
        for connection in (*self._idle, *self._busy):
            connection.close()  # which ends those that wait for a job
        for process in self._processes:
            process.join()

    def give(self, job: object) -> None:
        """Hand a job to a worker, once there is one that has none."""
        if not self._idle:
            if len(self._processes) < self._most:
                self._begin()
            else:
                self._listen()
        connection = self._idle.pop()
        self._busy.append(connection)
        with self._told():
            connection.send(job)

    def finish(self) -> None:
        """Wait until all jobs are done."""
        while self._busy:
            self._listen()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._work, theirs), daemon=True)
        # The mask is inherited: Ctrl-C, which a terminal sends to all, is the first process's to answer. Beginning the
        # tracker, which the first start would do, would take it away.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _one_thread_each():
                process.start()
            self._processes.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._idle.append(ours)

    def _listen(self) -> None:
        """Take what workers tell, until one of them has done its job."""
        before = len(self._busy)
        while len(self._busy) == before:
            for connection in wait(self._busy, _LOOK_S):
                assert isinstance(connection, Connection)
                with self._told():
                    message = connection.recv()
                if isinstance(message, Exception):
                    raise message
                if message is None:
                    self._busy.remove(connection)
                    self._idle.append(connection)
                else:
                    self._tick(message)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise ValueError(
                f"workers: one of {self._most} died, perhaps killed for want of memory; take fewer of them, and the same "
                "command goes on where this one ended"
            ) from error


def _serve(work: Work, connection: Connection) -> None:
    """A worker: job after job until the pipe ends. It answers with numbers for the progress, then with None or an error."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        ticks = _Ticks(connection)
        try:
            work(job, ticks.add)
        except Exception as error:
            connection.send(_sendable(error))
        else:
            ticks.send()
            connection.send(None)


@final
class _Ticks:
    """A worker's progress, told from time to time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._count = 0
        self._told = time.monotonic()

    def add(self, count: int) -> None:
        self._count += count
        if time.monotonic() - self._told > _TELL_S:
            self.send()

    def send(self) -> None:
        self._connection.send(self._count)
        self._count, self._told = 0, time.monotonic()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """The error, with where it was raised, as far as it pickles."""
    text = traceback.format_exc()
    error.add_note(text)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(text)
    return error


@contextmanager
def _one_thread_each() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
