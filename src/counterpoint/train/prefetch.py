"""The batches of each step, the next one made in a background thread while the current one trains."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(make: Callable[[int], T], first: int, last: int, *, threaded: bool = True) -> Iterator[T]:
    """``make(first) ... make(last)`` in order, one ahead of the consumer in one thread; its exceptions are raised here.

    The thread is a daemon: a source that hangs (a network stream) must not keep an interrupted process alive.

    make: what is wanted, by number. first, last: numbers, both included. threaded: False makes each when it is asked
    for.
    """
    if not threaded:
        yield from map(make, range(first, last + 1))
        return
    asked: SimpleQueue[int | None] = SimpleQueue()
    ready: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def work() -> None:
        while (step := asked.get()) is not None:
            try:
                ready.put((make(step), None))
            except BaseException as error:
                ready.put((None, error))

    thread = threading.Thread(target=work, name="counterpoint-feed", daemon=True)
    thread.start()
    try:
        asked.put(first)
        for step in range(first, last + 1):
            value, error = ready.get()
            if error is not None:
                raise error
            if step < last:
                asked.put(step + 1)
            yield value
    finally:
        asked.put(None)
        thread.join(timeout=1.0)
