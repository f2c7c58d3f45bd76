"""The weighted side is the frozen one; with no weights it is the plain loss; nothing trained reaches the weights."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.encoders.folder import load, save
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.multimodal.cwcl import CWCL, Config
from counterpoint.objectives.contrast import contrast
from tests.toys import Vectors


def learner(dim: int = 3, *, dropout: float = 0.0, **settings) -> CWCL:
    """Image tower new, text tower frozen; both the identity, so that items are embeddings."""
    towers = {"image": Vectors(dim, modality="image"), "text": Vectors(dim, dropout=dropout)}
    method = CWCL(towers, Config(**{"temperature": 1.0, **settings})).train()
    torch.nn.init.eye_(method.tower.projection.weight)
    return method


def batch(new, frozen) -> Batch:
    views = View(torch.as_tensor(new), "image", "anchor"), View(torch.as_tensor(frozen), "text", "positive")
    return Batch(views, torch.arange(len(new)))


def drawn(n: int = 6, dim: int = 3, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    return batch(torch.randn(n, dim, generator=g), torch.randn(n, dim, generator=g))


@torch.no_grad()
def test_two_rows_by_hand():
    # Frozen vectors at a right angle: w = 1/2 between the rows, 1 within. The new ones lie on the frozen ones.
    found = learner(2).eval().losses(batch(torch.eye(2), 3 * torch.eye(2)))
    log_z = math.log(math.e + 1)
    assert float(found["plain"]) == pytest.approx(log_z - 1, rel=1e-6)
    # targets 1/1.5 on the own candidate (score 1) and .5/1.5 on the other (score 0)
    assert float(found["weighted"]) == pytest.approx(log_z - 1 / 1.5, rel=1e-6)


def test_the_formula_written_out_anchors_of_the_weighted_part_are_frozen():
    given = drawn()
    p, q = (F.normalize(v.data.double(), dim=1).numpy() for v in given.views)
    w = q @ q.T / 2 + 0.5
    s = 1.0 * q @ p.T
    log_p = s - np.log(np.exp(s).sum(1, keepdims=True))
    weighted = -((w * log_p).sum(1) / w.sum(1)).mean()
    plain = -(np.diag(s.T) - np.log(np.exp(s.T).sum(1))).mean()
    found = learner().losses(given)
    assert float(found["weighted"]) == pytest.approx(weighted, rel=1e-5)
    assert float(found["plain"]) == pytest.approx(plain, rel=1e-5)
    turned = -((w * (s.T - np.log(np.exp(s.T).sum(1, keepdims=True)))).sum(1) / w.sum(1)).mean()
    assert abs(turned - weighted) > 1e-3  # the other direction would have been noticed


def test_frozen_vectors_that_point_apart_make_it_the_plain_loss():
    # Two opposite vectors: w = 0 between them, the identity; and a very sharp exponent does it for any vectors.
    opposite = batch([[1.0, 0.2], [0.3, 1.0]], [[1.0, 0.0], [-1.0, 0.0]])
    p, q = (F.normalize(v.data, dim=1) for v in opposite.views)
    found = learner(2).losses(opposite)
    assert float(found["weighted"]) == pytest.approx(float(contrast(q, p)), rel=1e-6)
    sharp, plain = (learner(**s).losses(drawn()) for s in ({"sharpen": 1e4}, {"weighted": "neither"}))
    assert float(sharp["weighted"]) == pytest.approx(float(plain["weighted"]), rel=1e-5)


def test_no_gradient_reaches_the_frozen_tower_and_it_has_no_dropout():
    method = learner(dropout=0.5)
    one, two = (sum(method.losses(drawn()).values()) for _ in range(2))
    assert torch.equal(one, two)
    one.backward()
    frozen = list(method.frozen.parameters())
    assert frozen
    assert all(not p.requires_grad and p.grad is None for p in frozen)
    assert all(p.grad is not None and p.grad.any() for p in method.parameters() if p.requires_grad)


def test_weights_come_from_frozen_features_alone():
    method, given = learner(), drawn()
    rule = method.weights(given.one(stream="text").data)
    with torch.no_grad():
        method.tower.projection.weight.mul_(-3)
    again = method.weights(given.one(stream="text").data)
    assert torch.equal(rule.rows, again.rows)
    assert not rule.rows.requires_grad


def test_centring_takes_out_what_all_rows_share():
    features = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner().weights(features)
        centred = learner(centre=True).weights(features + 20)
    torch.testing.assert_close(centred.rows, F.normalize(features - features.mean(0), dim=1), atol=1e-4, rtol=0)
    with pytest.warns(UserWarning, match=r"mean weight of two rows is 1\.00.*centre=True"):
        learner().weights(features + 20)


def test_one_row_has_no_loss_and_says_so():
    with pytest.warns(UserWarning, match="of one row both losses are 0"):
        found = learner().losses(drawn(1))
    assert [float(v) for v in found.values()] == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_frozen_embedding_without_direction_is_named(value):
    frozen = torch.ones(3, 3)
    frozen[1] = value
    with pytest.raises(DataError, match="row 1 "):
        learner().losses(batch(torch.eye(3), frozen))


def test_which_tower_is_frozen_is_checked():
    with pytest.raises(ConfigError, match="frozen one \\(audio\\); given were image, text"):
        learner(frozen="audio")
    with pytest.raises(ConfigError, match="neither or both"):
        Config(weighted="left")


def test_the_frozen_tower_leaves_as_it_came(tmp_path):
    text = StaticText.from_texts(iter(["a red boat", "a green hill"] * 5), StaticTextConfig(dim=4))
    before = text.encode(["a boat"])
    method = CWCL({"image": Vectors(3, modality="image"), "text": text})
    save(method.towers()["text"], tmp_path / "text")
    np.testing.assert_allclose(load(tmp_path / "text").encode(["a boat"]), before, atol=1e-6)
