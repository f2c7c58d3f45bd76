"""How processes that a launcher starts again find each other, and not those that have died.

The launcher's key-value store outlives the processes, and what they wrote there under the names of their ranks: whoever
comes back first reads the addresses of the dead. So each attempt gets a name of its own, which all its processes agree
on here. (The number of restarts is no such name: the launchers of several machines may count differently.)
"""

from __future__ import annotations

import json
import time
import uuid

import torch.distributed as dist

PAUSE = 0.02
"""Seconds between two looks at the store."""


def attempt(store: dist.Store, rank: int, world: int) -> str:
    """A name that the living processes share, and no earlier attempt had. All of them call this.

    Each of the others writes a word of its own, new in every attempt; process 0 publishes its own word together with
    those that it reads. Who finds its own word there knows that process 0 lives, as a dead one could not have read it.

    store: that all reach. rank: of this process. world: how many there are.
    """
    mine = uuid.uuid4().hex
    if rank:
        store.set(f"meeting/word/{rank}", mine)
        while (answer := json.loads(store.get("meeting/answer")))["heard"].get(str(rank)) != mine:
            time.sleep(PAUSE)
        name: str = answer["name"]
        store.set(f"meeting/agreed/{rank}", name)
        return name
    others = range(1, world)
    heard: dict[str, str] = {}
    while True:
        now = {str(r): store.get(f"meeting/word/{r}").decode() for r in others}
        if now != heard:
            store.set("meeting/answer", json.dumps({"name": mine, "heard": now}))
            heard = now
        keys = [f"meeting/agreed/{r}" for r in others]
        if store.check(keys) and all(store.get(key).decode() == mine for key in keys):
            return mine
        time.sleep(PAUSE)
