"""Attention over the instances of a bag: weights that sum to one, in any company and any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoint.encoders import folder
from counterpoint.encoders.bag_attention import BagAttention, BagEncoder
from counterpoint.encoders.vectors import VectorConfig, Vectors
from counterpoint.errors import ConfigError, DataError, ModelError

RNG = np.random.default_rng(0)
ITEMS = [RNG.normal(size=(n, 5)).astype(np.float32) for n in (3, 1, 7)]


def encoder(**settings: object) -> BagEncoder:
    torch.manual_seed(0)
    return BagEncoder(Vectors(VectorConfig(features=5, dim=4)), width=6, labels=("a", "b"), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("gated", [True, False])
def test_the_formula_bag_by_bag(gated: bool) -> None:
    torch.manual_seed(1)
    attention = BagAttention(4, 6, gated=gated).double()
    h = torch.randn(6, 4, dtype=torch.float64)
    owner = torch.tensor([2, 0, 2, 0, 2, 2])  # bag 1 is empty
    out = attention(h, owner, 3)
    for bag in range(3):
        mine = h[owner == bag]
        seen = torch.tanh(mine @ attention.look.weight.T + attention.look.bias)
        if gated:
            assert attention.gate is not None
            seen = seen * torch.sigmoid(mine @ attention.gate.weight.T + attention.gate.bias)
        share = (seen @ attention.score.weight.T).softmax(0)
        torch.testing.assert_close(out[bag], (share * mine).sum(0))


def test_attention_survives_large_scores_and_has_the_right_gradient() -> None:
    attention = BagAttention(3, 4).double()
    h = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    owner = torch.tensor([0, 0, 1, 1, 1])
    assert torch.autograd.gradcheck(lambda x: attention(x, owner, 2), h)
    with torch.no_grad():
        attention.score.weight.mul_(1e6)
    assert torch.isfinite(attention(h, owner, 2)).all()


def test_a_bag_is_the_same_in_any_company_and_any_order() -> None:
    model = encoder()
    together = model.encode(ITEMS)
    np.testing.assert_allclose(together[[1]], model.encode([ITEMS[1]]), atol=1e-6)
    np.testing.assert_allclose(together[[2]], model.encode([ITEMS[2][::-1]]), atol=1e-6)


def test_what_is_attended_and_told() -> None:
    model = encoder()
    shares = model.attend(ITEMS)
    assert [len(s) for s in shares] == [3, 1, 7]
    np.testing.assert_allclose([s.sum() for s in shares], 1, rtol=1e-6)
    told = model.classify(ITEMS)
    assert told.shape == (3, 2)
    np.testing.assert_allclose(told.sum(1), 1, rtol=1e-6)
    with pytest.raises(ModelError, match="trained without labels"):
        BagEncoder(Vectors(VectorConfig(features=5))).classify(ITEMS)


def test_a_folder_gives_the_same_bags_back(tmp_path: Path) -> None:
    model = encoder(gated=False)
    folder.save(model, tmp_path / "m")
    again = folder.load(tmp_path / "m")
    assert isinstance(again, BagEncoder)
    assert again.labels == ("a", "b")
    np.testing.assert_array_equal(again.encode(ITEMS), model.encode(ITEMS))
    np.testing.assert_array_equal(again.classify(ITEMS), model.classify(ITEMS))


def test_bad_bags_are_named() -> None:
    model = encoder()
    with pytest.raises(DataError, match=r"Bag 1 of 2 is empty"):
        model.encode([ITEMS[0], []])
    with pytest.raises(DataError, match=r"Item 0 is a str; an encoder of bags takes lists"):
        model.encode(["text"])
    with pytest.raises(DataError, match=r"Vector 0 has shape \(4,\); this encoder reads \(5,\)"):
        model.encode([np.zeros((1, 4), np.float32)])
    with pytest.raises(DataError, match=r"Vector 2 of 3 holds NaN"):
        model.encode([np.array([[0] * 5, [1] * 5, [np.nan] * 5], np.float32)])
    with pytest.raises(ConfigError, match=r"give features=F"):
        Vectors(VectorConfig())


def test_vectors_as_they_are() -> None:
    plain = Vectors(VectorConfig(features=5, dim=0))
    np.testing.assert_array_equal(plain.encode(ITEMS[0], normalize=False), ITEMS[0])
