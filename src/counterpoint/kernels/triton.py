"""The pair matrix on NVIDIA GPUs: scores live in registers and never reach memory; one pass serves both directions.

*Forward.* One program computes one block of pairs (128 x 128 with bfloat16 factors): the scores by ``tl.dot`` over the
width in steps, then, in registers, whatever the pairing's `facts` say of the pairs, and all sums by row and by column.
It writes the sums to a place of its own; they are merged in a fixed order, strip by strip of ``2 job.tile`` rows and
columns, so the same input gives the same bits. Where scores are bounded one shift serves every row and column and the
whole pass takes one exponential per pair; where they are not (see `kernels.tiled`), each block gives logsumexps.

*Backward.* The same kernel computes a block's scores again, turns them into the gradient with respect to them and
writes that, in the precision of the factors, into one square of side ``job.tile``, which two ordinary matrix products
then multiply with both factors.

Cost, for N x M pairs of width D: 1 + 3 products, of 2 N M D FLOPs each. The usual split into a kernel for the rows'
gradient and one for the columns', each with scores of its own, costs 1 + 4 and needs a row block's whole gradient in
registers (128 x 1024 float32 is twice the registers of a multiprocessor); adding both gradients in one kernel needs
atomics, whose order is not fixed. What the square costs instead is a write and two reads of it, 6 N M bytes with
bfloat16 factors against 6 N M D FLOPs: little where D is a few hundred or more, or where it stays in the cache. Other
bytes: each factor is read once per block of the other side (from the cache, mostly), and the sums take 4 bytes per row
and per column of a block and reduction, 1/16 byte per pair. Memory: the square, the sums of one strip, and copies of
the factors where they are rounded to bfloat16 or padded to whole steps.

Where it loses time: narrow embeddings (below about 256 the exponentials and the square outweigh the products);
float32 factors, which use no tensor cores unless torch is told to (``torch.backends.cuda.matmul.allow_tf32 = True``);
the products of a teacher's or guide's embeddings, whose factors are float32 always, so that masks do not depend on the
precision of the scores; unbounded scores (a second exponential per pair, and a pass repeated where a shift was tried in
vain); fewer than a few thousand rows, where launches outweigh the work.

What a kernel evaluates is said in `kernels.facts`; anything else is for `kernels.tiled`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from counterpoint.errors import need
from counterpoint.kernels.backend import Gradients, Pull
from counterpoint.kernels.facts import Above, Equal
from counterpoint.kernels.tile import Asked, Job, Rules, Sums
from counterpoint.kernels.tiled import REACH, WIDE, first_shift
from counterpoint.kernels.triton_inputs import CODES, EXACT_STEP, Block, Inputs, ceil, fill

REACHED = REACH[torch.float32]


def unsupported(q: Tensor, rules: Rules, m: int) -> str | None:
    """Why these kernels cannot compute the pairs of ``q`` ``(N, D)`` and M candidates, a sentence; None: they can."""
    if importlib.util.find_spec("triton") is None:
        return "The package triton, which torch for CUDA brings, is not installed (pip install 'counterpoint[gpu]')."
    if q.dtype != torch.float32:
        return f"The kernels compute in float32; the embeddings are {q.dtype}."
    if q.device.type != "cuda" and not interpreted():
        return f"The embeddings are on {q.device}; the kernels run on an NVIDIA GPU."
    if q.device.type == "cuda" and (torch.version.hip or torch.cuda.get_device_capability(q.device)[0] < 8):
        return f"The kernels need an NVIDIA GPU of compute capability 8.0 or more, {q.device} is none."
    facts = rules.facts(len(q), m)
    if facts is None:
        return f"The kernels cannot evaluate all of the pairing {rules}."
    if sum(isinstance(d.where, Equal) for d in facts.drops) > CODES:
        return f"The kernels take {CODES} masks by groups or row numbers; the pairing {rules} has more."
    if sum(isinstance(d.where, Above) for d in facts.drops) > 1:
        return f"The kernels take one mask by a guide; the pairing {rules} has more."
    return None


def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU: slow, to check their numbers where there is no GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def forward(
    q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, job: Job
) -> tuple[Sums, Sums | None, float | None]:
    """See `kernels.backend.Backend`; the job is one that is not `unsupported`. The state is the shift."""
    run = Run(q, k, extra, bias, job)
    if job.asked.form == "sigmoid":
        return *run.sums(None), None
    shift = first_shift(job, REACHED)
    rows, columns = run.sums(shift)
    # Within reach of 0 nothing can underflow; beyond, one look at the results tells.
    if shift and not bool(exact(rows, shift) & exact(columns, shift)):
        shift = None
        rows, columns = run.sums(shift)
    return rows, columns, shift


def exact(sums: Sums | None, shift: float) -> Tensor:
    """() bool: nothing that counts has underflowed, every logsumexp lies above ``shift - REACHED``."""
    if sums is None:
        return torch.ones((), dtype=torch.bool)
    found = (sums.over >= shift - REACHED).all()
    if sums.positives is not None and sums.n_positives is not None:
        found = found & ((sums.positives >= shift - REACHED) | (sums.n_positives == 0)).all()
    return found


def backward(
    q: Tensor,
    k: Tensor,
    extra: Tensor | None,
    bias: Tensor | None,
    job: Job,
    shift: float | None,
    rows: Pull,
    columns: Pull | None,
    needed: Sequence[bool],
) -> Gradients:
    """See `kernels.backend.Backend`."""
    return Run(q, k, extra, bias, job).gradients(shift, rows, columns, needed)


class Run(Inputs):
    """One pass, forward or backward."""

    def launch(
        self,
        rows: slice,
        block: Block,
        cols: slice,
        *,
        shift: float | None,
        both: bool,
        at: dict[str, int],
        sums: tuple[Tensor, Tensor | None] | None = None,
        gradient: Tensor | None = None,
        gradient_sums: Tensor | None = None,
    ) -> None:
        """Compute one square: its sums, or its gradient. at: the plane of each sum."""
        need("triton", "gpu")
        from counterpoint.kernels import triton_kernels

        n, m = rows.stop - rows.start, cols.stop - cols.start
        how, asked, similar = self.shape, self.job.asked, self.similar
        row_out, col_out = (None, None) if sums is None else sums
        pitch = col_out if gradient is None else gradient
        added = shift is not None or asked.form == "sigmoid"
        with torch.cuda.device_of(self.q):  # type: ignore[no-untyped-call]
            triton_kernels.block[(ceil(n, how.rows) * ceil(m, how.cols),)](
                self.factor[rows],
                block.factor[cols],
                self.bias,
                self.planes[:, rows],
                block.planes[:, cols],
                self.codes[:, rows],
                block.codes[:, cols],
                len(self.q),
                len(block.factor),
                part(self.teacher, rows),
                part(block.teacher, cols),
                part(self.guide, rows),
                part(block.guide, cols),
                row_out,
                col_out,
                gradient,
                gradient_sums,
                0 if row_out is None else row_out.shape[-1],
                0 if pitch is None else pitch.shape[-1],
                n,
                m,
                self.factor.shape[1],
                0 if self.teacher is None else self.teacher.shape[1],
                0 if self.guide is None else self.guide.shape[1],
                similar.slope if similar else 1.0,
                similar.intercept if similar else 0.0,
                self.facts.beta,
                shift or 0.0,
                BACKWARD=gradient is not None,
                SIGMOID=asked.form == "sigmoid",
                BOTH=both,
                ADDED=added,
                OVER_AT=at["over"],
                POSITIVES_AT=at.get("positives", -1),
                DOT_AT=at.get("dot", -1),
                N_POSITIVES_AT=at.get("n_positives", -1),
                N_DROPPED_AT=at.get("n_dropped", -1),
                WEIGHTS_AT=at.get("weights", -1),
                NEGATIVES=asked.negatives,
                **block.flags,
                MARGINS=self.facts.margin is not None,
                HARD=bool(self.facts.beta),
                EDGES=bool(n % how.rows or m % how.cols),
                STEP=how.step,
                EXACT_STEP=EXACT_STEP,
                PRECISION=self.float32,
                INTERPRETED=not self.q.is_cuda,
                ROWS=how.rows,
                COLS=how.cols,
                GROUP=8,
                num_warps=how.warps,
                num_stages=how.stages,
            )

    # --- forward -----------------------------------------------------------------------------------------------

    def sums(self, shift: float | None) -> tuple[Sums, Sums | None]:
        """Reductions by row and, where asked, by column."""
        asked = self.job.asked
        rows = Totals(len(self.q), asked, shift, self.q)
        columns = Totals(len(self.blocks[0].factor), asked, shift, self.q) if asked.both else None
        for where, block, cols in self.strips(2 * self.side):
            n, m = where.stop - where.start, cols.stop - cols.start
            down, across = ceil(n, self.shape.rows), ceil(m, self.shape.cols)
            row_parts = rows.parts(across, down * self.shape.rows)
            side = columns if block.start == 0 else None
            col_parts = None if side is None else side.parts(down, across * self.shape.cols)
            sums = row_parts, col_parts
            self.launch(where, block, cols, shift=shift, both=side is not None, at=rows.at, sums=sums)
            rows.add(where, row_parts)
            if side is not None and col_parts is not None:
                side.add(cols, col_parts)
        return rows.sums(), None if columns is None else columns.sums()

    # --- backward ----------------------------------------------------------------------------------------------

    def gradients(self, shift: float | None, rows: Pull, columns: Pull | None, needed: Sequence[bool]) -> Gradients:
        """Gradients of q, k, extra and bias; None where not needed."""
        d, form = self.q.shape[1], self.job.asked.form
        fill(self.planes, rows, shift, form)
        if columns is not None:
            fill(self.blocks[0].planes, columns, shift, form)
        grads = [torch.zeros_like(self.q) if needed[0] else None]
        grads += [self.q.new_zeros(len(b.factor), d) if need else None for b, need in zip(self.blocks, needed[1:])]
        of_bias = torch.zeros_like(self.bias) if self.bias is not None and needed[3] else None
        at = Totals(0, self.job.asked, shift, self.q).at
        for where, block, cols in self.strips(self.side):
            b = 1 if block.start == 0 else 2
            if not (needed[0] or needed[b] or of_bias is not None):
                continue
            n, m = where.stop - where.start, cols.stop - cols.start
            down, across = ceil(n, self.shape.rows), ceil(m, self.shape.cols)
            g = self.factor.new_empty(down * self.shape.rows, across * self.shape.cols)
            parts = None if of_bias is None else self.q.new_empty(down * across)
            both = columns is not None and b == 1
            self.launch(where, block, cols, shift=shift, both=both, at=at, gradient=g, gradient_sums=parts)
            if of_bias is not None and parts is not None:
                of_bias += parts.sum()
            add_product(grads[0], where, g[:n, :m], block.factor[cols, :d])
            add_product(grads[b], cols, g[:n, :m].T, self.factor[where, :d])
        return grads[0], grads[1], grads[2] if len(grads) > 2 else None, of_bias


class Totals:
    """Sums of one side of the pair matrix over the squares seen so far: planes of sums, then planes of logsumexps."""

    def __init__(self, n: int, asked: Asked, shift: float | None, like: Tensor) -> None:
        added = shift is not None or asked.form == "sigmoid"
        exponentials = ["over"] + ["positives"] * asked.positives
        plain = ["dot", "total"] * asked.dot + ["n_positives"] * (asked.counts or asked.positives)
        plain += ["n_dropped"] * asked.counts
        sums = exponentials * added + plain
        logs = exponentials * (not added) + ["weights"] * asked.weights
        self.shift, self.summed, self.exponentials = shift, len(sums), exponentials if added else []
        self.at = {name: plane for plane, name in enumerate(sums + logs)}
        self.values = like.new_zeros(len(self.at), n)
        self.values[self.summed :] = -torch.inf

    def parts(self, blocks: int, pitch: int) -> Tensor:
        """Where the blocks of a square write theirs."""
        return self.values.new_empty(len(self.at), blocks, pitch)

    def add(self, where: slice, parts: Tensor) -> None:
        parts = parts[..., : where.stop - where.start]
        sums, logs = self.values[: self.summed, where], self.values[self.summed :, where]
        sums += parts[: self.summed].sum(1)
        if len(logs):
            logs.copy_(torch.logaddexp(logs, parts[self.summed :].logsumexp(1)))

    def sums(self) -> Sums:
        found = {name: self.values[plane] for name, plane in self.at.items()}
        if self.shift is not None:
            for name in self.exponentials:
                found[name] = found[name].log() + self.shift
        return Sums(**found)


def part(x: Tensor | None, where: slice) -> Tensor | None:
    return None if x is None else x[where]


def add_product(grad: Tensor | None, where: slice, g: Tensor, factor: Tensor) -> None:
    if grad is None:
        return
    if g.dtype == torch.float32:
        grad[where].addmm_(g, factor)
    elif g.is_cuda and WIDE:
        grad[where] += torch.mm(g, factor, out_dtype=torch.float32)
    else:
        grad[where] += torch.mm(g, factor)
