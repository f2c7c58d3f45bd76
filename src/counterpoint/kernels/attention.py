"""Attention within texts that lie end to end, for training on a CPU: no mask over the batch, no matrix kept.

torch has a fast attention for CPUs, but with dropout it falls back to one that stores the probabilities three times,
and at half precision its backward pass is slower than at full. Here the probabilities are computed again in the
backward pass, a cacheful at a time, and dropout is that of `counterpoint.kernels.dropout`. Texts of like length are
computed together: each is padded in the cache only, and only as far as that costs less than a round of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from counterpoint.kernels.dropout import Mask, masked_, seed

ROOM = 1 << 18
"""Probabilities computed at once: a few such matrices stay in a core's cache."""

WORTH = 1 << 16
"""Probabilities of padding that cost as much as a round of operations of its own."""


def attention(
    query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], *, scale: float, dropout: float = 0.0
) -> Tensor:
    """``dropout(softmax(scale q k^T)) v`` within each text and head: ``(L, H, d)`` each, to ``(L, H, d)``.

    lengths: tokens of each text, in the order in which they lie, all at least 1; best sorted. 0 <= dropout < 1. Softmax
    sums in float32 at least, whatever the precision of its input. Not differentiable twice. query, key, value: the
    texts laid end to end, L tokens in all, H heads, d of each. Source: Vaswani et al. 2017, arXiv 1706.03762;
    recomputation as in Dao et al. 2022, arXiv 2205.14135.
    """
    blocks = _blocks(lengths, query.shape[1])
    out: Tensor = _Attention.apply(query, key, value, blocks, scale, dropout, seed() if dropout else 0)  # type: ignore[no-untyped-call]
    return out


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring texts, each padded to ``length``.

    Where there is padding: places, which of the ``count * length`` places hold tokens; closed, -inf at the keys that
    are padding, ``(count * H, 1, length)``.
    """

    tokens: slice
    count: int
    length: int
    places: Tensor | None = None
    closed: Tensor | None = None

    def take(self, x: Tensor) -> Tensor:
        """The block's texts, one head after the other, padded with 0: ``(L, H, d)`` to ``(count * H, length, d)``.

        x: of all texts.
        """
        x = x[self.tokens]
        if self.places is not None:
            x = x.new_zeros(self.count * self.length, *x.shape[1:]).index_copy_(0, self.places, x)
        return x.view(self.count, self.length, *x.shape[1:]).transpose(1, 2).contiguous().flatten(0, 1)

    def put(self, x: Tensor, to: Tensor) -> None:
        """The inverse of `take`, into its place in ``to``.

        x: as `take` gave it.
        """
        x = x.view(self.count, -1, *x.shape[1:]).transpose(1, 2)
        if self.places is None:
            to[self.tokens].view(x.shape).copy_(x)
        else:
            torch.index_select(x.flatten(0, 1), 0, self.places, out=to[self.tokens])

    def parts(self, heads: int) -> Iterator[slice]:
        """Slices of the block's texts and heads whose weights take bounded memory."""
        step = max(1, ROOM // self.length**2)
        for start in range(0, self.count * heads, step):
            yield slice(start, start + step)


@lru_cache(maxsize=8)  # every layer of a pass asks for the same
def _blocks(lengths: tuple[int, ...], heads: int) -> list[Block]:
    found: list[list[int]] = []
    longest = padding = 0
    for length in lengths:
        if found:
            more = heads * (longest**2 - length**2)
            if 0 <= more <= WORTH - padding:
                found[-1].append(length)
                padding += more
                continue
        found.append([length])
        longest, padding = length, 0
    blocks, start = [], 0
    for block in found:
        tokens = slice(start, start + sum(block))
        start = tokens.stop
        if block[0] == block[-1] == min(block):
            blocks.append(Block(tokens, len(block), block[0]))
            continue
        real = torch.arange(block[0]) < torch.tensor(block)[:, None]
        closed = torch.zeros(real.shape).masked_fill(~real, -torch.inf).repeat_interleave(heads, 0)
        blocks.append(Block(tokens, len(block), block[0], real.flatten().nonzero().flatten(), closed[:, None]))
    return blocks


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, blocks: list[Block], scale: float, dropout: float, seed: int
    ) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.blocks, ctx.scale, ctx.dropout, ctx.seed = blocks, scale, dropout, seed
        mask = Mask(dropout, seed)
        out = q.new_empty(q.shape)
        for block in blocks:
            queries, keys, values = (block.take(x) for x in (q, k, v))
            found = torch.empty_like(queries)
            for part in block.parts(q.shape[1]):
                p = _softmax(queries[part], keys[part], scale, block, part)
                if dropout:
                    masked_(p, mask.next(p))
                _product(p, values[part], mask.scale, found[part])
            block.put(found, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        inputs = ctx.saved_tensors
        mask = Mask(ctx.dropout, ctx.seed)
        grads = tuple(x.new_empty(x.shape) for x in inputs)
        for block in ctx.blocks:
            texts = [block.take(x) for x in (*inputs, grad)]
            found = [torch.empty_like(x) for x in texts[:3]]
            for part in block.parts(grad.shape[1]):
                q, k, v, g = (x[part] for x in texts)
                dq, dk, dv = (x[part] for x in found)
                p = _softmax(q, k, ctx.scale, block, part)
                dp = _product(g, v.mT, mask.scale)
                kept = p
                if ctx.dropout:
                    keep = mask.next(p)
                    masked_(dp, keep)
                    kept = torch.bitwise_and(p.view(keep.dtype), keep, out=keep).view(p.dtype)
                # Queries that are padding have g = 0, keys that are padding p = 0: they pull at nothing.
                ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
                _product(ds, k, ctx.scale, dq)
                _product(ds.mT, q, ctx.scale, dk)
                _product(kept.mT, g, mask.scale, dv)
            for x, to in zip(found, grads):
                block.put(x, to)
        return *grads, None, None, None, None


def _softmax(q: Tensor, k: Tensor, scale: float, block: Block, part: slice) -> Tensor:
    scores = _product(q, k.mT, scale)
    if block.closed is not None:
        scores.add_(block.closed[part])
    return torch.softmax(scores, -1, out=scores)


def _product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """``scale a b``, matrix by matrix."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale, out=out)
