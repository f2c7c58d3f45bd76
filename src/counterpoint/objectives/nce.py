"""Noise-contrastive estimation: an item of the data against items of a noise distribution, by scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, reduced, same_shape, weighted


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    random = torch.Generator().manual_seed(seed)
    scores, noise = (torch.randn(6, 4, dtype=torch.float64, generator=random) for _ in range(2))
    noise = noise.log_softmax(1)
    return (scores[:, 0], scores[:, 1:]), {"log_noise": noise[:, 0], "log_noise_negatives": noise[:, 1:]}


def _example_pair(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    x = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (x[0], x[1]), {}


def _corrected(
    positive: Tensor, negatives: Tensor, log_noise: Tensor | None, log_noise_negatives: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores less the logarithm of their noise probability, where that is given."""
    if positive.ndim != 1 or negatives.ndim != 2 or len(negatives) != len(positive):
        raise DataError(
            f"positive has shape {tuple(positive.shape)} and negatives {tuple(negatives.shape)}; expected (N,) scores "
            "of the true items and (N, K) of the noise."
        )
    if (log_noise is None) != (log_noise_negatives is None):
        raise DataError("Give the noise's log-probabilities of the positives and of the negatives, or neither.")
    if log_noise is None or log_noise_negatives is None:
        return positive, negatives
    same_shape(positive=positive, log_noise=log_noise)
    same_shape(negatives=negatives, log_noise_negatives=log_noise_negatives)
    if (log_noise == -torch.inf).any() or (log_noise_negatives == -torch.inf).any():
        raise DataError(
            "The noise gives an item the probability 0, though it occurs: smooth the noise distribution (add one to "
            "every count)."
        )
    return positive - log_noise, negatives - log_noise_negatives


@objective(rank=RankBehaviour.LOCAL, example=_example)
def binary_nce(
    positive: Tensor,
    negatives: Tensor,
    *,
    log_noise: Tensor | None = None,
    log_noise_negatives: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = -log σ(ŝ⁺_i) - Σ_k log(1 - σ(ŝ⁻_ik))``, ``ŝ = s - log(K p_N)``: is this item of the data, or noise?

    Without the noise's probabilities ŝ = s: negative sampling, which learns what sets data apart from noise, no
    normalised model. positive: ``(N,)`` scores of true items. negatives: ``(N, K)`` scores of items drawn from p_N.
    log_noise ``(N,)``, log_noise_negatives ``(N, K)``: log p_N of them. reduction: ``mean`` or ``none``. Returns ``()``
    or ``(N,)``.

    With the negatives of a batch this is `contrast` with ``form="sigmoid"``. Raises `DataError` for p_N = 0.
    Source: Gutmann & Hyvärinen 2010; negative sampling: Mikolov et al. 2013, arXiv 1310.4546, eq. 4.

    reduction: ``mean``, or ``none`` for a loss each.

    >>> round(float(binary_nce(torch.zeros(1), torch.zeros(1, 3))), 4)  # 4 log 2
    2.7726
    """
    s, t = _corrected(positive, negatives, log_noise, log_noise_negatives)
    if log_noise is not None:
        log_k = torch.tensor(float(max(1, t.shape[1]))).log().to(s)
        s, t = s - log_k, t - log_k
    return reduced(F.softplus(-s) + F.softplus(t).sum(1), reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example)
def ranking_nce(
    positive: Tensor,
    negatives: Tensor,
    *,
    log_noise: Tensor | None = None,
    log_noise_negatives: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = -log [exp ŝ⁺_i / (exp ŝ⁺_i + Σ_k exp ŝ⁻_ik)]``, ``ŝ = s - log p_N``: which of these is of the data?

    It needs no normalised model, and is consistent where `binary_nce` is not (Ma & Collins 2018, arXiv 1809.01812).
    With uniform noise it is the softmax over the given candidates (InfoNCE). positive ``(N,)``, negatives ``(N, K)``,
    log_noise ``(N,)``, log_noise_negatives ``(N, K)``: as there. reduction: ``mean`` or ``none``. Returns ``()`` or
    ``(N,)``.

    reduction: ``mean``, or ``none`` for a loss each.

    Source: Józefowicz et al. 2016, arXiv 1602.02410, section 3.1.

    >>> round(float(ranking_nce(torch.zeros(1), torch.zeros(1, 3))), 4)  # log 4
    1.3863
    """
    s, t = _corrected(positive, negatives, log_noise, log_noise_negatives)
    return reduced(torch.cat((s[:, None], t), 1).logsumexp(1) - s, reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example_pair)
def js_bound(positive: Tensor, negative: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``L_i = softplus(-s⁺_i) + mean_k softplus(s⁻_ik)``: a bound on the Jensen-Shannon divergence of the joint
    distribution and the product of its marginals, from scores of pairs that belong together and of pairs that do not.

    positive: ``(N,)``. negative: ``(N,)``, or ``(N, K)``. Returns ``()`` or ``(N,)``. reduction: ``mean``, or ``none``
    for a loss each. Source: Hjelm et al. 2019 (Deep InfoMax), arXiv 1808.06670, eq. 4.

    >>> apart, alike = js_bound(torch.tensor([9.0]), torch.tensor([-9.0])), js_bound(torch.zeros(1), torch.zeros(1))
    >>> round(float(apart), 3), round(float(alike), 3)
    (0.0, 1.386)
    """
    if positive.ndim != 1 or negative.shape[:1] != positive.shape or negative.ndim > 2:
        raise DataError(
            f"positive has shape {tuple(positive.shape)} and negative {tuple(negative.shape)}; expected (N,) and (N,) "
            "or (N, K) scores."
        )
    apart = F.softplus(negative)
    return reduced(F.softplus(-positive) + (apart.mean(1) if apart.ndim == 2 else apart), reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example_pair)
def residual_energy(real: Tensor, generated: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``L_i = -log σ(-E(x⁺_i)) - log σ(E(x⁻_i))``: the energy E of a text corrects a language model,
    ``P(x) ∝ P_LM(x) exp(-E(x))``.

    The noise is the language model itself, so its probabilities cancel. real, generated: ``(N,)`` energies of texts and
    of samples of the model. Where these cannot be told apart there is nothing to learn: 2 log 2. Returns ``()`` or
    ``(N,)``. Source: Deng et al. 2020, arXiv 2004.11714, eq. 3.

    reduction: ``mean``, or ``none`` for a loss each.

    >>> round(float(residual_energy(torch.zeros(2), torch.zeros(2))), 4)  # 2 log 2
    1.3863
    """
    same_shape(real=real, generated=generated)
    return reduced(F.softplus(real) + F.softplus(-generated), reduction)


def _example_tokens(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    random = torch.Generator().manual_seed(seed)
    scores, noise = (torch.randn(6, 4, dtype=torch.float64, generator=random) for _ in range(2))
    mask = torch.arange(4) < torch.tensor([4, 1, 3, 2, 4, 2]).unsqueeze(1)
    replaced = torch.rand(6, 4, generator=random) < 0.4
    return (scores,), {"replaced": replaced, "log_noise": noise - 2, "ratio": 0.15, "mask": mask}


@objective(rank=RankBehaviour.LOCAL, example=_example_tokens)
def token_nce(
    scores: Tensor,
    replaced: Tensor,
    *,
    log_noise: Tensor | None = None,
    ratio: float = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``-log σ(ŝ_t)`` of tokens that are real and ``-log(1 - σ(ŝ_t))`` of those that were replaced, the mean over the
    tokens of the batch; ``ŝ = s - log(ratio p_N(x_t | context))``.

    Without log_noise ŝ = s: replaced-token detection (ELECTRA). With it, -s is the energy of a token in its place and
    the scores tend to its log-probability (Electric). scores: ``(B, T)``. replaced: ``(B, T)`` bool. log_noise:
    ``(B, T)``, log-probability that the generator gives to the token that stands there. ratio: share of the tokens that
    are replaced. mask: ``(B, T)`` bool, True where a token is real (None: everywhere). Returns ``()``, or ``(B,)``
    means of the sequences. Source: Clark et al. 2020, arXiv 2003.10555 and arXiv 2012.08561, eq. 4.

    reduction: ``mean``, or ``none`` for a loss each.

    >>> scores, replaced = torch.tensor([[9.0, -9.0]]), torch.tensor([[False, True]])
    >>> round(float(token_nce(scores, replaced)), 3), round(float(token_nce(-scores, replaced)), 3)
    (0.0, 9.0)
    """
    if log_noise is not None:
        same_shape(scores=scores, log_noise=log_noise)
    mask = torch.ones_like(replaced, dtype=torch.bool) if mask is None else mask
    same_shape(scores=scores, replaced=replaced, mask=mask)
    if replaced.dtype != torch.bool or scores.ndim != 2 or not 0 < ratio <= 1:
        raise DataError(
            f"scores {tuple(scores.shape)}, replaced of {replaced.dtype}, ratio={ratio}: expected (B, T) scores, "
            "torch.bool, and a share above 0 and at most 1."
        )
    if log_noise is not None:
        if ((log_noise == -torch.inf) & mask).any():
            raise DataError("The generator gives a token that stands there the probability 0; smooth it.")
        scores = scores - (log_noise + torch.tensor(ratio).log().to(scores))
    values = F.softplus(torch.where(replaced, scores, -scores)).masked_fill(~mask, 0.0)
    count = mask.sum(1)
    return weighted(values.sum(1) / count.clamp_min(1), count, reduction)
