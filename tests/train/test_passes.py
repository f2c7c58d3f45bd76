from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.train.passes import cut, lengths, number, part, sample, trim


def texts(rows: list[int], places: int | None = None) -> dict[str, Tensor]:
    """Rows of 1, 2, 3, ... with this many real tokens."""
    mask = torch.arange(places or max(rows)) < torch.tensor(rows)[:, None]
    return {"input_ids": (torch.arange(mask.shape[1]) + 1) * mask, "attention_mask": mask.long()}


def test_an_item_costs_the_tokens_up_to_its_last_real_one() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    assert lengths({"input_ids": mask, "attention_mask": mask}).tolist() == [2, 3, 1, 4]
    assert lengths(torch.zeros(3, 5)).tolist() == [1, 1, 1]
    assert lengths({"x": torch.zeros(2, 5)}).tolist() == [1, 1]
    assert lengths({"attention_mask": torch.zeros(0, 4)}).tolist() == []


def test_items_of_one_length_stay_in_their_order() -> None:
    order, slices = cut(np.full(10, 7), 3)
    assert order is None
    assert [(s.start, s.stop) for s in slices] == [(0, 4), (4, 8), (8, 10)]


def test_a_long_text_is_alone_and_short_ones_are_together() -> None:
    order, slices = cut(np.array([2, 90, 3, 2, 1, 50, 40]), 3)
    assert order is not None
    assert [order[s].tolist() for s in slices] == [[1], [5, 6], [2, 0, 3, 4]]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 12))
def test_passes_hold_every_item_once_and_the_largest_cannot_be_smaller(costs: list[int], count: int) -> None:
    order, slices = cut(np.array(costs), count)
    ranked = np.array(costs) if order is None else np.array(costs)[order]
    found = [ranked[s] for s in slices]
    assert len(found) <= count
    assert sorted(np.concatenate(found)) == sorted(costs)
    largest = max(len(x) * int(x[0]) for x in found)
    assert number(np.array(costs), largest) == len(found)
    if largest > max(costs):
        assert number(np.array(costs), largest - 1) > count


def test_passes_of_a_capacity_hold_no_more_padded_tokens_than_that() -> None:
    costs = np.array([9, 1, 4, 4, 5, 2])
    assert [number(costs, c) for c in (1, 9, 10, 15, 54)] == [6, 4, 4, 3, 1]


def test_a_pass_is_as_wide_as_its_longest_item() -> None:
    data = texts([1, 4, 2], places=8) | {"bags": torch.ones(3, 5), "weight": torch.ones(3)}
    got = part(data, torch.tensor([2, 0, 1]), slice(0, 2))
    assert isinstance(got, dict)
    assert got["input_ids"].tolist() == [[1, 2], [1, 0]]
    assert {k: tuple(v.shape) for k, v in got.items()} == {
        "input_ids": (2, 2), "attention_mask": (2, 2), "bags": (2, 5), "weight": (2,)
    }  # fmt: skip
    x = torch.zeros(2, 3)
    assert trim(x) is x


def test_sampled_items_are_real_all_through() -> None:
    got = sample(texts([2, 3], places=4), 3, 6)
    assert isinstance(got, dict)
    assert got["input_ids"].tolist() == [[1, 2, 0, 0, 1, 2]] * 3
    assert got["attention_mask"].tolist() == [[1] * 6] * 3
    assert torch.equal(sample(torch.arange(6.0).view(2, 3), 2, 1), torch.tensor([[0.0, 1, 2], [0, 1, 2]]))
