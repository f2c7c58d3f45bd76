"""Pair encoders, cross-encoders, and scores kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoint.encoders import folder
from counterpoint.encoders.cross import CrossEncoder, CrossEncoderConfig, Pair, read_pairs
from counterpoint.encoders.pairs import PairEncoder, PairHead
from counterpoint.encoders.scores import Scores, pair_id
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate.evaluate import evaluate
from tests.encoders.samples import TEXTS, static, transformer

PAIRS = list(pairwise(TEXTS))


def test_features_of_a_pair_by_hand() -> None:
    head = PairHead(2, hidden=8)
    with torch.no_grad():
        head.into.weight.copy_(torch.eye(8))
        head.into.bias.fill_(10.0)  # past the ReLU
        head.last.weight.copy_(torch.arange(1.0, 9.0)[None])
        head.last.bias.zero_()
    u, v = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 1.0]])
    features = torch.tensor([1.0, -2, 3, 1, 3, -2, 2, 3]) + 10
    assert head(u, v).item() == pytest.approx(float(features @ torch.arange(1.0, 9.0)))
    assert head(u, v) != head(v, u)
    assert PairHead(2, kind="dot")(u, v).tolist() == [[1.0]]
    with pytest.raises(ConfigError, match="one score"):
        PairHead(2, 3, kind="dot")


def test_top_layers_side_by_side_without_the_first_token() -> None:
    inner = transformer()
    encoder = PairEncoder(inner, top=2).eval()
    data = inner.collate(TEXTS)
    with torch.no_grad():
        found, states = encoder(data), inner.hidden_states(data)
    for i, mask in enumerate(data["attention_mask"].bool()):
        rows = torch.cat([states[-2][i, mask], states[-1][i, mask]], dim=-1)[1:]
        torch.testing.assert_close(found[i], rows.mean(0), rtol=1e-4, atol=1e-5)
    assert found.isfinite().all()  # the empty text has its [SEP]
    with pytest.raises(ConfigError, match="2 layers"):
        PairEncoder(transformer(), top=3)
    with pytest.raises(ConfigError, match="has no layers"):
        PairEncoder(static(), top=1)


def test_scores_are_those_of_the_head_and_survive_a_folder(tmp_path: Path) -> None:
    encoder = PairEncoder(transformer(), top=2, out=3).eval()
    scores = encoder.score(PAIRS)
    assert scores.shape == (len(PAIRS), 3)
    u, v = (encoder.encode([p[side] for p in PAIRS], normalize=False) for side in (0, 1))
    assert np.allclose(scores, encoder.score_embeddings(u, v), atol=1e-5)
    folder.save(encoder, tmp_path / "model")
    again = folder.load(tmp_path / "model")
    assert isinstance(again, PairEncoder)
    assert np.allclose(again.score(PAIRS), scores, atol=1e-5)


def test_scored_pairs_are_measured_by_the_head() -> None:
    encoder = PairEncoder(static()).eval()
    rows = [{"a": a, "b": b, "score": float(s), "row": 0} for (a, b), s in zip(PAIRS, encoder.score(PAIRS))]
    found = evaluate(encoder, rows, baselines=("random encoder",), draws=10)
    assert found["spearman"].value.value == pytest.approx(1.0)
    assert any("by its head" in note for note in found.notes)


# --- cross-encoders --------------------------------------------------------------------------------------------


def test_a_cross_encoder_gives_a_pair_the_same_score_in_any_company(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cross = CrossEncoder.from_texts(TEXTS * 3, CrossEncoderConfig(outputs=2, layers=1, width=16, heads=2))
    with torch.no_grad():
        for p in cross.parameters():
            p.mul_(5)  # so that texts differ
    whole = cross.score(PAIRS)
    assert whole.shape == (len(PAIRS), 2)
    alone = np.concatenate([cross.score([p]) for p in PAIRS])
    assert np.allclose(whole, alone, atol=1e-5)
    assert np.allclose(cross.score(PAIRS, budget=1), whole, atol=1e-5)
    assert not np.allclose(cross.score([PAIRS[4]]), cross.score([PAIRS[4][::-1]]), atol=1e-4)
    cross.save(tmp_path / "cross")
    again = CrossEncoder.from_pretrained(tmp_path / "cross")
    assert again.max_length == cross.max_length
    assert np.allclose(again.score(PAIRS), whole, atol=1e-5)


def test_a_cross_encoder_learns_what_no_single_text_tells() -> None:
    torch.manual_seed(0)
    pairs = [(a, b) for a in ("cat", "dog") for b in ("cat", "dog")] * 20
    same = np.array([float(a == b) for a, b in pairs])
    cross = CrossEncoder.from_texts(TEXTS * 3, CrossEncoderConfig(layers=1, width=32, heads=2, dropout=0.0))
    cross.fit(pairs, same, epochs=60, batch=16, lr=3e-3)
    assert ((cross.score(pairs) > 0) == (same > 0)).all()
    assert not cross.training
    with pytest.raises(ConfigError, match="1 outputs"):
        cross.fit(pairs, same, task="classes")
    with pytest.raises(DataError, match="each pair needs its own"):
        cross.fit(pairs, same[1:])


# --- scores on disk --------------------------------------------------------------------------------------------


class Counting:
    def __init__(self) -> None:
        self.asked: list[Pair] = []

    def score(self, pairs: Sequence[Pair]) -> np.ndarray:
        self.asked += pairs
        return np.array([len(a) - 2 * len(b) for a, b in pairs], dtype=np.float32)


def test_a_pair_is_known_by_both_texts_and_their_order() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("c", "ab"), ("", "abc"), ("abc", "")]
    assert len({pair_id(p) for p in pairs}) == 5
    assert pair_id(("ab", "c")) == pair_id(("ab", "c"))


def test_kept_scores_are_not_asked_for_again_in_any_order(tmp_path: Path) -> None:
    counting = Counting()
    first = Scores(counting, tmp_path / "new" / "scores.sqlite", name="counting").score([*PAIRS, PAIRS[0]])
    assert len(counting.asked) == len(set(PAIRS))  # equal pairs once
    again = Scores(None, tmp_path / "new" / "scores.sqlite", name="counting")
    assert np.array_equal(again.score(PAIRS[::-1]), first[:-1][::-1])
    assert len(again) == len(set(PAIRS))
    assert np.isnan(again.score([("never", "seen")])).all()
    with pytest.raises(ConfigError, match="those of 'counting', not of 'other'"):
        Scores(None, tmp_path / "new" / "scores.sqlite", name="other")
    with pytest.raises(DataError, match="2 scores of each pair"):
        again.put(PAIRS, np.zeros((len(PAIRS), 2)))


def test_what_is_not_finite_is_not_kept() -> None:
    kept = Scores(None)
    kept.put(PAIRS[:3], np.array([1.0, np.nan, np.inf]))
    assert len(kept) == 1
    assert kept.score(PAIRS[:3])[0] == 1.0


def test_an_interruption_costs_one_part_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterpoint.encoders.scores.PART", 2)

    class Tired(Counting):
        def score(self, pairs: Sequence[Pair]) -> np.ndarray:
            if len(self.asked) >= 4:
                raise KeyboardInterrupt
            return super().score(pairs)

    kept = Scores(Tired())
    with pytest.raises(KeyboardInterrupt):
        kept.score(PAIRS)
    assert len(kept) == 4


def test_a_file_that_is_no_file_of_scores(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is a text, and long enough to be no empty database file " * 20)
    with pytest.raises(DataError, match="cannot hold scores"):
        Scores(None, tmp_path / "text")


def test_a_pair_encoder_takes_as_many_layers_as_there_are() -> None:
    assert PairEncoder.on(transformer(), top=4).top == 2
    assert PairEncoder.on(static(), top=4).top == 0
    own = PairEncoder.on(transformer(), top=1, out=3)
    assert PairEncoder.on(own, top=2, out=1) is own


def test_pairs_of_a_file(tmp_path: Path) -> None:
    named, unnamed = tmp_path / "named.jsonl", tmp_path / "unnamed.csv"
    named.write_text('{"other": "x", "b": "two", "a": "one", "n": 1}\n{"other": "y", "b": "", "a": "left", "n": 2}\n')
    unnamed.write_text("n,first,second,third\n1,one,two,three\n2,four,five,six\n")
    assert read_pairs(named) == [("one", "two")]
    assert read_pairs(unnamed) == [("one", "two"), ("four", "five")]
    for text, said in (('{"a": "one", "n": 1}', "no two columns of text"), ('{"a": "one", "b": ""}', "no pair")):
        named.write_text(text + "\n")
        with pytest.raises(DataError, match=said):
            read_pairs(named)
