"""What `contrast` refuses, and the sentences it refuses with."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.kernels.tile import Form
from counterpoint.objectives.rules import Pairing
from counterpoint.objectives.targets import TeacherSimilarity
from counterpoint.objectives.weights import Debiased
from counterpoint.processes import total, world

Reduction: TypeAlias = Literal["mean", "sum", "none"]
Backend: TypeAlias = Literal["auto", "reference", "tiled", "triton"]
Precision: TypeAlias = Literal["full", "bfloat16"]


def check_shapes(anchors: Tensor, candidates: Tensor, extra: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The embeddings in float32 or float64, or an error that names the shapes."""
    named = {"anchors": anchors, "candidates": candidates, **({} if extra is None else {"extra": extra})}
    for name, z in named.items():
        if z.ndim != 2 or not z.is_floating_point():
            raise DataError(
                f"{name} has shape {tuple(z.shape)} and type {z.dtype}; expected (N, D) floating point embeddings, "
                "one row each."
            )
        if z.shape[1] != anchors.shape[1]:
            raise DataError(
                f"{name} has {z.shape[1]} dimensions, anchors have {anchors.shape[1]}. Project both to one width."
            )
        if z.device != anchors.device:
            raise DataError(f"{name} is on {z.device}, anchors on {anchors.device}. Move them to one device.")
        if (0 in z.shape[1:] or (not len(z) and world() == 1)) and name != "extra":
            raise DataError(
                f"{name} has shape {tuple(z.shape)}: nothing to contrast. Give at least one row and column."
            )
    dtype = torch.float64 if any(z.dtype == torch.float64 for z in named.values()) else torch.float32
    if extra is not None and not len(extra) and world() == 1:
        extra = None
    extra = None if extra is None else extra.to(dtype)
    return anchors.to(dtype), candidates.to(dtype), extra


def check_choice(name: str, given: str, allowed: Any) -> None:
    """An error where a word is none of those a ``Literal`` allows."""
    if given not in get_args(allowed):
        raise ConfigError(f"{name}={given!r}: type one of {', '.join(map(repr, get_args(allowed)))}.")


def check_settings(
    form: Form,
    plan: Pairing,
    both: bool,
    bias: float | Tensor | None,
    owner: Tensor | None,
    extra: Tensor | None,
    n: int,
    scale: Tensor,
) -> None:
    """An error where settings contradict each other."""
    if form == "sigmoid":
        if both:
            raise ConfigError("The sigmoid form judges each pair alone and has no direction; leave both=False.")
        if plan.one(Debiased) or any(w.unit_mean for w in plan.weights):
            raise ConfigError("Debiased and unit_mean correct the denominator of a softmax; the sigmoid form has none.")
        if isinstance(plan.targets, TeacherSimilarity) and plan.targets.temperature is not None:
            raise ConfigError(
                "A softmax over the teacher's similarities is no target of single pairs; give slope=, clip=."
            )
    elif bias is not None:
        raise ConfigError(f"bias cancels in the {form} form; it belongs to form='sigmoid'.")
    if both and plan.one(Debiased) and scale.ndim:
        raise ConfigError(
            "Debiased has a floor per scale, which candidates have none of; with both=True give one scale."
        )
    if owner is not None:
        if extra is None:
            raise ConfigError("owner says whose each extra candidate is, but no extra candidates were given.")
        if owner.shape != (len(extra),):
            raise DataError(
                f"owner has shape {tuple(owner.shape)}, expected ({len(extra)},): one anchor per extra candidate."
            )
        bad = (owner < 0) | (owner >= n)
        if bad.any():
            p = int(bad.nonzero()[0])
            raise DataError(f"owner[{p}] is {int(owner[p])}, but there are {n} anchors (0 to {n - 1}).")


def check_scale(scale: float | Tensor, q: Tensor) -> Tensor:
    """The scale as a tensor ``()`` or ``(N,)`` in the precision of the embeddings."""
    scale = torch.as_tensor(scale, dtype=q.dtype, device=q.device)
    if scale.ndim and scale.shape != (len(q),):
        if scale.numel() == 1:
            return scale.reshape(())
        raise DataError(
            f"scale has shape {tuple(scale.shape)}, expected () or ({len(q)},): one number, or one per anchor."
        )
    return scale


@torch.no_grad()
def check_finite(q: Tensor, k: Tensor, extra: Tensor | None, scale: Tensor, bias: Tensor | None) -> float:
    """A bound on the absolute scores, by the Cauchy-Schwarz inequality; an error that names the first bad row.

    NaN and infinities show in the norms, so that the one number answers both questions. Over many processes the bound
    is one for all, and all of them raise where one has to.
    """
    zero = q.new_zeros(1)
    norms = [zero if x is None else torch.cat([torch.linalg.vector_norm(x, dim=1), zero]) for x in (q, k, extra)]
    norms[0] = norms[0] * (F.pad(scale, (0, 1)) if scale.ndim else scale).abs()
    shift = zero[0] if bias is None else bias.abs()
    largest = torch.stack([norms[0].amax(), torch.maximum(norms[1].amax(), norms[2].amax()), shift])
    said = None
    if not largest.isfinite().all():
        said = not_finite(anchors=q, candidates=k, extra=extra, scale=scale, bias=bias)
    bad = zero if said is None else zero + 1
    left, right, shift, some = total(torch.cat([largest.nan_to_num(math.inf, math.inf), bad]), "max").tolist()
    if said is None and some:
        said = "Another process was given embeddings that hold NaN or infinity; what it says names the row."
    if said is not None:
        raise DataError(said)
    return float(left * right + shift)  # infinite for finite embeddings whose norms overflow


def not_finite(**given: Tensor | None) -> str | None:
    """Which of these holds NaN or infinity, and in which row; None: none does."""
    for name, z in given.items():
        if z is not None and not z.isfinite().all():
            rows = (~z.isfinite().reshape(len(z), -1).all(1)).nonzero() if z.ndim else None
            where = (
                "is not finite" if rows is None else f"row {int(rows[0])} holds NaN or infinity ({len(rows)} such rows)"
            )
            return f"{name}: {where}. Look at what came before: a learning rate too high, a zero vector normalised."
    return None
