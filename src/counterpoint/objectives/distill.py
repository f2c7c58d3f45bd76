"""Distillation: a student learns margins, distributions or embeddings; no gradient reaches the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, reduced, same_shape, weighted


def _example_margin(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    sp, sn, tp, tn = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (sp, sn), {"teacher_positive": tp, "teacher_negative": tn}


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    s, t = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (s,), {"teacher": t}


@objective(rank=RankBehaviour.LOCAL, example=_example_margin)
def margin_mse(
    positive: Tensor,
    negative: Tensor,
    teacher_positive: Tensor,
    teacher_negative: Tensor,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = ((s⁺_i - s⁻_i) - (t⁺_i - t⁻_i))²``: the student's margins are the teacher's; levels are free.

    positive, teacher_positive: ``(N,)`` scores of (query, positive). negative, teacher_negative: ``(N,)``, or ``(N,
    K)`` for K negatives each (L_i is then the mean over K). Returns ``()`` or ``(N,)``. reduction: ``mean``, or
    ``none`` for a loss each.

    Source: Hofstätter et al. 2020, arXiv 2010.02666, eq. 2.

    >>> student, teacher = (torch.tensor([9.0]), torch.tensor([7.0])), (torch.tensor([3.0]), torch.tensor([0.0]))
    >>> float(margin_mse(*student, *teacher))  # ((9 - 7) - (3 - 0))²
    1.0
    """
    same_shape(positive=positive, teacher_positive=teacher_positive)
    same_shape(negative=negative, teacher_negative=teacher_negative)
    if negative.dim() == 2:
        positive, teacher_positive = positive[:, None], teacher_positive[:, None]
    same_shape(positive=positive.expand_as(negative), negative=negative)
    error = ((positive - negative) - (teacher_positive - teacher_negative).detach()).square()
    return reduced(error.flatten(1).mean(1) if error.dim() == 2 else error, reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example)
def kl_distillation(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = T² Σ_j p_ij (log p_ij - log q_ij)``, ``p = softmax(teacher / T)``, ``q = softmax(student / T)``.

    The factor T² keeps the size of the gradient where T changes. student, teacher: ``(N, L)`` scores or logits of one
    list per row. mask: ``(N, L)`` bool, False where a list has no entry; a row without entries counts 0. reduction:
    ``mean`` or ``none``. temperature: of both softmaxes. Returns ``()`` or ``(N,)``; 0 where the distributions are
    equal.

    reduction: ``mean``, or ``none`` for a loss each. temperature: T > 0.

    Source: Hinton et al. 2015, arXiv 1503.02531.

    >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
    >>> equal, opposed = kl_distillation(teacher + 5, teacher), kl_distillation(-teacher, teacher, temperature=2.0)
    >>> float(equal), round(float(opposed), 4)
    (0.0, 1.2806)
    """
    same_shape(student=student, teacher=teacher)
    if temperature <= 0:
        raise ConfigError(f"A temperature is positive; {temperature} was given.")
    s, t = student / temperature, teacher.detach() / temperature
    if mask is not None:
        same_shape(student=student, mask=mask)
        # The lowest finite number, not -inf: a row of -inf alone would be NaN, and 0·inf too.
        s = s.masked_fill(~mask, torch.finfo(s.dtype).min)
        t = t.masked_fill(~mask, torch.finfo(t.dtype).min)
    log_p, log_q = t.log_softmax(-1), s.log_softmax(-1)
    terms = log_p.exp() * (log_p - log_q)
    if mask is not None:
        terms = terms.masked_fill(~mask, 0)
    return reduced(temperature**2 * terms.sum(-1), reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example)
def embedding_mse(student: Tensor, teacher: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``L_i = Σ_d (s_id - t_id)² / D``: the student's embedding is the teacher's.

    student, teacher: ``(N, D)``. Returns ``()`` or ``(N,)``. reduction: ``mean``, or ``none`` for a loss each. Source:
    Reimers & Gurevych 2020, arXiv 2004.09813.

    >>> float(embedding_mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]])))
    2.0
    """
    same_shape(student=student, teacher=teacher)
    return reduced((student - teacher.detach()).square().mean(-1), reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example)
def embedding_cosine(student: Tensor, teacher: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``L_i = 1 - cos(s_i, t_i)``: the directions agree, lengths are free.

    student, teacher: ``(N, D)``. Returns ``()`` or ``(N,)``; in [0, 2]. reduction: ``mean``, or ``none`` for a loss
    each. Source: Sanh et al. 2019 (DistilBERT), arXiv 1910.01108.

    >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> embedding_cosine(3 * teacher.flip(0), teacher, reduction="none").tolist()
    [1.0, 1.0]
    """
    same_shape(student=student, teacher=teacher)
    return reduced(1 - F.cosine_similarity(student, teacher.detach(), dim=-1), reduction)


def binary_logit(logits: Tensor) -> Tensor:
    """Two logits ``(N, 2)`` as the one ``(N,)`` that says the same: ``sigmoid(l_1 - l_0) = softmax(l)_1``.

    logits: of the classes 0 and 1. Raises `DataError` for another shape.

    >>> logits = torch.tensor([[0.5, 2.0]])
    >>> bool(torch.isclose(binary_logit(logits).sigmoid(), logits.softmax(-1)[:, 1]))
    True
    """
    if logits.dim() != 2 or logits.shape[1] != 2:
        raise DataError(f"Logits of shape {tuple(logits.shape)} were given; two classes have (N, 2).")
    return logits[:, 1] - logits[:, 0]


@objective(rank=RankBehaviour.LOCAL, example=_example)
def logit_mse(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """``L_i = Σ_c (s_ic - t_ic)²``: the student's logits are the teacher's; no softmax, no temperature.

    student, teacher: ``(N, C)``, classes in the same order. mask: ``(N,)`` bool, False where the teacher has said
    nothing: such a row counts for nothing, and the mean is over the others. Returns ``()`` or ``(N,)``. reduction:
    ``mean``, or ``none`` for a loss each.

    Sources: Ba & Caruana 2014, arXiv 1312.6184; summed over the classes as in Barkan et al. 2019 (DSE), arXiv
    1908.05161.

    >>> student, teacher = torch.tensor([[1.0, 0.0], [5.0, 5.0]]), torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    >>> float(logit_mse(student, teacher, mask=torch.tensor([True, False])))  # the teacher says nothing of row 1
    5.0
    """
    same_shape(student=student, teacher=teacher)
    if mask is None:
        return reduced((student - teacher.detach()).square().sum(-1), reduction)
    same_shape(student=student[:, 0], mask=mask)
    # Replaced before the difference: the teacher's missing logits may be NaN.
    target = torch.where(mask[:, None], teacher.detach(), student.detach())
    return weighted((student - target).square().sum(-1), mask, reduction)


LARGE = 20.0
"""A logit above which a squared error is about size, not about order."""


def advice_on_scale(logits: Tensor, scores: Tensor | None = None, *, divided_by: float = 1.0) -> str:
    """A sentence where a teacher's logits are of another size than what they stand beside; '' where all is well.

    logits: ``(N, C)``, NaN where it says nothing. scores: ``(N,)`` that the same head is to learn as numbers, NaN where
    there is none (None: what is looked at is whether the logits are too large). divided_by: what they were divided by.

    >>> advice_on_scale(torch.tensor([[1.0, -1.0], [0.5, -0.5]]), torch.tensor([1.0, 0.0]))
    ''
    """
    if scores is None:
        if not (large := logits.abs().nan_to_num().max()) > LARGE:
            return ""
        spread = logits[~logits.isnan()].std() * divided_by
        return (
            f"The teacher is very sure (a logit of {large:.0f}), so its error is about size more than about "
            f"order. Its logits spread by {spread:.1f}: --set logit_scale={spread:.1f} evens them out."
        )
    both = ~scores.isnan() & ~logits.isnan().any(1)
    t, y = logits[both, 0], scores[both]
    if len(y) < 2 or not (t.mean() - y.mean()).abs() > 2 * y.std():
        return ""
    return (
        f"Scores are about {y.mean():.2f} and the teacher's about {t.mean():.2f}: the two terms pull apart. Bring the "
        "scores to the teacher's scale, or learn from it alone: --set weight=1."
    )


def head_logits(teacher: Tensor, out: int, *, classes: Sequence[int] = ()) -> Tensor:
    """A teacher's logits ``(N,)`` or ``(N, C)`` as those of a head with ``out`` outputs, ``(N, out)``.

    classes: the teacher's class for each of the head's, where they are numbered otherwise. Two logits become the one
    that says the same, for a head of one. A teacher that has said nothing of any row (all NaN) says nothing of every
    output. Raises `DataError` where the numbers do not go together.

    >>> head_logits(torch.tensor([[0.5, 2.0]]), 1).tolist(), head_logits(torch.tensor([1.5]), 1).tolist()
    ([[1.5]], [[1.5]])
    """
    found = teacher
    if found.dim() == 2 and classes:
        if found.shape[1] != len(classes):
            raise DataError(f"The teacher has {found.shape[1]} classes, class_map={tuple(classes)} does not.")
        found = found[:, list(classes)]
    if found.dim() == 2 and out == 1 and found.shape[1] == 2:
        found = binary_logit(found)
    found = found.unsqueeze(1) if found.dim() == 1 else found
    if found.isnan().all():  # which does not say how many there would be
        found = found[:, :1].expand(-1, out)
    if found.shape[1] != out:
        raise DataError(
            f"The teacher gives {found.shape[1]} logits per pair, the head {out}. Say how many classes there are: "
            f"--set task=classes classes={found.shape[1]}; or take another teacher."
        )
    return found
