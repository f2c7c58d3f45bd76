"""Batches of several sources in turn: each batch from one source, each source as often as its size, tempered, says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from counterpoint.data.sampler import Sampler
from counterpoint.errors import ConfigError, DataError

ALPHA = 0.5
"""Usual exponent: a source a hundred times as large comes ten times as often."""


class Mixture(Sampler):
    """Every batch from one source, a source with n batches of rows ``p ∝ n^alpha`` of the time.

    alpha: 1: by size, each row once per epoch; 0: all sources equally often; between: small sources come more often
    than by size, and their rows again (Conneau & Lample 2019, arXiv 1901.07291, of languages, with 0.5). samplers: of
    each source, the batches of its rows, which may be of unlike sizes; members: the positions of those rows, ``(n,)``
    each; names: of the sources, for errors.

    An epoch has as many batches as those of all sources; how many of them a source gets is the nearest whole number,
    but at least 1, and their order is drawn. In each epoch a source begins a new pass in a new order, so that rows of a
    source too large for its share are all equally likely to come. A batch holds rows of its source alone, so with many
    processes the parts of a batch are of one source too.
    """

    def __init__(
        self,
        samplers: Sequence[Sampler],
        members: Sequence[np.ndarray],
        *,
        alpha: float = ALPHA,
        seed: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ConfigError(
                f"mix={alpha:g}: expected 0 (all sources equally often) to 1 (by their size), for example mix={ALPHA}."
            )
        super().__init__(sum(map(len, members)), max(s.batch for s in samplers), seed=seed)
        self.samplers, self.members, self.alpha = tuple(samplers), tuple(members), alpha
        self.made = np.array([len(s) for s in samplers])
        if len(empty := np.flatnonzero(self.made == 0)):
            s = int(empty[0])
            raise DataError(
                f"Source {names[s] if len(names) else s} has {len(members[s]):,} rows, which make no batch of "
                f"{samplers[s].batch:,}. Lower its batch, or leave it out."
            )
        self.counts = tempered(self.made, alpha)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        given = [self._of(s, epoch) for s in range(len(self.samplers))]
        for s in self.rng(epoch).permutation(np.repeat(np.arange(len(self.counts)), self.counts)):
            yield next(given[s])

    def settings(self) -> dict[str, Any]:
        return {"mix": self.alpha, "batches": [s.batch for s in self.samplers], "of": self.made.tolist()}

    def _of(self, source: int, epoch: int) -> Iterator[np.ndarray]:
        """The batches of a source in an epoch, pass after pass: it has passes of its own for every epoch."""
        sampler = self.samplers[source]
        passes = -(-int(self.counts[source]) // int(self.made[source]))
        for number in count(passes * epoch):
            for batch in sampler.batches(number):
                yield self.members[source][batch]


def tempered(made: np.ndarray, alpha: float) -> np.ndarray:
    """Of as many batches as all sources make, ``(S,)``, how many each gets: the nearest whole numbers, at least 1.

    made: ``(S,)`` batches of each source. alpha: 1 leaves them as they are, 0 gives all the same.
    """
    share = made.astype(np.float64) ** alpha
    wanted = share / share.sum() * made.sum()
    found = np.maximum(np.floor(wanted).astype(np.int64), 1)
    for _ in range(int(made.sum() - found.sum())):  # what rounding left goes to the largest remainders
        found[np.argmax(wanted - found)] += 1
    return found
