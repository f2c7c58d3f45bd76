"""Order: pairs, triplets and lists whose scores should be sorted like their relevance; values are free."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, at_least_float32, no_autocast, reduced, same_shape
from counterpoint.processes import gathered

Mining: TypeAlias = Literal["hard", "semi-hard", "all"]
Distance: TypeAlias = Literal["euclidean", "squared", "cosine"]


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _example_graded(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    a, b = _draw(seed, 2, 6, 4)
    return (a, b), {"score": torch.tensor([0.0, 1.0, 2.0, 2.0, 0.5, 3.0], dtype=torch.float64), "scale": 2.0}


def _example_margin(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    positive, negative = _draw(seed, 2, 6)
    return (positive, negative), {"margin": 8.0}


def _example_triplet(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(_draw(seed, 3, 6, 4)), {"margin": 8.0}


def _example_batch(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (_draw(seed, 6, 4),), {"labels": torch.tensor([0, 0, 1, 1, 2, 2]), "margin": 8.0}


def _example_list(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    relevance = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    return (_draw(seed, 2, 4),), {"relevance": relevance}


# --- pairs with graded scores ----------------------------------------------------------------------------------------


def pairwise_order(similarity: Tensor, score: Tensor, *, scale: float) -> Tensor:
    """``L = log(1 + Σ_{score_i > score_j} exp(scale (similarity_j - similarity_i)))``.

    similarity, score: ``(N,)``. Returns ``()``; 0 where all scores are equal (or N < 2). Memory O(N²).

    >>> right = pairwise_order(torch.tensor([0.9, 0.1]), torch.tensor([5.0, 1.0]), scale=20.0)
    >>> wrong = pairwise_order(torch.tensor([0.1, 0.9]), torch.tensor([5.0, 1.0]), scale=20.0)
    >>> round(float(right), 3), round(float(wrong), 3)
    (0.0, 16.0)
    """
    same_shape(similarity=similarity, score=score)
    similarity, score = gathered(similarity), gathered(score)
    wrong = scale * (similarity[None, :] - similarity[:, None])
    terms = wrong[score[:, None] > score[None, :]]
    nothing = similarity.sum()[None] * 0  # exp(0) = 1, and a gradient of 0 where no pair is compared
    return torch.cat([terms, nothing]).logsumexp(0)


@objective(rank=RankBehaviour.GATHER, example=_example_graded)
def cosent(a: Tensor, b: Tensor, score: Tensor, *, scale: float = 20.0) -> Tensor:
    """``L = log(1 + Σ_{score_i > score_j} exp(scale (cos_j - cos_i)))``, ``cos_i = cos(a_i, b_i)``.

    a, b: ``(N, D)`` the two sides of each pair. score: ``(N,)`` of any unit: only its order is used, equal
    scores are not compared. Returns ``()``.

    Source: Su 2022, "CoSENT", kexue.fm/archives/8847; Huang et al. 2024, IEEE/ACM TASLP 32.

    >>> a = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> b = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # cosines 1 and 0
    >>> bool(cosent(a, b, torch.tensor([5.0, 0.0])) < 1e-6), round(float(cosent(a, b, torch.tensor([0.0, 5.0]))), 3)
    (True, 20.0)
    """
    same_shape(a=a, b=b)
    return pairwise_order(F.cosine_similarity(a, b, dim=-1), score, scale=scale)


def complex_angle(a: Tensor, b: Tensor) -> Tensor:
    """``|Σ_k Re(r_k) + Im(r_k)|``, ``r_k = a_k conj(b_k) / (|a| |b|)`` of complex vectors.

    The first half of D are real parts, the second imaginary ones. The norms are those of the whole vectors,
    as in the released code, so that no coordinate is divided by almost zero. Where the imaginary halves are
    zero it is ``|cos(a, b)|``. a, b: ``(N, D)``, D even. Returns ``(N,)``.

    >>> complex_angle(torch.randn(3, 8), torch.randn(3, 8)).shape
    torch.Size([3])
    """
    same_shape(a=a, b=b)
    if a.shape[-1] % 2:
        raise DataError(f"Complex angles need an even width (real and imaginary halves); D = {a.shape[-1]} was given.")
    (x, y), (u, v) = a.chunk(2, dim=-1), b.chunk(2, dim=-1)
    quotient = (x * u + y * v) + (y * u - x * v)
    norms: Tensor = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    return (quotient.sum(-1) / norms.clamp_min(1e-12)).abs()


@objective(rank=RankBehaviour.GATHER, example=_example_graded)
def angle(a: Tensor, b: Tensor, score: Tensor, *, scale: float = 20.0) -> Tensor:
    """`cosent` with `complex_angle` instead of the cosine, which saturates near ±1.

    a, b: ``(N, D)``, D even. score: ``(N,)``. Returns ``()``. scale: of the angles, 1 / temperature. Source: Li & Li
    2024 (AnglE), arXiv 2309.12871.

    >>> z = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    >>> angle(z[0], z[1], score=torch.tensor([5.0, 4.0, 1.0, 0.0])).shape
    torch.Size([])
    """
    return pairwise_order(complex_angle(a, b), score, scale=scale)


def _nothing_to_order(similarity: Tensor, score: Tensor) -> bool:
    """Whether no pair of a batch has another score than the others."""
    return len(score) < 2 or bool((score == score[0]).all())


def _example_scores(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (_draw(seed, 6).tanh(),), {"score": torch.tensor([0.0, 1.0, 0.5, 0.5, 0.2, 0.8], dtype=torch.float64)}


@objective(rank=RankBehaviour.GATHER, example=_example_scores)
def pearson(similarity: Tensor, score: Tensor) -> Tensor:
    """``L = 1 - corr(similarity, score)``, Pearson's correlation over the batch.

    similarity, score: ``(N,)``; of scores neither unit nor zero matter. Returns ``()``, from 0 to 2; 0, with a gradient
    of 0, where all scores are equal (or N < 2). Source: CoDiEmb 2025, arXiv 2508.11442.

    >>> x = torch.tensor([1.0, 2.0, 3.0])
    >>> round(float(pearson(x, 2 * x + 1)), 4), round(float(pearson(x, -x)), 4)
    (0.0, 2.0)
    """
    same_shape(similarity=similarity, score=score)
    similarity, score = gathered(similarity), gathered(score).to(similarity)
    if _nothing_to_order(similarity, score):
        return similarity.sum() * 0
    x, y = similarity - similarity.mean(), score - score.mean()
    # The floor gives embeddings that have collapsed to one point a finite gradient instead of NaN.
    spread = (x.square().mean().clamp_min(1e-8) * y.square().mean()).sqrt()
    return 1 - (x * y).mean() / spread


def descending_ranks(score: Tensor) -> Tensor:
    """Places of scores ``(N,)`` in falling order from 0, equal ones sharing the mean of theirs: ``[3, 1, 1] -> [0, 1.5,
    1.5]``.

    score: any numbers; a higher one comes earlier.

    >>> descending_ranks(torch.tensor([3.0, 1.0, 1.0])).tolist()
    [0.0, 1.5, 1.5]
    """
    above, same = score[None, :] > score[:, None], score[None, :] == score[:, None]
    return above.sum(1).to(score) + (same.sum(1).to(score) - 1) / 2


@objective(rank=RankBehaviour.GATHER, example=_example_scores)
def rank_kl(
    similarity: Tensor, score: Tensor, *, temperature: float = 0.05, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """``L = KL(softmax(s / temperature) || softmax(similarity / temperature))``, ``s_i = (N - 1 - r_i) / (N - 1)``.

    r: `descending_ranks` of the scores, so that only their order counts, and equal ones are to be equally alike.
    similarity, score: ``(N,)``. reduction: ``mean`` divides by N, as the released code does (its weights are for that).
    Returns ``()``; 0, with a gradient of 0, where all scores are equal (or N < 2). Source: CoDiEmb 2025, arXiv
    2508.11442.

    >>> score = torch.tensor([5.0, 3.0, 1.0])
    >>> bool(rank_kl(torch.tensor([1.0, 0.5, 0.0]), score) < rank_kl(torch.tensor([0.0, 0.5, 1.0]), score))
    True
    """
    same_shape(similarity=similarity, score=score)
    similarity, score = gathered(similarity), gathered(score).to(similarity)
    if _nothing_to_order(similarity, score):
        return similarity.sum() * 0
    n = len(score)
    wanted = ((n - 1 - descending_ranks(score)) / (n - 1) / temperature).log_softmax(0)
    found = (similarity / temperature).log_softmax(0)
    return (wanted.exp() * (wanted - found)).sum() / (n if reduction == "mean" else 1)


@objective(rank=RankBehaviour.GATHER, example=_example_scores)
def pro(similarity: Tensor, score: Tensor, *, temperature: float = 0.05, margin: float = 0.0) -> Tensor:
    """Every pair against all that score lower, by how much: preference ranking over the batch as one list.

        L_k = -log( exp(w_k s_k / t) / (exp(w_k s_k / t) + Σ_{j: w_kj > margin} exp(w_kj s_j / t)) )

    with ``w_kj = score_k - score_j`` and ``w_k = max_j w_kj``; the mean over those k that score above any other.
    similarity s, score: ``(N,)``, scores from 0 to 1, as they are weights. Returns ``()``; 0, with a gradient of 0,
    where no score is above another by more than the margin (or N < 2). Memory O(N²). Source: Song et al. 2023 (PRO),
    arXiv 2306.17492, in the form of CoDiEmb 2025, arXiv 2508.11442.

    temperature: t, of the similarities.

    >>> score = torch.tensor([1.0, 0.5, 0.0])
    >>> bool(pro(torch.tensor([0.9, 0.5, 0.1]), score) < pro(torch.tensor([0.1, 0.5, 0.9]), score))
    True
    """
    same_shape(similarity=similarity, score=score)
    similarity, score = gathered(similarity), gathered(score).to(similarity)
    apart = score[:, None] - score[None, :]
    lower = apart > margin
    above = lower.any(1)
    if not len(score) or not above.any():
        return similarity.sum() * 0
    apart, lower = apart[above], lower[above]
    own = apart.amax(1) * similarity[above] / temperature
    others = (apart * similarity / temperature).masked_fill(~lower, -torch.inf)
    return (torch.cat([own[:, None], others], dim=1).logsumexp(1) - own).mean()


# --- margins and triplets --------------------------------------------------------------------------------------------


@objective(rank=RankBehaviour.LOCAL, example=_example_margin)
def margin_ranking(positive: Tensor, negative: Tensor, *, margin: float = 0.1, reduction: Reduction = "mean") -> Tensor:
    """``L_i = max(0, margin - s⁺_i + s⁻_i)``: the positive scores higher by a margin.

    positive, negative: ``(N,)`` scores. Returns ``()`` or ``(N,)``. reduction: ``mean``, or ``none`` for a loss each.
    Source: Herbrich et al. 2000, "Large margin rank boundaries for ordinal regression".

    >>> margin_ranking(torch.tensor([1.0, 0.5]), torch.tensor([0.0, 0.5]), margin=0.25, reduction="none").tolist()
    [0.0, 0.25]
    """
    same_shape(positive=positive, negative=negative)
    return reduced((margin - positive + negative).relu(), reduction)


def _from_squares(squares: Tensor, distance: Distance) -> Tensor:
    if distance not in ("euclidean", "squared"):
        raise ConfigError(f"distance={distance!r}: type euclidean, squared or cosine.")
    # At distance 0 the root has no slope; the floor gives equal rows a gradient of 0 instead of NaN.
    return squares.clamp_min(1e-16).sqrt() if distance == "euclidean" else squares


@objective(rank=RankBehaviour.LOCAL, example=_example_triplet)
def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 1.0,
    distance: Distance = "euclidean",
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = max(0, margin + d(a_i, p_i) - d(a_i, n_i))`` of given triplets.

    anchor, positive, negative: ``(N, D)``. distance: euclidean, squared (euclidean), or cosine (1 - cos). Returns
    ``()`` or ``(N,)``. reduction: ``mean``, or ``none`` for a loss each. Source: Schroff et al. 2015 (FaceNet), arXiv
    1503.03832, with squared distances of unit vectors.

    >>> a, p, n = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    >>> float(triplet(a, p, n))  # 1 + 5 - 2
    4.0
    """
    same_shape(anchor=anchor, positive=positive, negative=negative)
    if distance == "cosine":
        near, far = (1 - F.cosine_similarity(anchor, z, dim=-1) for z in (positive, negative))
    else:
        near, far = (_from_squares((anchor - z).square().sum(-1), distance) for z in (positive, negative))
    return reduced((margin + near - far).relu(), reduction)


@objective(rank=RankBehaviour.GATHER, example=_example_batch)
def batch_triplet(
    z: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    mining: Mining = "hard",
    distance: Distance = "euclidean",
) -> Tensor:
    """``mean max(0, margin + d(a, p) - d(a, n))`` over triplets found in the batch.

    mining: which triplets of anchor a, positive p (same label, another row), negative n (another label).
    hard: for each anchor the farthest positive and the nearest negative (Hermans et al. 2017, arXiv
    1703.07737). semi-hard: for each (a, p) the nearest negative that is farther than p; where none is, the
    farthest negative (Schroff et al. 2015, arXiv 1503.03832). all: every triplet, averaged over those with a
    loss above 0 (Hermans).

    z: ``(N, D)``. labels: ``(N,)``. Returns ``()``; 0 where the batch holds no triplet. Memory O(N²), "all"
    O(N³).

    distance: euclidean, squared (euclidean), or cosine (1 - cos).

    >>> z = torch.tensor([[0.0, 0.0], [0.0, 0.1], [1.0, 0.0], [1.0, 0.1]])
    >>> float(batch_triplet(z, torch.tensor([0, 0, 1, 1]))), bool(batch_triplet(z, torch.tensor([0, 1, 0, 1])) > 1)
    (0.0, True)
    """
    if labels.shape != z.shape[:1]:
        raise DataError(f"labels {tuple(labels.shape)} must hold one label per row of z {tuple(z.shape)}.")
    if mining not in ("hard", "semi-hard", "all"):
        raise ConfigError(f"mining={mining!r}: type hard, semi-hard or all.")
    z, labels = gathered(z), gathered(labels)
    with no_autocast(z):
        x = at_least_float32(z)
        if distance == "cosine":
            x = F.normalize(x, dim=-1)
            d = 1 - x @ x.T
        else:
            squares = x.square().sum(1)
            d = _from_squares((squares[:, None] + squares - 2 * x @ x.T).clamp_min(0), distance)
    same = labels[:, None] == labels
    positive, negative = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device), ~same
    valid = positive.any(1) & negative.any(1)
    d, positive, negative = d[valid], positive[valid], negative[valid]
    if not len(d):
        return z.sum() * 0
    nearest = d.masked_fill(~negative, torch.inf).amin(1)
    if mining == "hard":
        farthest = d.masked_fill(~positive, -torch.inf).amax(1)
        return (margin + farthest - nearest).relu().mean()
    anchor, other = positive.nonzero(as_tuple=True)
    near, far = d[anchor, other], d[anchor].masked_fill(~negative[anchor], torch.inf)  # (P,), (P, N)
    if mining == "all":
        loss = (margin + near[:, None] - far).relu()  # -inf where n is no negative: 0
        return loss.sum() / loss.gt(0).sum().clamp_min(1)
    beyond = far.masked_fill(far <= near[:, None], torch.inf).amin(1)
    farthest_negative = d.masked_fill(~negative, -torch.inf).amax(1)[anchor]
    return (margin + near - torch.where(beyond.isinf(), farthest_negative, beyond)).relu().mean()


# --- lists -----------------------------------------------------------------------------------------------------------


def _lists(scores: Tensor, relevance: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    same_shape(scores=scores, relevance=relevance)
    if scores.dim() != 2:
        raise DataError(f"Lists are rows of (N, L) scores; shape {tuple(scores.shape)} was given.")
    if mask is None:
        mask = torch.ones_like(scores, dtype=torch.bool)
    same_shape(scores=scores, mask=mask)
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min), relevance.to(scores.dtype), mask


@objective(rank=RankBehaviour.LOCAL, example=_example_list)
def list_net(
    scores: Tensor,
    relevance: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = -Σ_j p_ij log q_ij``, ``p = softmax(relevance)``, ``q = softmax(scores / temperature)``
    (ListNet, top one).

    scores, relevance: ``(N, L)``, one list per row. mask: ``(N, L)`` bool, False where a list has no entry. Returns
    ``()`` or ``(N,)``. reduction: ``mean``, or ``none`` for a loss each. Source: Cao et al. 2007, "Learning to rank:
    from pairwise approach to listwise approach".

    >>> relevance = torch.tensor([[2.0, 1.0, 0.0]])
    >>> bool(list_net(relevance, relevance) < list_net(relevance.flip(1), relevance))
    True
    """
    s, r, mask = _lists(scores / temperature, relevance, mask)
    p = r.masked_fill(~mask, torch.finfo(r.dtype).min).softmax(-1)
    return reduced(-(p * s.log_softmax(-1)).masked_fill(~mask, 0).sum(-1), reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example_list)
def list_mle(scores: Tensor, relevance: Tensor, *, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """``L_i = Σ_k [logsumexp_{j >= k} s_j - s_k]``, entries sorted by falling relevance.

    The negative log-likelihood of that order under Plackett and Luce. Entries of equal relevance keep the order
    given. scores, relevance: ``(N, L)``. mask: ``(N, L)`` bool, False where a list has no entry. Returns ``()`` or
    ``(N,)``. Source: Xia et al. 2008, "Listwise approach to learning to rank: theory and algorithm".

    reduction: ``mean``, or ``none`` for a loss each.

    >>> relevance = torch.tensor([[2.0, 1.0]])
    >>> round(float(list_mle(torch.tensor([[3.0, 0.0]]), relevance)), 4)  # log(1 + exp(-3))
    0.0486
    """
    s, r, mask = _lists(scores, relevance, mask)
    order = r.masked_fill(~mask, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    s, mask = s.gather(-1, order), mask.gather(-1, order)
    rest = s.flip(-1).logcumsumexp(-1).flip(-1)
    return reduced((rest - s).masked_fill(~mask, 0).sum(-1), reduction)


def _ideal_dcg(gain: Tensor) -> Tensor:
    """``(N, 1)``; 1 where nothing is relevant, so that a division by it gives 0."""
    place = torch.arange(1, gain.shape[-1] + 1, dtype=gain.dtype, device=gain.device)
    ideal = (gain.sort(dim=-1, descending=True).values / (1 + place).log2()).sum(-1, keepdim=True)
    return torch.where(ideal > 0, ideal, 1)


@objective(rank=RankBehaviour.LOCAL, example=_example_list)
def lambda_rank(
    scores: Tensor,
    relevance: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = Σ_{r_j > r_k} |ΔnDCG_jk| log2(1 + exp(-scale (s_j - s_k)))``.

    ``ΔnDCG_jk``: change of nDCG (gains ``2^r - 1``) when j and k swap their present places; a constant for
    the gradient. scores, relevance: ``(N, L)``, relevance >= 0. mask: ``(N, L)`` bool. Returns ``()`` or
    ``(N,)``; 0 for a list in which nothing differs. Source: Burges 2010, "From RankNet to LambdaRank to
    LambdaMART"; Wang et al. 2018 (LambdaLoss).

    reduction: ``mean``, or ``none`` for a loss each.

    >>> relevance = torch.tensor([[1.0, 0.0]])
    >>> bool(lambda_rank(torch.tensor([[1.0, 0.0]]), relevance) < lambda_rank(torch.tensor([[0.0, 1.0]]), relevance))
    True
    """
    s, r, mask = _lists(scores, relevance, mask)
    gain = ((2**r) - 1).masked_fill(~mask, 0)
    place = s.detach().argsort(dim=-1, descending=True, stable=True).argsort(dim=-1) + 1
    discount = 1 / (1 + place).to(s.dtype).log2()
    swap = (gain[:, :, None] - gain[:, None, :]) * (discount[:, :, None] - discount[:, None, :])
    weight = swap.abs() / _ideal_dcg(gain)[:, :, None]
    pairs = (r[:, :, None] > r[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    s = scores.masked_fill(~mask, 0)  # differences of absent entries must be finite to have a gradient of 0
    difference = (s[:, :, None] - s[:, None, :]).masked_fill(~pairs, 0)
    terms = weight * F.softplus(-scale * difference) / math.log(2)
    return reduced(terms.masked_fill(~pairs, 0).sum((1, 2)), reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example_list)
def approx_ndcg(
    scores: Tensor,
    relevance: Tensor,
    *,
    temperature: float = 0.1,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = 1 - Σ_j (2^r_j - 1) / log2(1 + place_j) / ideal``,
    ``place_j = 1 + Σ_{k≠j} σ((s_k - s_j) / temperature)``.

    Towards temperature 0 it is 1 - nDCG. scores, relevance: ``(N, L)``, relevance >= 0. mask: ``(N, L)`` bool.
    reduction: ``mean`` or ``none``. Returns ``()`` or ``(N,)``; a list without a relevant entry has no order to learn
    and counts 0. Source: Qin et al. 2010, "A general approximation framework for direct optimization of information
    retrieval measures".

    reduction: ``mean``, or ``none`` for a loss each.

    >>> relevance = torch.tensor([[3.0, 1.0, 0.0]])
    >>> round(float(approx_ndcg(torch.tensor([[9.0, 5.0, 1.0]]), relevance)), 4)  # in the ideal order
    0.0
    """
    _, r, mask = _lists(scores, relevance, mask)
    gain = ((2**r) - 1).masked_fill(~mask, 0)
    counted = mask[:, None, :] & ~torch.eye(r.shape[-1], dtype=torch.bool, device=r.device)
    s = scores.masked_fill(~mask, 0)  # differences of absent entries must be finite to have a gradient of 0
    ahead = ((s[:, None, :] - s[:, :, None]) / temperature).sigmoid().masked_fill(~counted, 0)
    place = 1 + ahead.sum(-1)
    ndcg = (gain / (1 + place).log2()).sum(-1) / _ideal_dcg(gain)[:, 0]
    return reduced((1 - ndcg).masked_fill(~gain.gt(0).any(-1), 0), reduction)
