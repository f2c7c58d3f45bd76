"""Agreement of two embeddings coordinate by coordinate, each read as a distribution over its own coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, reduced, same_shape


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)), {"temperature": 0.5}


@objective(rank=RankBehaviour.LOCAL, example=_example)
def coordinate_kl(
    x: Tensor,
    target: Tensor,
    *,
    temperature: float = 1.0,
    stop_gradient: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = T Σ_d p_id (log p_id - log q_id)``, ``p = softmax_d(target / T)``, ``q = softmax_d(x / T)``.

    x, target: ``(N, D)``, as they are: their length counts. Gradients reach both, the target's only unless
    ``stop_gradient``. Returns ``()`` or ``(N,)``; 0 where the distributions are equal. `kl_distillation` differs: a
    factor T², and never a gradient to the teacher. reduction: ``mean``, or ``none`` for a loss each. temperature: T.

    Source: Li et al. 2024 (2DMSE), arXiv 2402.14776, with the scale of the released code.

    >>> x = torch.tensor([[1.0, 2.0, 3.0]])
    >>> float(coordinate_kl(x, x)), round(float(coordinate_kl(x, x.flip(1))), 4)
    (0.0, 1.1504)
    """
    same_shape(x=x, target=target)
    if temperature <= 0:
        raise ConfigError(f"A temperature is positive; {temperature} was given.")
    if stop_gradient:
        target = target.detach()
    log_p, log_q = ((z / temperature).log_softmax(-1) for z in (target, x))
    return reduced(temperature * (log_p.exp() * (log_p - log_q)).sum(-1), reduction)
