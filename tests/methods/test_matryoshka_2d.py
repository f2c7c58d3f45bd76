"""2DMSE: the loss by hand, its limits, what is drawn, and that what is trained is what is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.encoders.truncate import truncated
from counterpoint.errors import ConfigError
from counterpoint.methods.text.matryoshka_2d import Config, Matryoshka2D
from counterpoint.objectives.rank import angle
from tests.encoders.samples import TEXTS, transformer
from tests.toys import Vectors

RNG = np.random.default_rng(0)
WORDS = [t for t in TEXTS if t]


def rows(kind: str = "pairs") -> list[dict[str, Any]]:
    if kind == "scored":
        return [{"a": WORDS[i], "b": WORDS[i + 1], "score": float(i % 3), "row": i} for i in range(5)]
    return [
        {"anchor": WORDS[i], "positive": WORDS[i + 1], "negatives": WORDS[:1] * (i % 2), "row": i} for i in range(4)
    ]


def method(layers: int = 4, **settings: Any) -> Matryoshka2D:
    return Matryoshka2D(transformer(layers=layers), Config(**settings)).eval()


def outputs(m: Matryoshka2D, batch: Any, n: int) -> list[Tensor]:
    """Pooled states of layer n of every view, by the mean over real tokens."""
    found = []
    for view in batch.views:
        mask = view.data["attention_mask"].unsqueeze(-1).float()
        found.append((m.encoder.hidden_states(view.data)[n] * mask).sum(1) / mask.sum(1))
    return found


def info_nce(x: list[Tensor], k: int = 32) -> Tensor:
    a, b, c = (F.normalize(z[:, :k], dim=-1) for z in x)
    target = torch.arange(len(a))
    rows = F.cross_entropy(20 * a @ torch.cat([b, c]).T, target)
    return (rows + F.cross_entropy(20 * b @ a.T, target)) / 2


def test_the_loss_of_pairs_by_hand() -> None:
    m = method(align=0.7, temperature=0.3)
    batch = m.views(rows(), RNG)
    n, k = m.drawn()
    assert n is not None
    assert k is not None
    last, early = outputs(m, batch, 4), outputs(m, batch, n)
    found = m.losses(batch)
    assert found["full"].item() == pytest.approx((info_nce(last) + info_nce(early) / n).item(), rel=1e-4)
    assert found["slim"].item() == pytest.approx((info_nce(last, k) + info_nce(early, k) / n).item(), rel=1e-4)
    p, q = ((torch.cat(z) / 0.3).softmax(-1) for z in (last, early))
    expected = 0.7 * 0.3 * (p * (p / q).log()).sum(-1).mean()
    assert found["align"].item() == pytest.approx(expected.item(), rel=1e-3)


def test_the_loss_of_scored_pairs_is_that_of_order_and_angle() -> None:
    m = method(depth=False, width=False, cosent=0.0, angle=2.0)
    batch = m.views(rows("scored"), RNG)
    a, b = outputs(m, batch, 4)
    expected = 2 * angle(a, b, torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0]), scale=1.0)
    assert m.losses(batch)["full"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_equal_scores_have_a_loss_of_zero() -> None:
    m = method(align=0.0)
    same = [row | {"score": 2.0} for row in rows("scored")]
    assert float(sum(m.losses(m.views(same, RNG)).values()).detach()) == pytest.approx(0, abs=1e-6)


def test_without_depth_it_is_matryoshka_and_without_width_the_base_loss() -> None:
    batch = method().views(rows(), RNG)
    narrow, plain = method(depth=False), method(depth=False, width=False)
    assert narrow.drawn()[0] is None
    assert set(narrow.losses(batch)) == {"full", "slim"}
    last = outputs(plain, batch, 4)
    assert {k: v.item() for k, v in plain.losses(batch).items()} == pytest.approx({"full": info_nce(last).item()})
    assert narrow.losses(batch)["slim"].item() == pytest.approx(info_nce(last, narrow.drawn()[1] or 0).item(), rel=1e-4)


def test_an_earlier_layer_counts_by_its_number_unless_told_otherwise() -> None:
    whole, flat = method(align=0.0, width=False), method(align=0.0, width=False, shallow=False)
    flat.load_state_dict(whole.state_dict())
    batch = whole.views(rows(), RNG)
    for step in range(6):
        whole.after_step(step)
        flat.after_step(step)
        n, _ = whole.drawn()
        last, early = info_nce(outputs(whole, batch, 4)), info_nce(outputs(whole, batch, n or 0))
        assert whole.losses(batch)["full"].item() == pytest.approx((last + early / (n or 1)).item(), rel=1e-4)
        assert flat.losses(batch)["full"].item() == pytest.approx((last + early).item(), rel=1e-4)


def test_alignment_moves_the_last_layer_unless_stopped() -> None:
    for stop in (False, True):
        m = method(stop_gradient=stop, width=False)
        batch = m.views(rows(), RNG)
        losses = m.losses(batch)
        losses["align"].backward()
        layers = m.encoder.transformer.encoder.layer
        moved = [any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters()) for layer in layers]
        n = m.drawn()[0] or 0
        assert moved[:n] == [True] * n
        assert moved[n:] == [not stop] * (4 - n)


def test_draws_are_every_layer_before_the_last_and_every_width_below_the_full_one() -> None:
    m = method()
    seen = set()
    for step in range(100):
        m.after_step(step)
        assert m.drawn() == m.drawn()  # a step that is computed again draws the same
        seen.add(m.drawn())
    assert seen == {(n, k) for n in (1, 2, 3) for k in (8, 16)}
    other = method()
    other.load_state_dict(m.state_dict())
    assert other.drawn() == m.drawn()


def test_what_is_trained_is_what_is_cut() -> None:
    """The embedding in the loss is that of the encoder which export writes, norm of the last layer included."""
    architecture = {"model_type": "modernbert", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    encoder = transformer(architecture=architecture | {"num_attention_heads": 4}, layers=3)
    with torch.no_grad():
        encoder.transformer.final_norm.weight.normal_()
    m = Matryoshka2D(encoder, Config(width=False, align=0.0, shallow=False)).eval()
    batch = m.views(rows(), RNG)
    cut = truncated(encoder, layers=m.drawn()[0])
    with torch.no_grad():
        expected = sum(info_nce([e(view.data) for view in batch.views]) for e in (encoder, cut))
        assert m.losses(batch)["full"].item() == pytest.approx(float(expected), rel=1e-4)


def test_gradient_caching_gives_the_same_gradient() -> None:
    found = []
    for micro in (None, 2):
        m = method()
        m.micro_batch = micro
        sum(m.losses(m.views(rows(), RNG)).values()).backward()  # type: ignore[union-attr]
        found.append(torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]))
    assert torch.allclose(*found, rtol=1e-3, atol=1e-5)


def test_without_layers_or_widths_it_says_what_is_left() -> None:
    with pytest.warns(UserWarning, match="no layer to stop at"):
        m = Matryoshka2D(Vectors(16), Config())
    assert m.depths == ()
    assert m.widths == (8,)
    with pytest.warns(UserWarning, match="No width is below the 8"):
        assert Matryoshka2D(Vectors(8), Config(depth=False)).widths == ()
    with pytest.warns(UserWarning, match="no layer to stop at"):
        assert Matryoshka2D(transformer(layers=1), Config()).depths == ()


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="name widths from 1 to 32"):
        method(widths=(16, 64))
    with pytest.raises(ConfigError, match="width of 7 is odd"):
        method(widths=(7, 8), angle=1.0)
    with pytest.raises(ConfigError, match="width of 15 is odd"):
        Matryoshka2D(Vectors(15), Config(depth=False, width=False, angle=1.0))
    with pytest.raises(ConfigError, match="pairs \\(anchor, positive\\) have none"):
        method(angle=1.0).views(rows(), RNG)
    with pytest.raises(ConfigError, match="one of cosent and angle"):
        Config(cosent=0.0)
