from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import torch.distributed as dist

from counterpoint.train.rendezvous import attempt


def meet(store: dist.Store, world: int) -> set[str]:
    """The names that the processes of one attempt agree on; process 0 comes last, after stale answers were read."""
    with ThreadPoolExecutor(world) as pool:
        return set(pool.map(lambda r: attempt(store, r, world), range(world - 1, -1, -1), timeout=20))


def test_all_agree_and_never_on_what_the_dead_left() -> None:
    store = dist.HashStore()
    names = [meet(store, 3) for _ in range(3)]
    assert all(len(name) == 1 for name in names)
    assert len(set.union(*names)) == 3


def test_a_process_that_died_before_it_was_heard_is_not_met() -> None:
    store = dist.HashStore()
    store.set("meeting/word/1", "of the dead")
    store.set("meeting/answer", json.dumps({"name": "old", "heard": {"1": "of the dead"}}))
    store.set("meeting/agreed/1", "old")
    [name] = meet(store, 2)
    assert name != "old"


def test_alone() -> None:
    assert attempt(dist.HashStore(), 0, 1)
