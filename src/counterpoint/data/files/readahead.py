"""A few threads that read before what they read is asked for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

T = TypeVar("T")

_Job: TypeAlias = "tuple[Future[T], Callable[[], T]] | None"


class Readers:
    """Threads that work off what is submitted, in that order; they end with this object.

    Daemons, unlike those of `concurrent.futures`: a store that does not answer must not keep a process alive.

    threads: how many.
    """

    def __init__(self, threads: int) -> None:
        jobs: SimpleQueue[_Job] = SimpleQueue()
        self._jobs = jobs
        for _ in range(threads):
            threading.Thread(target=_work, args=(jobs,), name="counterpoint-read", daemon=True).start()
        weakref.finalize(self, _stop, jobs, threads)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """What the job returns or raises, once it has been done."""
        future: Future[T] = Future()
        self._jobs.put((future, job))
        return future


def _stop(jobs: SimpleQueue[_Job], threads: int) -> None:
    for _ in range(threads):
        jobs.put(None)


def _work(jobs: SimpleQueue[_Job]) -> None:
    while (found := jobs.get()) is not None:
        future, job = found
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)
        del found, future, job  # not kept while waiting for the next one
