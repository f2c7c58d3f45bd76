"""DSE: the loss written out, teacher logits found by what pairs say, and where gradients go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.encoders.cross import Pair
from counterpoint.encoders.pairs import PairEncoder
from counterpoint.encoders.scores import Scores
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.text.dse import DSE, Config
from tests.encoders.samples import TEXTS, static, transformer

RNG = np.random.default_rng(0)
ROWS = [{"a": TEXTS[i], "b": TEXTS[i + 1], "score": float(i % 2), "row": i} for i in range(2, 6)]
PAIRS = [(r["a"], r["b"]) for r in ROWS]


class Lengths:
    """Knows pairs by their lengths; counts how often it is asked."""

    def __init__(self, classes: int = 1) -> None:
        self.classes, self.asked = classes, 0

    def score(self, pairs: Sequence[Pair]) -> np.ndarray:
        self.asked += len(pairs)
        x = np.array([[len(a) / 10 + c * len(b) / 20 for c in range(self.classes)] for a, b in pairs], dtype=np.float32)
        return x[:, 0] if self.classes == 1 else x


def built(teacher: Any = None, unlabelled: Sequence[Pair] = (), **settings: Any) -> DSE:
    torch.manual_seed(0)
    config = Config(**{"task": "binary", "dropout": 0.0, "hidden": 8, **settings})
    return DSE(static(), config, teacher=teacher, unlabelled=unlabelled)


def parts(method: DSE) -> tuple[torch.Tensor, torch.Tensor]:
    z = [torch.from_numpy(method.encoder.encode([r[k] for r in ROWS], normalize=False)) for k in ("a", "b")]
    return method.encoder.head(*z), torch.tensor([r["score"] for r in ROWS])


def test_the_loss_written_out() -> None:
    method = built(Lengths(), weight=0.3)
    s, y = parts(method)
    t = torch.from_numpy(Lengths().score(PAIRS))
    found = method.losses(method.views(ROWS, RNG))
    torch.testing.assert_close(found["task"], 0.7 * F.binary_cross_entropy_with_logits(s[:, 0], y))
    torch.testing.assert_close(found["distillation"], 0.3 * (s[:, 0] - t).square().mean())


def test_two_logits_become_one_and_classes_can_be_numbered_otherwise() -> None:
    two = Lengths(2).score(PAIRS)
    assert np.allclose(built(Lengths(2)).judged(PAIRS)[:, 0], two[:, 1] - two[:, 0])
    assert np.allclose(built(Lengths(2), class_map=(1, 0)).judged(PAIRS)[:, 0], two[:, 0] - two[:, 1])
    three = Lengths(3).score(PAIRS)
    method = built(Lengths(3), task="classes", classes=3, class_map=(2, 0, 1), logit_scale=2.0)
    assert np.allclose(method.judged(PAIRS), three[:, [2, 0, 1]] / 2)
    s, y = parts(method)
    found = method.losses(method.views(ROWS, RNG))
    torch.testing.assert_close(found["task"], 0.5 * F.cross_entropy(s, y.long()))
    torch.testing.assert_close(found["distillation"], 0.5 * (s - method.judged(PAIRS)).square().sum(1).mean())


def test_teacher_logits_do_not_depend_on_the_order_of_the_rows() -> None:
    kept = Scores(Lengths())
    kept.score(PAIRS)
    kept.scorer = None
    method = built(kept)
    some = [ROWS[i] for i in (3, 0, 2)]
    expected = Lengths().score([PAIRS[i] for i in (3, 0, 2)])
    assert np.allclose(method.views(some, RNG).labels["teacher"][:, 0], expected)


def test_pairs_the_teacher_has_not_seen_do_not_count() -> None:
    kept = Scores(None)
    kept.put(PAIRS[:2], Lengths().score(PAIRS[:2]))
    method = built(kept, weight=1.0)
    s, _ = parts(method)
    t = torch.from_numpy(Lengths().score(PAIRS))
    found = method.losses(method.views(ROWS, RNG))["distillation"]
    torch.testing.assert_close(found, (s[:2, 0] - t[:2]).square().mean())
    found.backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    nothing = built(Scores(None), weight=1.0)
    assert nothing.losses(nothing.views(ROWS, RNG))["distillation"] == 0


def test_pairs_without_scores_are_judged_by_the_teacher_alone() -> None:
    method = built(Lengths(), unlabelled=PAIRS[:1], extra=0.5)
    batch = method.views(ROWS, RNG)
    assert len(batch) == 6
    assert batch.rows.tolist() == [2, 3, 4, 5, -1, -1]
    assert batch.labels["score"].isnan().tolist() == [False] * 4 + [True] * 2
    plain = built(Lengths())
    one, two = method.losses(batch), plain.losses(plain.views(ROWS, RNG))
    torch.testing.assert_close(one["task"], two["task"])
    s, _ = parts(method)
    t = torch.from_numpy(Lengths().score(PAIRS))
    error = (s[:, 0] - t).square()
    torch.testing.assert_close(one["distillation"], 0.5 * (error.sum() + 2 * error[0]) / 6)


def test_no_gradient_reaches_a_teacher_and_none_of_it_is_saved() -> None:
    class Module(torch.nn.Linear):
        def score(self, pairs: Sequence[Pair]) -> np.ndarray:
            return self(torch.tensor([[len(a) / 10, len(b) / 10] for a, b in pairs])).detach().numpy()[:, 0]

    teacher = Module(2, 1)
    method = built(teacher)
    sum(method.losses(method.views(ROWS, RNG)).values()).backward()
    assert teacher.weight.grad is None
    assert not any("teacher" in k for k in method.state_dict())


def test_without_a_teacher_the_labels_count_whole() -> None:
    method = built()
    s, y = parts(method)
    found = method.losses(method.views(ROWS, RNG))
    torch.testing.assert_close(found["task"], F.binary_cross_entropy_with_logits(s[:, 0], y))
    assert list(found) == ["task"]


def test_a_transformer_gets_its_top_layers_a_trained_pair_encoder_goes_on() -> None:
    method = DSE(transformer(), Config(top=4))
    assert method.encoder.top == 2  # it has no more
    assert method.encoder.dim == 64
    again = DSE(method.encoder, Config())
    assert again.encoder is method.encoder
    assert isinstance(next(iter(method.towers().values())), PairEncoder)


def test_a_teacher_too_sure_and_one_of_another_scale_are_told() -> None:
    class Sure(Lengths):
        def score(self, pairs: Sequence[Pair]) -> np.ndarray:
            return 100 * super().score(pairs)

    with pytest.warns(UserWarning, match="logit_scale="):
        built(Sure()).judged(PAIRS)
    rows = [{**r, "score": 90.0 + r["score"]} for r in ROWS]
    method = built(Lengths(), task="regression")
    with pytest.warns(UserWarning, match="pull apart"):
        method.losses(method.views(rows, RNG))


def test_what_does_not_fit_is_a_sentence() -> None:
    with pytest.raises(DataError, match="3 logits per pair, the head 1"):
        built(Lengths(3)).judged(PAIRS)
    with pytest.raises(DataError, match="whole numbers from 0 to 1"):
        built().losses(built().views([{**ROWS[0], "score": 0.5}], RNG))
    with pytest.raises(ConfigError, match="without a teacher"):
        built(unlabelled=PAIRS)
    for settings in ({"weight": 2.0}, {"task": "ranking"}, {"task": "classes"}, {"class_map": (0, 0)}):
        with pytest.raises(ConfigError):
            Config(**settings)
