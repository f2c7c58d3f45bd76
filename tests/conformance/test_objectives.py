"""Every objective passes these checks; the suite finds them by their declaration, nobody has to list one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import counterpoint.objectives as package
from counterpoint.errors import CounterpointError
from counterpoint.objectives.base import is_objective
from counterpoint.objectives.ranks import RankBehaviour


def discover() -> dict[str, Callable[..., Any]]:
    found = {}
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if is_objective(value) and value.__module__ == info.name:
                found[f"{info.name.rsplit('.', 1)[1]}.{name}"] = value
    return found


OBJECTIVES = discover()
every = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def floats(args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    return [v for v in [*args, *kwargs.values()] if isinstance(v, Tensor) and v.is_floating_point()]


def scalars(value: Any) -> Iterator[Tensor]:
    """The scalar losses in what an objective returns: a tensor, or several of them in a mapping or a tuple."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from scalars(v)
    elif isinstance(value, tuple | list):
        for v in value:
            yield from scalars(v)


def total(value: Any) -> Tensor:
    return torch.stack([v.double().sum() for v in scalars(value)]).sum()


def test_there_are_objectives() -> None:
    assert len(OBJECTIVES) >= 12
    assert {o.rank for o in OBJECTIVES.values()} == set(RankBehaviour)  # type: ignore[attr-defined]


@every
def test_docstring_gives_shapes_and_a_source(objective: Callable[..., Any]) -> None:
    doc = objective.__doc__ or ""
    assert "(N" in doc or "(B" in doc, "no shape"
    assert any(word in doc for word in ("arXiv", "20", "19")), "no source"


@every
def test_loss_and_gradients_are_finite_and_some_input_moves(objective: Callable[..., Any]) -> None:
    args, kwargs = objective.example(0)  # type: ignore[attr-defined]
    inputs = [t.requires_grad_() for t in floats(args, kwargs)]
    loss = total(objective(*args, **kwargs))
    assert torch.isfinite(loss)
    if not loss.requires_grad:
        pytest.skip("gives targets or readings, not a loss to descend")
    grads = torch.autograd.grad(loss, inputs, allow_unused=True)
    reached = [g for g in grads if g is not None]
    assert reached
    assert all(torch.isfinite(g).all() for g in reached)
    assert any(g.abs().max() > 0 for g in reached)


@every
def test_same_call_same_bits(objective: Callable[..., Any]) -> None:
    first, second = (objective(*args, **kwargs) for args, kwargs in (objective.example(3), objective.example(3)))  # type: ignore[attr-defined]
    for a, b in zip(scalars(first), scalars(second)):
        assert torch.equal(a, b)


@every
def test_float32_follows_float64(objective: Callable[..., Any]) -> None:
    args, kwargs = objective.example(1)  # type: ignore[attr-defined]
    single = lambda v: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v  # noqa: E731
    torch.manual_seed(0)
    exact = objective(*args, **kwargs)
    torch.manual_seed(0)
    try:
        rounded = objective(*map(single, args), **{k: single(v) for k, v in kwargs.items()})
    except RuntimeError as error:
        pytest.skip(f"the example holds further float64 state: {error}")
    for a, b in zip(scalars(exact), scalars(rounded)):
        assert b.dtype == torch.float32 or not a.is_floating_point()
        assert torch.allclose(a.float(), b.float(), rtol=2e-4, atol=2e-5)


@every
def test_the_order_of_the_rows_does_not_matter(objective: Callable[..., Any]) -> None:
    """Rows permuted together in every argument: the same loss (for losses whose arguments are all row-aligned)."""
    args, kwargs = objective.example(2)  # type: ignore[attr-defined]
    tensors = [v for v in [*args, *kwargs.values()] if isinstance(v, Tensor) and v.ndim]
    others = [v for v in args if not isinstance(v, Tensor | float | int | str | bool | type(None))]
    n = len(tensors[0])
    if others or any(len(t) != n or (t.ndim == 2 and t.shape == (n, n)) for t in tensors):
        pytest.skip("not all arguments are aligned by row")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    move = lambda v: v[order] if isinstance(v, Tensor) and v.ndim else v  # noqa: E731
    torch.manual_seed(0)
    before = total(objective(*args, **kwargs))
    torch.manual_seed(0)
    after = total(objective(*map(move, args), **{k: move(v) for k, v in kwargs.items()}))
    assert torch.allclose(before, after, rtol=1e-9, atol=1e-10)


@every
def test_nan_is_never_hidden(objective: Callable[..., Any]) -> None:
    """A NaN in the input is an error that says so, or a NaN in the loss; never a finite loss."""
    args, kwargs = objective.example(4)  # type: ignore[attr-defined]
    first = floats(args, kwargs)[0]
    first.view(-1)[0] = torch.nan
    try:
        said = str(total(objective(*args, **kwargs)).item())
    except CounterpointError as error:
        said = str(error)
    assert "nan" in said.lower() or "finite" in said.lower()
