"""What every objective declares about itself: its behaviour across processes and a small valid call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from counterpoint.objectives.ranks import RankBehaviour

Example: TypeAlias = Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]]
"""seed -> (args, kwargs) of a small valid call in float64; gradients reach the floating point tensors of args."""

F = TypeVar("F", bound=Callable[..., Any])


class Objective(Protocol):
    """A pure function from embeddings to a loss, with its declarations."""

    rank: RankBehaviour
    example: Example

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


def objective(*, rank: RankBehaviour, example: Example) -> Callable[[F], F]:
    """Decorator: attach ``rank`` and ``example`` to an objective. Nothing is registered anywhere.

    >>> import torch
    >>> def example(seed):
    ...     return (torch.ones(2, 3, dtype=torch.float64),), {}
    >>> @objective(rank=RankBehaviour.LOCAL, example=example)
    ... def norm(z):
    ...     return z.square().sum(1).mean()
    >>> norm.rank.value, float(norm(*norm.example(0)[0]))
    ('local', 3.0)
    """

    def attach(function: F) -> F:
        declared = cast(Objective, function)
        declared.rank = rank
        declared.example = example
        return function

    return attach


def is_objective(value: object) -> bool:
    """Whether a value was declared with `objective` (the conformance suite finds objectives by this).

    value: anything.

    >>> from counterpoint.objectives.rank import cosent
    >>> is_objective(cosent), is_objective(print)
    (True, False)
    """
    return callable(value) and isinstance(getattr(value, "rank", None), RankBehaviour) and hasattr(value, "example")
