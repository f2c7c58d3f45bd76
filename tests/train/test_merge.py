"""Weights of several runs as one, by how far each went."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from counterpoint.errors import ConfigError, ModelError
from counterpoint.train.merge import merge, weights

START = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([[0.0]]), "n": torch.tensor(3)}
ONE = {"a": torch.tensor([4.0, 1.0]), "b": torch.tensor([[0.0]]), "n": torch.tensor(5)}  # a: by 3 and 0
TWO = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([[2.0]]), "n": torch.tensor(6)}  # a: by 0 and -1


def values(state: dict[str, Tensor]) -> tuple[list[float], float]:
    return [round(x, 6) for x in state["a"].tolist()], float(state["b"])


def test_each_tensor_has_more_of_the_run_that_moved_it_more() -> None:
    # a: 3/4 of run one, 1/4 of run two; b: run two alone moved it.
    assert values(merge(START, [ONE, TWO])) == ([1 + 0.75 * 3, 1 - 0.25], 2)
    assert values(merge(START, [ONE, TWO], by="inverse")) == ([1 + 0.25 * 3, 1 - 0.75], 0)


def test_each_element_has_more_of_the_run_that_moved_it_more() -> None:
    assert values(merge(START, [ONE, TWO], each="element")) == ([4.0, 0.0], 2)


def test_a_soup_is_the_mean_whatever_the_start() -> None:
    assert values(merge(START, [ONE, TWO], by="uniform")) == ([2.5, 0.5], 1)
    other = {k: v + 1 for k, v in START.items()}
    assert values(merge(other, [ONE, TWO], by="uniform")) == ([2.5, 0.5], 1)


@pytest.mark.parametrize("by", ["delta", "inverse", "uniform"])
@pytest.mark.parametrize("each", ["tensor", "element"])
def test_limits(by: str, each: str) -> None:
    settings = {"by": by, "each": each}
    assert values(merge(START, [ONE, ONE, ONE], **settings)) == values(ONE)  # type: ignore[arg-type]
    assert values(merge(START, [START, START], **settings)) == values(START)  # type: ignore[arg-type]
    shares = weights(torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0)), **settings)  # type: ignore[arg-type]
    assert torch.allclose(shares.sum(0), torch.ones(()))
    found = merge(START, [ONE, TWO], **settings)  # type: ignore[arg-type]
    assert int(found["n"]) == 5
    assert found["a"].dtype == torch.float32
    assert found["a"].data_ptr() != ONE["a"].data_ptr()


def test_what_cannot_be_merged() -> None:
    with pytest.raises(ModelError, match="c is in one of the models and not in another"):
        merge(START, [ONE, {**TWO, "c": torch.zeros(1)}])
    with pytest.raises(ModelError, match=r"a has the shape \(3,\) in one of the models and \(2,\)"):
        merge(START, [ONE, {**TWO, "a": torch.zeros(3)}])
    with pytest.raises(ConfigError, match="at least one run"):
        merge(START, [])
    with pytest.raises(ConfigError, match="by='soup'"):
        merge(START, [ONE], by="soup")  # type: ignore[arg-type]
