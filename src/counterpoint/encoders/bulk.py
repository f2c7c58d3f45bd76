"""Many items at once: what was given as a sequence, batches of like length, and threads that share them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import chain
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.batch import Data
from counterpoint.errors import DataError, ItemError


@contextmanager
def placed(index: Sequence[int] | np.ndarray, of: int) -> Iterator[None]:
    """Inside, the items at ``index`` of so many are collated: an error names the place among all of them."""
    try:
        yield
    except ItemError as error:
        raise error.at(int(index[error.place]), of) from error


def is_vector(items: Any) -> bool:
    """Whether something is one row of numbers: an array ``(T,)``, or a list whose first entry is a number.

    items: whatever was given.
    """
    if isinstance(items, np.ndarray | Tensor):
        return items.ndim == 1 and (isinstance(items, Tensor) or items.dtype.kind in "iufb")
    return isinstance(items, list | tuple) and bool(items) and isinstance(items[0], Real)


def sequence(items: Any) -> Sequence[Any]:
    """What was given as a sequence: lists, tuples, arrays and other sequences as they are; a column of a data frame,
    an Arrow array and whatever else can be gone through once as a list.

    items: whatever was given.
    """
    if isinstance(items, Sequence | np.ndarray | Tensor) and getattr(items, "ndim", 1):
        return items  # type: ignore[return-value]  # an array can be asked for its length and for a place
    given = type(items).__name__
    if isinstance(items, set | frozenset):
        raise DataError(f"A {given} has no order, so nobody could tell whose embedding is whose. Give a list.")
    if hasattr(items, "columns") or hasattr(items, "column_names"):
        raise DataError(f"A {given} is a table: give one of its columns, as in encode(list(table['text'])).")
    if hasattr(items, "to_pylist"):
        return items.to_pylist()  # type: ignore[no-any-return]
    if isinstance(items, Iterable) and getattr(items, "ndim", 1):
        return list(items)
    raise DataError(f"One {given} was given, where an item or a list of items is expected.")


def each(run: Callable[[np.ndarray, Data], None], batches: Iterator[tuple[np.ndarray, Data]], workers: int) -> None:
    """Run every batch, on several threads of one core each where there is more than one batch.

    run: on positions and data of one. batches: positions and data. workers: threads.
    """
    first = next(batches, None)
    second = next(batches, None) if workers > 1 else None
    if first is None or second is None:
        for batch in (first, *batches) if first is not None else ():
            run(*batch)
        return
    threads = torch.get_num_threads()
    pending: set[Future[None]] = set()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for batch in chain((first, second), batches):
                pending.add(pool.submit(run, *batch))
                if len(pending) >= 2 * workers:  # collated batches wait in memory: not too many
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            for future in pending:
                future.result()
    finally:
        torch.set_num_threads(threads)  # part of the setting is the process's, not the thread's


def buckets(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Index arrays of items of like length, longest first, each at most ``budget`` padded units (or one item).

    lengths: ``(N,)``, the cost of each item.
    """
    order = np.argsort(-lengths, kind="stable")
    out: list[np.ndarray] = []
    start = 0
    while start < len(order):
        n = max(1, budget // max(1, int(lengths[order[start]])))
        out.append(order[start : start + n])
        start += n
    return out
