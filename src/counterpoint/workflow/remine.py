"""Hard negatives mined anew while a run goes on, by the encoder as it is then (Xiong et al. 2021, arXiv 2007.00808)."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.refreshed import Renewed
from counterpoint.data.schema import Row
from counterpoint.data.stream import Stream
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method
from counterpoint.modalities.text import TEXT
from counterpoint.search.cache import Cache
from counterpoint.search.mine import Mining, Problem, dense, mine
from counterpoint.train.config import TrainConfig


class Remining:
    """What the trainer calls every ``every`` steps; ``rows`` are what is to be trained on.

    The corpus is the positives of the rows. Embeddings are written to a temporary folder, a block at a time.
    Of several processes the leader mines, and the others get its negatives. Raises `ConfigError` for rows that are no
    table of pairs of texts, and for a method that takes no negatives.
    """

    def __init__(self, rows: Any, config: TrainConfig, method: Method) -> None:
        schema = rows.schema
        table = not isinstance(rows, Stream) and rows.table
        if not table or schema.kind != "pairs" or set(schema.modalities.values()) != {TEXT}:
            raise ConfigError(
                "--remine mines negatives for pairs of texts that lie in one table, and these rows are a stream, a "
                "mixture or something else. Leave --remine out."
            )
        self.every = config.remine
        self.mining = Mining(
            ranks=config.remine_ranks, ratio=config.remine_ratio, margin=config.remine_margin,
            number=config.remine_number, seed=config.seed,
        )  # fmt: skip
        anchors, positives = (rows.column(str(rows.schema.columns[p])).to_pylist() for p in ("anchor", "positive"))
        self.problem = problem = Problem.of(anchors, positives)
        if problem.candidates < self.mining.ranks[0]:
            raise ConfigError(
                f"There are {problem.candidates:,} different positives, so none has rank {self.mining.ranks[0]}. Type "
                "for instance: --remine-ranks 1 20"
            )
        _takes_negatives(method, rows[:2])
        banned = [problem.banned[problem.starts[a] : problem.starts[a + 1]] for a in problem.anchor]
        self.rows = Renewed.of(rows, problem.texts, banned)

    def renew(self, method: Any) -> dict[str, float]:
        """Mine with the method's encoder as it is; figures for the log."""
        start = time.perf_counter()
        encoder = next(iter(method.towers().values()))
        with tempfile.TemporaryDirectory(prefix="counterpoint-mine-") as aside:
            cache = Cache(Path(aside))
            blocks = dense(encoder, self.problem, cache, model="")
            found = mine(self.problem, blocks, self.mining, cache=cache, name="")
        self.rows.negatives = found.negatives
        counts = found.counts
        return {
            "mine/per_row": counts.mined / counts.pairs,
            "mine/too_like": counts.too_like / max(1, counts.looked_at),
            "mine/none": counts.none / counts.pairs,
            "mine/seconds": time.perf_counter() - start,
        }

    def state(self) -> dict[str, Tensor]:
        """The negatives in force, for the checkpoint."""
        held = self.rows.negatives
        return {"negatives": torch.from_numpy(np.empty((0, 0), dtype=np.int64) if held is None else held)}

    def load(self, state: dict[str, Tensor]) -> None:
        held = state["negatives"].numpy()
        if len(held) not in (0, len(self.rows)):
            raise ConfigError(f"The run had negatives for {len(held):,} rows, and there are {len(self.rows):,} now.")
        self.rows.negatives = held.copy() if len(held) else None


def _takes_negatives(method: Method, rows: list[Row]) -> None:
    tried = [{**row, "negatives": [row["positive"]]} for row in rows]
    if not method.views(tried, np.random.default_rng(0)).all("negative"):
        raise ConfigError(
            f"The method {method.spec.name} looks at no negatives of a row, so that --remine would change nothing. "
            "Leave it out, or choose another: --method in-batch"
        )
