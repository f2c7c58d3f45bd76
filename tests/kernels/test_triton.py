"""The Triton back end is the reference too: on a GPU where there is one, otherwise in Triton's interpreter."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.kernels import triton
from counterpoint.kernels.backend import Grads, Pull
from counterpoint.kernels.tile import Job
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.engine import forms
from counterpoint.objectives.engine.byproducts import Stats
from counterpoint.objectives.pairing import (
    Debiased,
    Decoupled,
    Diagonal,
    FalseNegatives,
    Hardness,
    Importance,
    Labels,
    Listed,
    Margin,
    NotSame,
    NotSelf,
    OnlySame,
    Rule,
    TeacherSimilarity,
)
from counterpoint.objectives.rules import Pairing
from tests.kernels.test_tiled import Largest, unit

pytest.importorskip("triton", reason="triton has no wheel for this system")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Make = Callable[[int, int, int, torch.Generator], Rule]
"""A pairing of n anchors, m candidates and some extra ones."""


def labels(n: int, g: torch.Generator) -> Tensor:
    return torch.randint(4, (n,), generator=g)


PAIRINGS: dict[str, Make] = {
    "diagonal": lambda n, m, e, g: Diagonal(offset=max(0, m - n)),
    "own": lambda n, m, e, g: Diagonal(own=True) & Debiased(0.1),
    "labels": lambda n, m, e, g: Labels(labels(n, g) - 1, labels(m + e, g) - 1),
    "views": lambda n, m, e, g: Labels(labels(n, g), labels(m, g), self_pairs=False) & Hardness(0.7),
    "two masks": lambda n, m, e, g: (
        Labels(labels(n, g), labels(m, g), normalise=False)
        & NotSame(labels(n, g), labels(m + e, g), spare=False)
        & OnlySame(labels(n, g) // 2, labels(m, g) // 2)
    ),
    "margins": lambda n, m, e, g: Labels(labels(n, g), labels(m + e, g)) & Margin(torch.rand(n, generator=g)),
    "importance": lambda n, m, e, g: (
        Labels(labels(n, g), labels(m, g)) & Importance((torch.rand(m, generator=g) - 0.2).relu()) & Decoupled()
    ),
    "unit mean": lambda n, m, e, g: (
        Labels(labels(n, g), labels(m + e, g)) & Debiased(0.2) & Hardness(0.5, unit_mean=True) & Margin(0.1)
    ),
    "teacher": lambda n, m, e, g: TeacherSimilarity(unit(n, 3, g), unit(m + e, 3, g), slope=0.5, intercept=0.5),
    "teacher clipped": lambda n, m, e, g: (
        TeacherSimilarity(unit(n, 40, g), unit(m, 40, g), intercept=-0.05, clip=True) & NotSelf()
    ),
    "teacher softmax": lambda n, m, e, g: TeacherSimilarity(unit(n, 3, g), unit(m + e, 3, g), temperature=0.1),
    "teacher sharp": lambda n, m, e, g: TeacherSimilarity(unit(n, 3, g), unit(m, 3, g), temperature=0.01),
    "guide": lambda n, m, e, g: (
        Labels(labels(n, g), labels(m + e, g))
        & FalseNegatives(unit(n, 3, g), unit(m + e, 3, g), margin=0.1, positives=torch.randint(m, (n,), generator=g))
    ),
    "guide and teacher": lambda n, m, e, g: (
        TeacherSimilarity(unit(n, 5, g), unit(m, 5, g), clip=True)
        & FalseNegatives(unit(n, 3, g), unit(m, 3, g), margin=0.1, positives=torch.randint(m, (n,), generator=g))
    ),
}


def moved(rule: Rule) -> Rule:
    """The rule with its tensors where the embeddings are."""
    parts = []
    for word in rule.words():
        tensors = {name: value for name, value in vars(word).items() if isinstance(value, Tensor)}
        for name, value in tensors.items():
            object.__setattr__(word, name, value.to(DEVICE))
        parts.append(word)
    return Pairing(parts)


def both_ways(pairing: Rule | None, given: list[Tensor | None], exact: Any = torch.float64, **how: Any) -> Any:
    """[losses, then gradients of anchors, candidates, extra, scale, bias] of the reference, then of the kernels."""
    for backend, dtype in (("reference", exact), ("triton", torch.float32)):
        leaves = [None if x is None else x.detach().to(DEVICE, dtype).requires_grad_() for x in given]
        q, k, extra, scale, bias = leaves
        assert q is not None
        assert k is not None
        rules = None if pairing is None else moved(pairing)
        loss = contrast(
            q, k, rules, extra=extra, scale=1.0 if scale is None else scale, bias=bias, reduction="none",
            backend=backend, **how,
        )  # fmt: skip
        weights = torch.linspace(0.5, 1.5, loss.numel(), device=DEVICE, dtype=loss.dtype)
        grads = torch.autograd.grad(loss @ weights, [x for x in leaves if x is not None])
        yield [x.detach().double() for x in (loss, *grads)]


def agree(pairing: Rule | None, given: list[Tensor | None], **how: Any) -> None:
    exact, kernels = both_ways(pairing, given, **how)
    # Scores of size s are rounded by s eps; a few such errors add up in a product.
    allowed = 3e-6 + 8 * torch.finfo(torch.float32).eps * (1.0 if given[3] is None else float(given[3].max()))
    for a, b in zip(exact, kernels):
        assert torch.isfinite(b).all()
        assert (a - b).abs().max() <= allowed * a.abs().max().clamp(min=1)


@pytest.mark.parametrize("name", PAIRINGS)
@settings(max_examples=2, deadline=None)
@given(
    n=st.integers(1, 90),
    m=st.integers(1, 150),
    more=st.integers(0, 30),
    tile=st.sampled_from([16, 32, 40]),
    form=st.sampled_from(["softmax", "marginal", "sigmoid"]),
    both=st.booleans(),
    owned=st.booleans(),
    per_row=st.booleans(),
    scale=st.sampled_from([0.5, 8.0, 900.0]),
    seed=st.integers(0, 99),
)
@example(n=37, m=45, more=19, tile=16, form="softmax", both=True, owned=False, per_row=False, scale=8.0, seed=0)
@example(n=37, m=45, more=19, tile=32, form="marginal", both=True, owned=False, per_row=True, scale=900.0, seed=1)
@example(n=37, m=45, more=19, tile=32, form="sigmoid", both=False, owned=False, per_row=False, scale=8.0, seed=2)
def test_triton_equals_reference(
    name: str, n: int, m: int, more: int, tile: int, form: str, both: bool, owned: bool, per_row: bool, scale: float,
    seed: int,
) -> None:  # fmt: skip
    if name in ("diagonal", "own"):
        n = min(n, m)
    g = torch.Generator().manual_seed(seed)
    q, k, extra = (unit(size, 4, g) for size in (n, m, more))
    scales = (torch.rand(n, generator=g, dtype=torch.float64) + 0.5) * scale if per_row else torch.tensor(scale)
    owner = torch.randint(n, (more,), generator=g).to(DEVICE) if owned and more else None
    pairing = PAIRINGS[name](n, m, more, g)
    if name in ("own", "unit mean"):
        form = "softmax" if form == "sigmoid" else form  # a sigmoid has no denominator to correct
        scales = scales if scales.ndim == 0 or not both else torch.tensor(scale)
    if form == "sigmoid" and ("softmax" in name or "sharp" in name or (scale > 100 and name == "views")):
        return  # no softmax of a teacher; exp(beta 900) is no number
    both = both and form != "sigmoid" and name != "teacher sharp"
    bias = torch.tensor(-1.5) if form == "sigmoid" else None
    given = [q, k, extra if more else None, scales.float(), bias]
    agree(pairing, given, form=form, both=both, owner=owner, tile=tile)


@pytest.mark.parametrize("width", [1, 7, 96, 200, 1000])
def test_any_width(width: int) -> None:
    g = torch.Generator().manual_seed(width)
    agree(None, [unit(33, width, g), unit(70, width, g), None, torch.tensor(20.0), None], both=True, tile=64)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 150), (150, 150)])
def test_single_rows_and_several_blocks(n: int, m: int) -> None:
    g = torch.Generator().manual_seed(n)
    agree(None, [unit(n, 8, g), unit(m, 8, g), None, torch.tensor(20.0), None], both=True)


@pytest.mark.parametrize("scale", [1e4, 110.0])
def test_extreme_scales(scale: float) -> None:
    """Logsumexps take over where one shift cannot serve all rows."""
    g = torch.Generator().manual_seed(0)
    q, k = unit(50, 4, g), unit(50, 4, g)
    q[7] = -k.mean(0) / k.mean(0).norm()
    agree(None, [q, k, None, torch.tensor(scale), None], both=True, tile=32)


def test_a_row_far_below_the_shift_is_found_and_computed_again() -> None:
    q = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], device=DEVICE)
    k = torch.tensor([[1.0, 0.0], [1.0, 0.0]], device=DEVICE)
    rows = contrast(q, k, scale=110.0, reduction="none", backend="triton")  # row 1: exp(-110) of both candidates
    assert torch.allclose(rows.cpu(), torch.full((2,), 2.0).log())


def test_all_rows_equal() -> None:
    same = (torch.ones(40, 3) / 3**0.5).to(DEVICE)
    loss = contrast(same, same, scale=1e4, both=True, backend="triton", tile=16)
    assert abs(loss - torch.tensor(40.0).log()) < 2e-3  # scores of 1e4 have a rounding of 1e-3


@pytest.mark.parametrize("scale", [5.0, 1e4])
@pytest.mark.parametrize("form", ["softmax", "marginal", "sigmoid"])
def test_a_row_that_is_masked_whole_contributes_nothing(form: Any, scale: float) -> None:
    g = torch.Generator().manual_seed(0)
    q, k = (unit(20, 4, g).float().to(DEVICE).requires_grad_() for _ in range(2))
    groups = torch.arange(20, device=DEVICE) % 3
    alone = groups.clone()
    alone[4] = 7  # no candidate is of its group
    pairing = Labels(torch.arange(20, device=DEVICE) % 6) & OnlySame(alone, groups, spare=False)
    losses = contrast(q, k, pairing, scale=scale, form=form, reduction="none", backend="triton", tile=16)
    losses.sum().backward()
    assert losses[4] == 0
    assert losses.sum() > 0
    assert q.grad is not None
    assert (q.grad[4] == 0).all()
    assert (q.grad != 0).any()
    assert torch.isfinite(q.grad).all()


@pytest.mark.parametrize("name", ["diagonal", "teacher clipped"])
def test_bfloat16_products(name: str) -> None:
    g = torch.Generator().manual_seed(0)
    q, k = unit(60, 48, g), unit(60, 48, g)
    exact, rounded = both_ways(
        PAIRINGS[name](60, 60, 0, g), [q, k, None, None, None], both=True, tile=64, precision="bfloat16"
    )
    for a, b in zip(exact, rounded):
        assert 0 < (a - b).norm() <= 0.01 * a.norm()


def test_only_the_gradients_that_are_needed() -> None:
    g = torch.Generator().manual_seed(0)
    q, k, extra = (unit(20, 8, g).float().to(DEVICE) for _ in range(3))
    whole = [x.clone().requires_grad_() for x in (q, k, extra)]
    how: Any = {"scale": 9.0, "both": True, "backend": "triton", "tile": 16}
    expected = torch.autograd.grad(contrast(whole[0], whole[1], extra=whole[2], **how), whole)
    for which in range(3):
        given = [q, k, extra]
        given[which] = given[which].clone().requires_grad_()
        contrast(given[0], given[1], extra=given[2], **how).backward()
        assert torch.equal(given[which].grad, expected[which])  # type: ignore[arg-type]


def test_same_call_same_bits() -> None:
    g = torch.Generator().manual_seed(0)
    q, k = (unit(100, 8, g).float().to(DEVICE).requires_grad_() for _ in range(2))
    runs = [
        torch.autograd.grad(contrast(q, k, scale=20.0, both=True, tile=32, backend="triton"), (q, k)) for _ in range(2)
    ]
    for a, b in zip(*runs):
        assert torch.equal(a, b)


def test_columns_in_parts_are_pulled_by_the_logsumexp_of_all() -> None:
    """Which is how blocks of candidates go around many processes."""
    g = torch.Generator().manual_seed(0)
    q, k = (5 * unit(30, 4, g).float().to(DEVICE) for _ in range(2))
    pairing = Labels(torch.arange(30, device=DEVICE) % 4)

    def job(rules: Labels) -> Job:
        plan = Pairing([rules])
        return Job(rules=plan, asked=forms.asked(plan, "softmax", both=False, linear=False, watched=False), limit=26.0)

    whole, _, state = triton.forward(q, k, None, None, job(pairing))
    grads = Grads(over=torch.rand(30, device=DEVICE), dot=torch.rand(30, device=DEVICE))
    expected = triton.backward(q, k, None, None, job(pairing), state, Pull(whole, grads), None, [True] * 4)
    parts = [slice(0, 11), slice(11, 30)]
    seen = [
        (job(Labels(pairing.labels, pairing.labels[part])), *triton.forward(q, k[part], None, None, job(pairing))[::2])
        for part in parts
    ]
    total = torch.logaddexp(*(triton.forward(q, k[p], None, None, of)[0].over for p, (of, *_) in zip(parts, seen)))
    assert torch.allclose(total, whole.over)
    found = [
        triton.backward(q, k[part], None, None, of, state, Pull(whole, grads), None, [True] * 4)
        for part, (of, _, state) in zip(parts, seen)
    ]
    assert expected[0] is not None
    assert torch.allclose(sum(f[0] for f in found), expected[0], atol=1e-6)  # type: ignore[arg-type, misc]
    assert torch.allclose(torch.cat([f[1] for f in found]), expected[1], atol=1e-6)  # type: ignore[arg-type, misc]


def test_the_pair_matrix_never_exists() -> None:
    n, d, tile = 200, 8, 32
    g = torch.Generator().manual_seed(0)
    q, k = (unit(n, d, g).float().to(DEVICE).requires_grad_() for _ in range(2))
    with Largest() as largest:
        contrast(q, k, scale=20.0, both=True, tile=tile, backend="triton").backward()
    assert largest.numel < n * n / 2


def test_what_the_kernels_cannot_do_is_said(caplog: pytest.LogCaptureFixture) -> None:
    z = unit(12, 4, torch.Generator().manual_seed(0)).float().to(DEVICE)
    y = torch.arange(12, device=DEVICE)
    with pytest.raises(ConfigError, match=r"float64.*'tiled'"):
        contrast(z.double(), z.double(), backend="triton")
    with pytest.raises(ConfigError, match="pairing Listed"):
        contrast(z, z, Listed(y, y) & NotSelf(), backend="triton")
    with pytest.raises(ConfigError, match="2 masks"):
        contrast(z, z, Diagonal() & NotSame(y) & NotSame(y) & OnlySame(y // 6), backend="triton")
    with pytest.raises(ConfigError, match="one mask by a guide"):
        contrast(z, z, Diagonal() & FalseNegatives(z) & FalseNegatives(z), backend="triton")
    stats = Stats()
    with caplog.at_level(logging.DEBUG):
        contrast(z, z, backend="triton", stats=stats)
    assert "tiled, not triton" in caplog.text
    assert stats.accuracy == 1


def test_embeddings_elsewhere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    z = torch.eye(4)
    with pytest.raises(ConfigError, match="on cpu"):
        contrast(z, z, backend="triton")
