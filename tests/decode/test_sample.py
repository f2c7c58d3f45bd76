"""Greedy decoding and the nucleus."""

from __future__ import annotations

import pytest
import torch

from counterpoint.decode.sample import draw, greedy, nucleus
from counterpoint.errors import ConfigError
from tests.decode.table import Table

P = torch.tensor([[0.1, 0.5, 0.15, 0.25]], dtype=torch.float64)


def drawn(p: float, n: int = 4000, temperature: float = 1.0) -> torch.Tensor:
    """The share of each token among many draws."""
    random = torch.Generator().manual_seed(0)
    found = draw(P.log().expand(n, -1), random, p=p, temperature=temperature)
    return torch.bincount(found, minlength=4).double() / n


def test_the_nucleus_is_the_fewest_that_hold_p() -> None:
    assert torch.allclose(drawn(1.0), P[0], atol=0.03)
    assert torch.allclose(drawn(0.7), torch.tensor([0.0, 2 / 3, 0.0, 1 / 3]).double(), atol=0.03)  # .5 + .25 >= .7
    assert drawn(0.75)[2] == 0  # .5 + .25 are just enough
    assert drawn(0.76)[2] > 0.1
    assert drawn(0.01).tolist() == [0, 1, 0, 0]  # never fewer than one


def test_temperature_sharpens() -> None:
    assert torch.allclose(drawn(1.0, temperature=0.5), P[0].square() / P.square().sum(), atol=0.03)


def test_seeds_and_ends() -> None:
    model = Table({1: [0.2, 0.4, 0.4], 2: [0.2, 0.4, 0.4]}, [[1.0]] * 3)
    prefixes = [[1]] * 20
    first = nucleus(model, prefixes, max_new=12, p=1.0, seed=3)
    assert first == nucleus(model, prefixes, max_new=12, p=1.0, seed=3)
    assert first != nucleus(model, prefixes, max_new=12, p=1.0, seed=4)
    assert len({len(row) for row in first}) > 3  # each ended where it did
    assert all(0 not in row for row in first)


def test_greedy_takes_the_most_probable_until_the_end() -> None:
    model = Table({1: [0.1, 0.2, 0.7], 2: [0.6, 0.1, 0.3]}, [[1.0]] * 3)
    assert greedy(model, [[1], [2], [1, 1], []], max_new=5) == [[2], [], [2], [2]]
    assert greedy(model, [[1]], max_new=0) == [[]]


def test_what_is_refused() -> None:
    model = Table({1: [0.5, 0.5]}, [[1.0]] * 2)
    for settings in ({"p": 0.0}, {"p": 1.1}, {"temperature": 0.0}):
        with pytest.raises(ConfigError, match="="):
            nucleus(model, [[1]], **settings)
