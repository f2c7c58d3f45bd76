"""Codes of a learned quantiser: that all of them are used, that they are foretold, and which others stand against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from counterpoint.errors import DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, NotSame, OnlyOwn, OnlySame
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, at_least_float32, reduced, same_shape
from counterpoint.processes import drawing_alike, gathered, rank, sizes, starts, total

FEW = 0.02
"""Share of the codes below which their perplexity is a collapse."""


def _example_logits(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (torch.randn(6, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)),), {}


def _example_target(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    s, t = torch.randn(2, 6, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (s,), {"target": t.softmax(-1)}


@objective(rank=RankBehaviour.GLOBAL_STATISTIC, example=_example_logits)
def code_diversity(logits: Tensor) -> Tensor:
    """``L = (G V - Σ_g exp H(p̄_g)) / (G V)``, ``p̄_g`` the mean over all frames of ``softmax(logits_g)``.

    0 where every one of the V codes of each of the G codebooks is used as much as any other, (V - 1) / V where all
    frames take one. logits: ``(N, G, V)``, before any noise. Frames of all processes form one batch; no frame at all
    gives 0. Returns ``()``.

    Source: Baevski et al. 2020 (wav2vec 2.0), arXiv 2006.11477, eq. 4, in its form of a perplexity.

    >>> same = torch.tensor([[[9.0, 0, 0, 0]]]).expand(6, 1, 4)  # every frame takes the first of four codes
    >>> round(float(code_diversity(same)), 2), round(float(code_diversity(torch.zeros(6, 1, 4))), 2)
    (0.75, 0.0)
    """
    _, groups, codes = logits.shape
    p = at_least_float32(logits).softmax(-1)
    count = total(torch.tensor(float(len(p)), device=p.device))
    mean = total(p.sum(0)) / count.clamp_min(1)
    used = torch.special.entr(mean).sum(-1).exp().sum()
    found: Tensor = (groups * codes - used) / (groups * codes) * (count > 0)
    return found


@objective(rank=RankBehaviour.LOCAL, example=_example_target)
def code_cross_entropy(logits: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``L_i = -mean_g Σ_v y_igv log softmax_v(logits_ig)``: codes are foretold, those of all codebooks alike.

    logits, target: ``(N, G, V)``, a target being one-hot, or any distribution. The target has its gradient, unlike
    elsewhere: detach it, unless codes are meant to become easy to foretell. Returns ``()``, or ``(N,)``. reduction:
    ``mean``, or ``none`` for a loss each.

    Source: Chung et al. 2021 (w2v-BERT), arXiv 2108.06209, section 2.3.

    >>> target = torch.eye(4)[torch.tensor([[0], [3]])]  # two frames, one codebook of four codes
    >>> round(float(code_cross_entropy(torch.zeros(2, 1, 4), target)), 4)  # log 4
    1.3863
    """
    same_shape(logits=logits, target=target)
    log_p = at_least_float32(logits).log_softmax(-1)
    return reduced(-(target * log_p).sum(-1).mean(-1), reduction)


def _example_frames(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    anchors, targets = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
    codes = torch.randint(4, (6, 2), generator=generator)
    return (anchors, targets), {"codes": codes, "size": 4, "groups": torch.tensor([0, 0, 0, 1, 1, 1]), "scale": 2.0}


@objective(rank=RankBehaviour.GATHER, example=_example_frames)
def code_contrast(
    anchors: Tensor, targets: Tensor, *, codes: Tensor, size: int, groups: Tensor, scale: float, distractors: int = 0
) -> Tensor:
    """``L_i = -log exp(scale a_i·t_i) / Σ_j exp(scale a_i·t_j)``, j over i itself and distractors of another code.

    anchors, targets: ``(N, D)``, of unit length. codes: ``(N, G)`` long, what a target stands for in each of G
    codebooks of ``size`` codes. groups: ``(N,)`` long, the sequence that an item is of: distractors are of the same
    one. distractors: so many others, drawn with replacement; 0: all, once. Returns ``()``.

    Sources: Baevski et al. 2020 (wav2vec 2.0), arXiv 2006.11477, eq. 3; without those of the same code: Chung et al.
    2021 (w2v-BERT), arXiv 2108.06209.

    >>> z = torch.eye(4)
    >>> loss = code_contrast(z, z, codes=torch.arange(4)[:, None], size=4, groups=torch.zeros(4).long(), scale=10.0)
    >>> loss.shape, bool((loss < 0.001).all())
    (torch.Size([]), True)
    """
    code = (codes * size ** torch.arange(codes.shape[1], device=codes.device)).sum(1)
    if not distractors:
        return contrast(anchors, targets, Diagonal() & OnlySame(groups) & NotSame(code), scale=scale)
    owner, drawn = others_of_group(groups, distractors)
    pairing = Diagonal() & OnlyOwn() & NotSame(code, torch.cat([code, code[drawn]]))
    return contrast(anchors, targets, pairing, scale=scale, extra=targets[drawn], owner=owner)


def perplexity(codes: Tensor, size: int) -> Tensor:
    """``exp H`` of the codes ``(N,)`` or ``(N, G)`` in use, of ``size`` there are; ``()``, the mean over the codebooks.

    1: one code stands for everything. size: all are used alike. Codes of all processes count.

    >>> float(perplexity(torch.tensor([0, 0, 1, 1]), size=8))
    2.0
    """
    codes = codes if codes.ndim == 2 else codes.unsqueeze(1)
    used = torch.stack([torch.bincount(column, minlength=size) for column in codes.unbind(1)])
    p = total(used.float())
    p = p / p.sum(-1, keepdim=True).clamp_min(1)
    found: Tensor = torch.special.entr(p).sum(-1).exp().mean()
    return found


def few_codes(perplexity: Tensor, size: int) -> str:
    """A sentence where the codes in use have collapsed: their perplexity ``()`` is below `FEW` of ``size``; '' else.

    >>> few_codes(torch.tensor(200.0), size=320), few_codes(torch.tensor(1.0), size=320).partition(":")[0]
    ('', 'the codes have collapsed')
    """
    if perplexity >= FEW * size:
        return ""
    return (
        f"the codes have collapsed: their perplexity is {float(perplexity):.1f} of {size}. Give diversity more weight "
        "(--set diversity=1), or codes fewer."
    )


def assignment_perplexity(p: Tensor) -> Tensor:
    """``exp H(p̄)`` of the mean assignment: how many codes soft assignments ``(N, K)`` use, rows summing to 1; ``()``.

    1: all rows are on one code. K: all codes are used alike.

    >>> float(assignment_perplexity(torch.eye(4)[[0, 1, 2, 3]])), float(assignment_perplexity(torch.eye(4)[[0, 0]]))
    (4.0, 1.0)
    """
    found: Tensor = torch.special.entr(p.mean(0)).sum().exp()
    return found


@torch.no_grad()
def others_of_group(groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """For every item, ``count`` others of its own group, drawn with replacement: owners and what they drew, ``(P,)``.

    groups: ``(N,)`` long, which sequence (document, speaker) an item is of. P is ``count`` times the items that have an
    other; one that is alone in its group draws nothing. By torch's own random numbers. Over many processes a group is
    on one of them, and its items draw what they would on one process with all. For `contrast`: ``extra=z[drawn],
    owner=owner`` and `OnlyOwn`.

    >>> groups = torch.tensor([7, 7, 8, 8])
    >>> owners, drawn = others_of_group(groups, 3)
    >>> bool((groups[owners] == groups[drawn]).all()), bool((owners == drawn).any())
    (True, False)
    """
    if groups.ndim != 1 or count < 1:
        raise DataError(f"groups of shape {tuple(groups.shape)} and count={count}: expected (N,), and 1 or more.")
    order = groups.argsort(stable=True)
    _, size = torch.unique_consecutive(groups[order], return_counts=True)
    first = (size.cumsum(0) - size).repeat_interleave(size)
    size = size.repeat_interleave(size)
    place = torch.arange(len(groups), device=groups.device)
    able = place[size > 1]
    first, size = first[able, None], size[able, None]
    step = (_of_sorted(groups[order[able]], count) * (size - 1)).long().clamp_max(size - 2)
    found = first + step
    found = found + (found >= able[:, None])  # past the item itself
    return order[able].repeat_interleave(count), order[found.flatten()]


def _of_sorted(groups: Tensor, count: int) -> Tensor:
    """``(N, count)`` numbers in [0, 1) for the items of sorted groups ``(N,)``, drawn in the order of the groups of all
    processes."""
    counts = sizes(len(groups), groups.device)
    place = gathered(groups, counts).argsort(stable=True).argsort()
    with drawing_alike(groups.device):
        every = torch.rand(sum(counts), count, device=groups.device)
    first = starts(counts)[rank()]
    return every[place[first : first + len(groups)]]
