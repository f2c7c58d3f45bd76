"""What the Triton kernel reads of rows and columns, and how large a block is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from counterpoint.kernels.backend import Pull
from counterpoint.kernels.facts import Above, Equal, Similar
from counterpoint.kernels.tile import Form, Job, Scratch, Tile

CODES = 2
"""How many masks by codes (`Equal`) a kernel takes."""

# Planes of what is known of rows and columns; the numbers are those of `triton_kernels`.
OVER, OVER_LSE, POSITIVES, POSITIVES_LSE, DOT, MARGIN, THRESHOLD, TARGET_SHIFT = range(8)
LOG_WEIGHT = 5

BUSY = 64
"""Columns of a block, at most, where besides the scores targets, masks and several sums take registers."""

LARGEST = 1 << 15
"""Side of a square, at most: the kernel counts its pairs in 32 bits."""

EXACT_STEP = 32
"""The step along embeddings of a teacher or guide."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Rows and columns of a block, the step along the width, warps and stages of the pipeline."""

    rows: int
    cols: int
    step: int
    warps: int
    stages: int


SHAPES = {
    (9, "bfloat16"): Shape(128, 128, 64, 8, 3),
    (8, "bfloat16"): Shape(128, 128, 32, 8, 3),
    (8, "tf32"): Shape(128, 128, 32, 8, 3),
    (8, "ieee"): Shape(64, 64, 32, 4, 2),
}
"""By compute capability (that of 8 serves those that have none) and precision. Chosen by what the compiler reports:
no register spilled (but for a few bytes of TF32 on 9.0), and two blocks at once on a multiprocessor of 9.0 (112
registers, 96 KiB). Times are not measured.
"""


@dataclass(slots=True)
class Block:
    """The candidates (start 0), or the extra ones (start M), and what the facts say of them.

    factor ``(m, width)``, planes of float32 and of codes ``(planes, m)``, teacher and guide ``(m, E)``.
    """

    start: int
    factor: Tensor
    planes: Tensor
    codes: Tensor
    teacher: Tensor | None
    guide: Tensor | None
    flags: dict[str, Any]


class Inputs:
    """What a launch reads: of the rows here, of the columns in `blocks`."""

    def __init__(self, q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, job: Job) -> None:
        facts = job.rules.facts(len(q), len(k))
        assert facts is not None, "ask `unsupported` first"
        self.q, self.bias, self.job, self.facts = q, bias, job, facts
        self.side = min(job.tile, LARGEST)
        self.half = job.precision == "bfloat16"
        self.float32 = "tf32" if tensor_float() else "ieee"
        asked = job.asked
        listens = asked.positives or asked.negatives or asked.counts or asked.dot  # whether positives matter
        listens = listens or facts.margin is not None or bool(facts.beta) or facts.log_weights is not None
        listens = listens or any(drop.spare for drop in facts.drops)
        self.match = facts.target if isinstance(facts.target, Equal) and listens else None
        self.similar = facts.target if isinstance(facts.target, Similar) and listens else None
        self.masks = [(drop, drop.where) for drop in facts.drops if isinstance(drop.where, Equal)]
        self.guides = [(drop, drop.where) for drop in facts.drops if isinstance(drop.where, Above)]

        busy = self.similar is not None or bool(self.guides) or asked.positives or asked.counts
        self.shape = shape(q, "bfloat16" if self.half else self.float32, job.tile, busy=busy)

        self.factor = self.rounded(q)
        self.planes = planes(len(q), 8, q)
        if facts.margin is not None:
            self.planes[MARGIN] = facts.margin
        self.teacher = self.guide = None
        if self.similar is not None:
            self.teacher = padded(self.similar.rows, EXACT_STEP)
            if self.similar.shift is not None:
                self.planes[TARGET_SHIFT] = self.similar.shift
        if self.guides:
            self.guide = padded(self.guides[0][1].rows, EXACT_STEP)
            self.planes[THRESHOLD] = self.guides[0][1].threshold
        equals = [self.match, *(where for _, where in self.masks)]
        self.codes = codes(len(q), [None if fact is None else fact.rows for fact in equals], q.device)
        self.blocks = [self.block(k, 0)]
        if extra is not None and len(extra):
            self.blocks.append(self.block(extra, len(k)))

    def rounded(self, x: Tensor) -> Tensor:
        return padded(x.bfloat16() if self.half else x, self.shape.step)

    def block(self, candidates: Tensor, start: int) -> Block:
        stop = start + len(candidates)

        def here(columns: Tensor | None) -> Tensor | None:
            return None if columns is None or len(columns) < stop else columns[start:stop]

        known = planes(len(candidates), 6, candidates)
        weights = here(self.facts.log_weights)
        if weights is not None:
            known[LOG_WEIGHT] = weights
        match = None if self.match is None else here(self.match.columns)
        masks = [here(where.columns) for _, where in self.masks]
        teacher = None if self.similar is None else here(self.similar.columns)
        guide = here(self.guides[0][1].columns) if self.guides else None
        flags = {
            "MATCH": match is not None,
            "SIMILAR": 0 if self.similar is None or teacher is None else kind(self.similar),
            "GUIDED": guide is not None,
            "GUIDE_SPARES": guide is not None and self.guides[0][0].spare,
            "WEIGHED": weights is not None,
        }
        for slot in range(CODES):
            drop = self.masks[slot][0] if slot < len(masks) and masks[slot] is not None else None
            flags["AB"[slot]] = 0 if drop is None else 2 if drop.otherwise else 1
            flags["AB"[slot] + "_SPARES"] = drop is not None and drop.spare
        return Block(
            start,
            self.rounded(candidates),
            known,
            codes(len(candidates), [match, *masks], candidates.device),
            None if teacher is None else padded(teacher, EXACT_STEP),
            None if guide is None else padded(guide, EXACT_STEP),
            flags,
        )

    def strips(self, side: int) -> Iterator[tuple[slice, Block, slice]]:
        """Rows, and columns of a block, of each square of the pair matrix that holds a pair."""
        scratch, m = Scratch(self.q.device), len(self.blocks[0].factor)
        for r in range(0, len(self.q), side):
            rows = slice(r, min(r + side, len(self.q)))
            for block in self.blocks:
                for c in range(0, len(block.factor), side):
                    cols = slice(c, min(c + side, len(block.factor)))
                    at = slice(block.start + cols.start, block.start + cols.stop)
                    # Where pairs that are dropped are counted, those of an empty square are too.
                    if self.job.asked.counts or not self.job.rules.empty(Tile(rows, at, m, scratch)):
                        yield rows, block, cols


def planes(n: int, count: int, like: Tensor) -> Tensor:
    """Room for what is known of n rows or columns, ``(count, n)``; that nothing pulls at them, to begin with."""
    out = like.new_zeros(count, n)
    for plane in (OVER_LSE, POSITIVES_LSE):
        out[plane] = torch.inf
    return out


def fill(planes: Tensor, pull: Pull, shift: float | None, form: Form) -> None:
    """Write what one side is pulled by. With a shift, what ``exp(S - shift)`` is multiplied with."""
    grads, sums = pull.grads, pull.sums
    if grads.dot is not None:
        planes[DOT] = grads.dot
    for plane, grad, lse in ((OVER, grads.over, sums.over), (POSITIVES, grads.positives, sums.positives)):
        if grad is None or lse is None:
            continue
        planes[plane] = grad
        if form == "sigmoid":
            continue
        lse = lse.masked_fill(lse == -torch.inf, torch.inf)  # of nothing: its exponentials are 0
        if shift is not None:
            planes[plane] *= (shift - lse).exp()
        else:
            planes[plane + 1] = lse


def codes(n: int, facts: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """``(1 + CODES, n)`` int64: codes of the targets, then of the masks; 0 where there are none."""
    out = torch.zeros(1 + CODES, n, dtype=torch.long, device=device)
    for plane, fact in enumerate(facts):
        if fact is not None:
            out[plane] = fact
    return out


def kind(similar: Similar) -> int:
    """Linear, its positive part, or exponential."""
    return 3 if similar.shift is not None else 2 if similar.clip else 1


def padded(x: Tensor, step: int) -> Tensor:
    """The rows as they lie in memory, filled up with zeros to whole steps: a kernel need not look for the end."""
    return pad(x, (0, -x.shape[1] % step)).contiguous()


def shape(q: Tensor, precision: str, tile: int, *, busy: bool) -> Shape:
    """The table's, no larger than a square or the width asks for; narrow where more than one tile must be held."""
    major = torch.cuda.get_device_capability(q.device)[0] if q.is_cuda else 8
    found = SHAPES.get((major, precision), SHAPES[8, precision])
    side, width = (max(16, 1 << (size - 1).bit_length()) for size in (tile, q.shape[1]))
    cols = min(found.cols, BUSY) if busy else found.cols
    return replace(found, rows=min(found.rows, side), cols=min(cols, side), step=min(found.step, width))


def tensor_float() -> bool:
    """Whether torch is told to multiply float32 matrices on tensor cores, with factors of 10 bits (TF32)."""
    matmul = torch.backends.cuda.matmul
    return bool(matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32)


def ceil(a: int, b: int) -> int:
    return -(-a // b)
