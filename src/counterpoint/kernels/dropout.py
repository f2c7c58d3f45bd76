"""Dropout whose random draws cost little on a CPU.

There torch draws a Bernoulli variable for every element, one after the other, at several times the price of a softmax:
in a transformer at half precision dropout would take longer than attention. Here one draw of 64 bits decides four
elements, and the mask is never stored: the backward pass draws it again from its seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

INTEGER = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}
"""The integers of the size of each kind of number that is masked."""

STEPS = 1 << 15
"""The probability of dropping is rounded to a multiple of 1/STEPS; the scale is that of the rounded one."""


class Mask:
    """A stream of masks, the same for the same seed. scale: what the kept elements are multiplied by."""

    def __init__(self, p: float, seed: int) -> None:
        self.dropped = round(p * STEPS)
        self.scale = STEPS / (STEPS - self.dropped)
        self._bits = np.random.SFC64(seed)

    def next(self, like: Tensor) -> Tensor:
        """A mask in the shape of ``like``, in integers of its size: all bits set where kept, none where dropped."""
        words = torch.from_numpy(self._bits.random_raw(-(-like.numel() // 4)))
        draw = words.view(torch.int16)[: like.numel()].bitwise_and_(STEPS - 1)
        # dropped - 1 - draw is negative where draw >= dropped; its sign, shifted through all bits, is the mask.
        keep = draw.neg_().add_(self.dropped - 1).bitwise_right_shift_(15)
        return keep.to(INTEGER[like.dtype]).view(like.shape)


def seed() -> int:
    """A seed from torch's generator: what replays or restores that generator replays the masks."""
    return int(torch.randint(1 << 62, ()))


def masked_(x: Tensor, mask: Tensor) -> Tensor:
    """``x`` with the dropped elements set to 0, in place."""
    x.view(mask.dtype).bitwise_and_(mask)
    return x


def dropout(x: Tensor, p: float) -> Tensor:
    """``x`` of any shape with each element 0 with probability ``p``, and otherwise multiplied by ``1 / (1 - p)``.

    0 < p < 1 up to rounding (see `STEPS`). Source: Srivastava et al. 2014, JMLR 15.
    """
    out: Tensor = _Dropout.apply(x, p, seed())  # type: ignore[no-untyped-call]
    return out


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        return _apply(x, p, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _apply(grad, ctx.p, ctx.seed), None, None


def _apply(x: Tensor, p: float, seed: int) -> Tensor:
    mask = Mask(p, seed)
    return masked_(torch.mul(x, mask.scale).contiguous(), mask.next(x))


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, with the dropout above where it pays and computes the same."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not 0 < self.p < 1 or x.device.type != "cpu" or x.dtype not in INTEGER:
            return F.dropout(x, self.p, self.training)
        return dropout(x, self.p)


def quicken(module: nn.Module) -> None:
    """Replace every plain `torch.nn.Dropout` inside a module by `Dropout`; it has no weights to carry over."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))
