"""How an objective behaves when the batch is spread over many processes."""

from __future__ import annotations

from enum import Enum


class RankBehaviour(Enum):
    """What one process must know of the others so that many processes give the loss and the gradients of one.

    LOCAL: a mean over rows; each process computes its own, and the means are averaged by their numbers of rows.
    GATHER: every row is compared with the rows of all processes; embeddings (and what the pairing knows about
    them) are gathered, or travel around a ring. GLOBAL_STATISTIC: depends on statistics of the whole batch (a
    covariance, a marginal over prototypes), which are summed over the processes.

    >>> from counterpoint.objectives.decorrelate import vicreg
    >>> vicreg.rank is RankBehaviour.GLOBAL_STATISTIC
    True
    """

    LOCAL = "local"
    GATHER = "gather"
    GLOBAL_STATISTIC = "global statistic"
