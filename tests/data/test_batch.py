"""Items of several parts as one: in order, and padded with what their encoder pads them with."""

from __future__ import annotations

import pytest
import torch

from counterpoint.data.batch import Whole, joined
from counterpoint.errors import ConfigError


def test_joined_pads_the_second_axis_with_what_each_tensor_wants() -> None:
    short = {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 2), "domain": torch.tensor([[3]])}
    long = {"input_ids": torch.tensor([[7, 8, 9]]), "attention_mask": torch.ones(1, 3), "domain": torch.tensor([[4]])}
    found = joined([short, long], fill={"input_ids": 1})
    assert found["input_ids"].tolist() == [[5, 6, 1], [7, 8, 9]]  # type: ignore[call-overload]
    assert found["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]  # type: ignore[call-overload]
    assert found["domain"].tolist() == [[3], [4]]  # type: ignore[call-overload]


def test_tensors_are_put_one_after_another_and_graphs_are_refused() -> None:
    images = torch.randn(5, 3, 4, 4)
    assert torch.equal(joined([images[:2], images[2:]]), images)
    assert joined([images]) is images
    with pytest.raises(ConfigError, match="Graphs cannot be joined"):
        joined([Whole(nodes=torch.arange(2)), Whole(nodes=torch.arange(3))])
