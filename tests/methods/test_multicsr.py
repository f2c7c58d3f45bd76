"""MultiCSR: the masked loss by hand, its limits, and the guide that stays as it is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.encoders import folder
from counterpoint.errors import ConfigError
from counterpoint.methods.text.in_batch import Config as InBatchConfig
from counterpoint.methods.text.in_batch import InBatch
from counterpoint.methods.text.multicsr import Config, MultiCSR
from tests.encoders.samples import TEXTS, static
from tests.toys import Vectors

RNG = np.random.default_rng(0)


def rows(n: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """Vectors of three numbers; the negative of row 0 is almost its anchor, and so is the positive of row 1."""
    rng = np.random.default_rng(seed)
    draw = lambda: rng.normal(size=3).tolist()  # noqa: E731
    out = [{"anchor": draw(), "positive": draw(), "negatives": [draw()], "row": i} for i in range(n)]
    out[0]["negatives"] = [[x + 1e-3 for x in out[0]["anchor"]]]
    out[1]["positive"] = [2 * x for x in out[0]["anchor"]]
    return out


def method(**settings: Any) -> MultiCSR:
    return MultiCSR(Vectors(3), Config(**({"head": False, "temperature": 0.2, "phi": 0.99} | settings)))


def scores(found: list[dict[str, Any]], key: str = "anchor") -> tuple[Tensor, Tensor]:
    """Cosines ``(N, 2N)`` of anchors with positives and negatives, and their own."""
    a = F.normalize(torch.tensor([r["anchor"] for r in found]), dim=-1)
    others = [r["positive"] for r in found] + [r["negatives"][0] for r in found]
    return a @ F.normalize(torch.tensor(others), dim=-1).T, torch.arange(len(found))


def loss(m: MultiCSR, found: list[dict[str, Any]]) -> Tensor:
    return m.losses(m.views(found, RNG))["contrast"]


def test_what_the_guide_finds_the_same_is_no_negative() -> None:
    found = rows()
    cosines, own = scores(found)
    masked = cosines > 0.99
    assert masked[0].tolist() == [False, True, False, False, True, False, False, False]
    masked[own, own] = False
    logits = (cosines / 0.2).masked_fill(masked, -torch.inf)
    assert loss(method(), found).item() == pytest.approx(F.cross_entropy(logits, own).item(), rel=1e-5)


def test_the_own_positive_stays_however_alike() -> None:
    x, y = [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]
    found = [{"anchor": t, "positive": t, "negatives": [y], "row": i} for i, t in enumerate((x, y))]
    # Row 0: its own, the other positive and two negatives, all opposite. Row 1: both negatives are its text, masked.
    rows = torch.tensor([[5.0, -5.0, -5.0, -5.0], [5.0, -5.0, -torch.inf, -torch.inf]])
    expected = (rows.logsumexp(1) - 5).mean()
    assert loss(method(), found).item() == pytest.approx(expected.item(), abs=1e-6)


def test_phi_of_one_is_plain_contrast_without_a_guide() -> None:
    found, m = rows(), method(phi=1.0)
    assert m.guide is None
    plain = InBatch(Vectors(3), InBatchConfig(temperature=0.2, both=False))
    assert loss(m, found).item() == pytest.approx(plain.losses(plain.views(found, RNG))["rank"].item(), rel=1e-6)


def test_a_row_without_any_negative_left_teaches_nothing() -> None:
    m = method(phi=-1.0)
    with pytest.warns(UserWarning, match="100% of the negatives"):
        value = loss(m, rows())
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert m.encoder.map.weight.grad.abs().max() < 1e-6  # type: ignore[union-attr]


def test_the_guide_is_frozen_without_dropout_and_outside_what_learns() -> None:
    m = MultiCSR(Vectors(3, dropout=0.5), Config(head=True)).train()
    assert m.guide is not None
    before = [p.clone() for p in m.guide.parameters()]
    assert not any(p.requires_grad for p in m.guide.parameters())
    assert not m.guide.model.training
    batch = m.views(rows(), RNG)
    assert torch.equal(m.mask(batch).guide, m.mask(batch).guide)  # no draw of dropout
    optimizer = torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=1.0)
    m.losses(batch)["contrast"].backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, m.guide.parameters()))
    assert not torch.equal(before[0], m.encoder.map.weight)  # the student has left it


def test_a_guide_from_a_folder_reads_with_its_own_vocabulary(tmp_path: Path) -> None:
    guide = static(dim=8)
    folder.save(guide, tmp_path / "guide")
    m = MultiCSR(static(seed=3, dim=16), Config(guide=str(tmp_path / "guide"), phi=0.5, head=False))
    found = [{"anchor": TEXTS[0], "positive": TEXTS[4], "negatives": [TEXTS[2]], "row": 0}]
    rule = m.mask(m.views(found, RNG))
    assert np.allclose(rule.guide.numpy(), guide.encode(TEXTS[:1]), atol=1e-6)
    assert rule.candidates is not None
    assert np.allclose(rule.candidates.numpy(), guide.encode([TEXTS[4], TEXTS[2]]), atol=1e-6)
    assert set(m.towers()) == {"text"}
    assert m.towers()["text"] is m.encoder


def test_it_warns_once_where_the_guide_finds_everything_alike() -> None:
    m = method(phi=-0.9)
    with pytest.warns(UserWarning, match="Raise phi"):
        loss(m, rows())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(m, rows())


def test_pairs_without_negatives_are_contrasted_among_themselves() -> None:
    found = [r | {"negatives": []} for r in rows()]
    assert loss(method(), found).item() > 0


@pytest.mark.parametrize(("settings", "said"), [({"phi": 1.5}, "a cosine"), ({"phi": 1.0, "guide": "x"}, "no effect")])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config(**settings)
