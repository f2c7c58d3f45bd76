"""The tiled back end is the reference, to the last digits, in memory that does not know the pair matrix."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import (
    Debiased,
    Decoupled,
    Diagonal,
    FalseNegatives,
    Hardness,
    Importance,
    Labels,
    Listed,
    LogWeights,
    Margin,
    MultiLabel,
    NotNear,
    NotSame,
    NotSelf,
    OnlySame,
    Rule,
    Soft,
    TeacherSimilarity,
)


def unit(n: int, d: int, generator: torch.Generator) -> Tensor:
    return normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1)


def pairings(n: int, m: int, extra: int, g: torch.Generator) -> Iterator[Rule]:
    """Every rule at least once, over n anchors, m candidates and some extra ones (as known by some of the rules)."""
    y, yc = torch.randint(4, (n,), generator=g), torch.randint(4, (m + extra,), generator=g)
    teacher, seen = unit(n, 3, g), unit(m + extra, 3, g)
    times, others = torch.rand(n, generator=g), torch.rand(m, generator=g)
    tags, their = torch.rand(n, 6, generator=g) > 0.6, torch.rand(m, 6, generator=g) > 0.6
    pairs = n * m // 3
    rows, columns = torch.randint(n, (pairs,), generator=g), torch.randint(m + extra, (pairs,), generator=g)
    own = torch.randint(m, (n,), generator=g)
    yield Listed(torch.arange(n), own)
    yield Listed(rows, columns, torch.rand(pairs, generator=g)) & NotSelf()
    yield Listed(rows, columns, normalise=False) & NotNear(times, 0.2, others) & Decoupled()
    yield Labels(y - 1, yc - 1)
    yield Labels(y, yc[:m]) & NotSelf() & Hardness(0.7)
    yield Labels(y, yc, normalise=False) & NotSame(y, yc[:m], spare=False)
    yield Labels(y, yc) & Margin(torch.rand(n, generator=g)) & OnlySame(y // 2, yc // 2)
    yield Labels(y, yc) & Debiased(0.2) & Hardness(0.5, unit_mean=True)
    yield Labels(y, yc[:m]) & Importance(torch.rand(m, generator=g), unit_mean=True) & Decoupled()
    yield Soft(torch.rand(n, m + extra, generator=g)) & LogWeights(torch.randn(n, m, generator=g))
    yield Soft((torch.rand(n, m, generator=g) - 0.7).clamp(min=0), normalise=True) & NotSelf() & Hardness(0.2)
    yield MultiLabel(tags, their) & NotSelf()
    yield MultiLabel(tags, their, kind="count") & Margin(0.2)
    yield MultiLabel(tags, their, kind="any") & FalseNegatives(teacher, seen, margin=0.1, positives=own)
    yield TeacherSimilarity(teacher, seen, slope=0.5, intercept=0.5)
    yield TeacherSimilarity(teacher, seen, temperature=0.1) & NotSelf()
    if n <= m:
        yield Diagonal(offset=m - n) & Hardness(0.5) & NotSame(y, yc)
        yield Diagonal(own=True) & FalseNegatives(teacher, seen, kind="relative")


def both_ways(pairing: Rule, q: Tensor, k: Tensor, extra: Tensor | None, **how: Any) -> list[list[Tensor]]:
    """[losses, then gradients of everything] by each back end."""
    out = []
    for backend in ("reference", "tiled"):
        leaves = [x.clone().requires_grad_() for x in (q, k, extra, how["scale"], how["bias"]) if x is not None]
        given = iter(leaves)
        a, b, e, s, c = (None if x is None else next(given) for x in (q, k, extra, how["scale"], how["bias"]))
        loss = contrast(a, b, pairing, extra=e, backend=backend, **{**how, "scale": s, "bias": c})
        weights = torch.linspace(0.5, 1.5, loss.numel(), dtype=loss.dtype)
        out.append([loss.detach(), *torch.autograd.grad(loss @ weights, leaves)])
    return out


def tolerance(dtype: torch.dtype, scales: Tensor) -> float:
    """Scores of size s are rounded by s eps, so probabilities have that error and gradients, s times them, s^2 eps.

    A gradient in which positives and negatives cancel has it whatever its own size; so has a teacher's target near 0.
    """
    if dtype == torch.float64:
        return 1e-10
    return max(1e-3, 4 * torch.finfo(dtype).eps * float(scales.max()) ** 2)


@pytest.mark.parametrize("which", range(18))
@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 11),
    m=st.integers(1, 11),
    more=st.integers(0, 6),
    tile=st.integers(1, 6),
    form=st.sampled_from(["softmax", "marginal", "sigmoid"]),
    both=st.booleans(),
    owned=st.booleans(),
    per_row=st.booleans(),
    scale=st.sampled_from([0.5, 8.0, 900.0]),
    dtype=st.sampled_from([torch.float64, torch.float64, torch.float32]),
    seed=st.integers(0, 99),
)
def test_tiled_equals_reference(
    which: int,
    n: int,
    m: int,
    more: int,
    tile: int,
    form: str,
    both: bool,
    owned: bool,
    per_row: bool,
    scale: float,
    dtype: Any,
    seed: int,
) -> None:
    g = torch.Generator().manual_seed(seed)
    q, k, extra = (unit(size, 4, g).to(dtype) for size in (n, m, more))
    if m > 2:
        k[1] = k[2]  # duplicates
    scales = (torch.rand(n, generator=g, dtype=torch.float64) + 0.5) * scale if per_row else torch.tensor(scale)
    how = {
        "scale": scales.to(dtype),
        "bias": torch.tensor(-1.5, dtype=dtype) if form == "sigmoid" else None,
        "form": form,
        "both": both and form != "sigmoid",
        "owner": torch.randint(n, (more,), generator=g) if owned and more else None,
        "tile": tile,
        "reduction": "none",
    }
    pairing = next(itertools.islice(pairings(n, m, more, g), which, None), None)
    assume(pairing is not None)
    assert pairing is not None
    words = {type(word).__name__ for word in pairing.words()}
    if form == "sigmoid":  # no denominator to correct, no softmax of a teacher; exp(beta 900) is no number
        assume(not words & {"Debiased", "TeacherSimilarity"} and not (scale > 100 and "Hardness" in words))
        assume(not any(getattr(w, "unit_mean", False) for w in pairing.words()))
    assume(not (how["both"] and per_row and "Debiased" in words))
    dense, tiled = both_ways(pairing, q, k, extra if more else None, **how)
    for a, b in zip(dense, tiled):
        assert torch.isfinite(a).all()
        assert (a - b).abs().max() <= tolerance(dtype, scales) * a.abs().max().clamp(min=1)


@pytest.mark.parametrize("form", ["softmax", "marginal", "sigmoid"])
def test_gradcheck(form: Any) -> None:
    g = torch.Generator().manual_seed(0)
    q, k, extra = (unit(n, 3, g).requires_grad_() for n in (5, 6, 3))
    scale = (torch.rand(5, dtype=torch.float64) + 2).requires_grad_()
    bias = torch.tensor(-0.5, dtype=torch.float64, requires_grad=True)
    pairing = Labels(torch.arange(5) % 3, torch.arange(9) % 4) & NotSelf() & Margin(0.2)

    def loss(*x: Tensor) -> Tensor:
        return contrast(
            x[0],
            x[1],
            pairing,
            extra=x[2],
            scale=x[3],
            bias=x[4] if form == "sigmoid" else None,
            form=form,
            both=form != "sigmoid",
            reduction="none",
            backend="tiled",
            tile=2,
        )

    assert torch.autograd.gradcheck(loss, (q, k, extra, scale, bias))


@pytest.mark.parametrize("scale", [1e4, 100.0, 1.0])
def test_extreme_scales_in_float32(scale: float) -> None:
    """A running maximum takes over where one shift cannot serve all rows; both give what float64 gives."""
    g = torch.Generator().manual_seed(0)
    q, k = unit(50, 4, g), unit(50, 4, g)
    q[7] = -k.mean(0) / k.mean(0).norm()
    exact = contrast(q, k, scale=scale, both=True, reduction="none", backend="reference")
    single = contrast(q.float(), k.float(), scale=scale, both=True, reduction="none", backend="tiled", tile=16)
    assert torch.allclose(single.double(), exact, rtol=1e-5, atol=2e-6 * scale)


def test_a_row_far_below_the_shift_is_found_and_computed_again() -> None:
    q = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    k = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    rows = contrast(q, k, scale=110.0, reduction="none", backend="tiled", tile=1)  # row 1: exp(-110) of both candidates
    assert torch.allclose(rows, torch.full((2,), 2.0).log())


@pytest.mark.parametrize("weight", [-50.0, -500.0, -torch.inf])
def test_weights_that_leave_almost_nothing(weight: float) -> None:
    z = unit(6, 3, torch.Generator().manual_seed(0)).float()
    pairing = Diagonal() & Decoupled() & LogWeights(torch.full((6, 6), weight))
    tiled, dense = (
        contrast(z, z, pairing, reduction="none", both=True, backend=b, tile=2)  # type: ignore[arg-type]
        for b in ("tiled", "reference")
    )
    assert torch.allclose(tiled, dense)
    assert (tiled == 0).all() == (weight == -torch.inf)


def test_pairs_of_tiles_that_are_skipped_are_counted_as_dropped() -> None:
    g = torch.Generator().manual_seed(0)
    q, k, extra = unit(7, 4, g), unit(7, 4, g), unit(5, 4, g)
    pairing = Diagonal(own=True) & Debiased(0.1)
    dense, tiled = (contrast(q, k, pairing, extra=extra, backend=b, tile=3) for b in ("reference", "tiled"))  # type: ignore[arg-type]
    assert torch.allclose(dense, tiled, rtol=1e-12)


def test_all_rows_equal_and_single_rows() -> None:
    same = torch.ones(9, 3) / 3**0.5
    loss = contrast(same, same, scale=1e4, both=True, backend="tiled", tile=4)
    assert abs(loss - torch.tensor(9.0).log()) < 2e-3  # scores of 1e4 have a rounding of 1e-3
    one = torch.ones(1, 3, requires_grad=True)
    loss = contrast(one, one, scale=5.0, both=True, backend="tiled")
    loss.backward()
    assert loss == 0
    assert one.grad is not None
    assert (one.grad.abs() < 1e-6).all()


def test_one_anchor_and_a_million_candidates() -> None:
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 2, generator=g).requires_grad_(), torch.randn(1_000_000, 2, generator=g)
    loss = contrast(q, k, backend="tiled")
    expected = torch.logsumexp(k.double() @ q[0].detach().double(), 0) - q[0].detach() @ k[0]
    assert torch.allclose(loss.double(), expected, rtol=1e-5)


def test_same_call_same_bits() -> None:
    g = torch.Generator().manual_seed(0)
    q, k = (unit(300, 8, g).float().requires_grad_() for _ in range(2))
    runs = [
        torch.autograd.grad(contrast(q, k, scale=20.0, both=True, tile=64, backend="tiled"), (q, k)) for _ in range(2)
    ]
    for a, b in zip(*runs):
        assert torch.equal(a, b)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, Tensor) and not x.is_sparse:
                self.numel = max(self.numel, x.untyped_storage().nbytes() // x.element_size())
        return out


def test_the_pair_matrix_never_exists() -> None:
    n, d, tile = 320, 8, 64
    g = torch.Generator().manual_seed(0)
    q, k, extra = (unit(size, d, g).requires_grad_() for size in (n, n, 160))
    for pairing in pairings(n, n, 160, g):
        if any(type(w).__name__ in ("Soft", "LogWeights") for w in pairing.words()):
            continue  # these exist whole by their nature
        if isinstance(pairing.words()[0], Listed) and len(pairing.words()[0].rows) > n:
            continue  # a list as long as a third of the matrix
        for form in ("softmax", "marginal"):
            with Largest() as largest:
                contrast(
                    q, k, pairing, scale=20.0, extra=extra, form=form, both=True, tile=tile, backend="tiled"
                ).backward()
            assert largest.numel <= max(tile * tile, (n + 160) * d), pairing


def test_a_memory_budget_bounds_the_tiles() -> None:
    q = torch.randn(900, 4)
    with Largest() as largest:
        contrast(q, q, Diagonal(), budget=1 << 18, backend="tiled")
    assert largest.numel <= (1 << 18) // (8 * 4) or largest.numel == q.numel()
