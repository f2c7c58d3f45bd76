"""A teacher: a copy of the student without gradient, frozen or following it slowly."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from counterpoint.errors import ConfigError
from counterpoint.memory.base import Memory, Update


class Teacher(Memory):
    """Exponential moving average of a student: ``t <- m · t + (1 - m) · s`` for every parameter.

    momentum: m; 1 freezes the teacher for good. schedule: ``constant``, or ``cosine``, which rises from
    ``momentum`` to 1 over the run: ``m = 1 - (1 - momentum) (1 + cos(pi · step / steps)) / 2``. copy_buffers:
    take over the student's buffers (statistics of batch normalisation) at each update; False leaves the
    teacher its own. dropout: whether the teacher follows train mode (dropout, batch statistics) or is always
    in eval mode.

    ``forward`` calls the copy without recording a gradient. No parameter of it is trainable; all are in the
    state_dict. The student is not kept: give it to `update`, on every process: equal students keep teachers equal.

    Sources: Tarvainen & Valpola 2017, arXiv 1703.01780; He et al. 2020 (MoCo), arXiv 1911.05722; Grill et al.
    2020 (BYOL: 0.996, cosine), arXiv 2006.07733.

    >>> student = nn.Linear(4, 2)
    >>> teacher = Teacher(student, momentum=0.9)
    >>> with torch.no_grad():
    ...     _ = student.weight.zero_()
    >>> before = teacher.model.weight.clone()
    >>> teacher.update(student)
    >>> bool(torch.allclose(teacher.model.weight, 0.9 * before)), teacher(torch.ones(3, 4)).requires_grad
    (True, False)
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        momentum: float = 0.996,
        schedule: str = "constant",
        copy_buffers: bool = True,
        dropout: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ConfigError(f"momentum={momentum}: give a number from 0 (copy) to 1 (frozen), e.g. 0.996.")
        if schedule not in ("constant", "cosine"):
            raise ConfigError(f"schedule={schedule!r}: type constant or cosine.")
        self.momentum, self.schedule = momentum, schedule
        self.copy_buffers, self.dropout = copy_buffers, dropout
        self.model = copy.deepcopy(student).requires_grad_(False)
        self.train(student.training)

    def train(self, mode: bool = True) -> Teacher:
        super().train(mode)
        self.model.train(mode and self.dropout)
        return self

    @torch.no_grad()
    def forward(self, data: Any) -> Any:
        """What the copy gives for the student's input ``data``, of whatever shape the student gives, without a
        gradient."""
        return self.model(data)

    def momentum_at(self, step: int | None = None, steps: int | None = None) -> float:
        """m after ``step`` of ``steps`` (neither is needed for a constant one)."""
        if self.schedule == "constant":
            return self.momentum
        if step is None or not steps:
            raise ConfigError("A cosine schedule of the momentum needs to know where it is: give step and steps.")
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * min(step, steps) / steps)) / 2

    @torch.no_grad()
    def update(self, student: nn.Module, *, step: int | None = None, steps: int | None = None) -> None:
        """Move towards the student; once per optimiser step, after it. step: 1-based, as in ``Method.after_step``."""
        if self.momentum == 1:
            return
        own, its = ([p.detach() for p in m.parameters()] for m in (self.model, student))
        if [p.shape for p in own] != [p.shape for p in its]:
            raise ConfigError("The teacher and the student given to update() do not have the same parameters.")
        pairs = [_alike(mine, new) for mine, new in zip(own, its)]
        own, its = [mine for mine, _ in pairs], [new for _, new in pairs]
        torch._foreach_lerp_(own, its, 1 - self.momentum_at(step, steps))
        if self.copy_buffers:
            for mine, new in zip(self.model.buffers(), student.buffers(), strict=True):
                mine.copy_(new)

    @torch.no_grad()
    def restore(self, student: nn.Module) -> None:
        """Set the student's weights and buffers to the teacher's, as far as this process holds them."""
        own, its = ((*m.parameters(), *m.buffers()) for m in (self.model, student))
        for mine, new in zip(own, its, strict=True):
            held, given = mine.detach(), new.detach()
            if isinstance(given, DTensor):
                if not isinstance(held, DTensor):
                    held = distribute_tensor(held, given.device_mesh, given.placements, src_data_rank=None)
                held, given = held.to_local(), given.to_local()
            given.copy_(held)

    @classmethod
    def example(cls, seed: int = 0) -> tuple[Teacher, Update]:
        student = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        generator = torch.Generator().manual_seed(seed)
        for p in student.parameters():
            p.data.normal_(generator=generator)
        teacher = cls(student, momentum=0.5)

        def update(z: Tensor) -> None:
            with torch.no_grad():
                for p in student.parameters():
                    p.fill_(z.sum())
            teacher.update(student)

        return teacher, update


def _alike(mine: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """A teacher's weight and a student's, as plain tensors of one shape; FSDP may shard both, or the student's only."""
    if not isinstance(new, DTensor):
        return mine, new
    if isinstance(mine, DTensor):
        return mine.to_local(), new.to_local()
    return mine, new.full_tensor()
