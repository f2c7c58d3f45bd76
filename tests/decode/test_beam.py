"""Beam search: with enough open continuations it finds the best of all."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from counterpoint.decode.beam import beam
from counterpoint.decode.sample import greedy
from counterpoint.errors import ConfigError
from tests.decode.table import END, Table


def model(seed: int, tokens: int = 4) -> Table:
    random = torch.Generator().manual_seed(seed)
    p = torch.rand(tokens, tokens, generator=random, dtype=torch.float64).mul(2).exp()
    return Table(dict(enumerate((p / p.sum(1, keepdim=True)).tolist())), [[1.0]] * tokens)


def best(table: Table, first: int, most: int, length: float) -> list[int]:
    """The best of all texts of at most `most` tokens: ended, or as long as that."""
    logp = table.logits.log_softmax(-1)
    scored = []
    for n in range(1, most + 1):
        for text in itertools.product(range(len(logp)), repeat=n):
            if END in text[:-1] or (text[-1] != END and n < most):
                continue
            total = math.fsum(float(logp[a, b]) for a, b in itertools.pairwise((first, *text)))
            scored.append((total / n**length, [t for t in text if t != END]))
    return max(scored)[1]


@pytest.mark.parametrize("length", [0.0, 1.0])
def test_with_room_for_all_it_finds_the_best(length: float) -> None:
    for seed in range(8):
        table = model(seed)
        found = beam(table, [[1], [2], [3]], max_new=4, width=64, length=length)
        assert found == [best(table, first, 4, length) for first in (1, 2, 3)]


def test_a_batch_is_as_one_by_one_and_one_open_is_greedy() -> None:
    table = model(11, tokens=7)
    prefixes = [[1], [2, 3], [4], []]
    assert beam(table, prefixes, max_new=9) == [beam(table, [p], max_new=9)[0] for p in prefixes]
    table.logits[:, END] = -50.0  # which never ends
    assert beam(table, prefixes, max_new=9, width=1) == greedy(table, prefixes, max_new=9)


def test_it_gives_up_the_best_first_token_for_a_better_text() -> None:
    table = Table({1: [0.0, 0.0, 0.6, 0.4], 2: [0.3, 0.3, 0.2, 0.2], 3: [0.99, 0.01, 0.0, 0.0]}, [[1.0]] * 4)
    assert greedy(table, [[1]], max_new=2)[0][0] == 2
    assert beam(table, [[1]], max_new=2, width=2, length=0.0) == [[3]]  # .4 x .99 against .6 x .3


def test_what_is_refused() -> None:
    for settings in ({"width": 0}, {"length": -1.0}):
        with pytest.raises(ConfigError, match="="):
            beam(model(0), [[1]], **settings)  # type: ignore[arg-type]
    assert beam(model(0), [[1]], max_new=0) == [[]]
