"""Isotropy, perplexity, coherence and repetition, by hand and against plain loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.encoders.causal import CausalLM, CausalLMConfig
from counterpoint.errors import DataError
from counterpoint.evaluate import language
from tests.conformance.rows import texts

TEXTS = ["the quick brown fox", "seven bright birds", "dogs", "lazy dogs sing near an old stone bridge at dawn"]


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    torch.manual_seed(0)
    config = CausalLMConfig(layers=2, width=16, heads=2, vocabulary=200, max_length=32, dropout=0.5)
    return CausalLM.from_texts(texts(), config).double().train()


def test_isotropy_is_the_mean_over_all_pairs(lm: CausalLM) -> None:
    cosines = []
    lm.eval()
    for text in TEXTS:
        with torch.no_grad():
            h, mask = lm.tokens(lm.collate([text]))
        assert mask.all()
        cosines += [float(F.cosine_similarity(a, b, dim=0)) for a, b in itertools.permutations(h[0], 2)]
    lm.train()
    assert language.isotropy(lm, TEXTS) == pytest.approx(1 - np.mean(cosines), abs=1e-9)
    assert language.isotropy(lm, iter(TEXTS), budget=1) == pytest.approx(1 - np.mean(cosines), abs=1e-9)
    assert lm.training  # and dropout was off


def test_isotropy_reads_a_stream_piece_by_piece(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, given = language.isotropy(lm, TEXTS * 3), 0
    monkeypatch.setattr(language, "WINDOW", 2)
    seen = []

    def stream() -> Iterator[str]:
        nonlocal given
        for text in TEXTS * 3:
            given += 1
            yield text

    passes = language._passes
    monkeypatch.setattr(language, "_passes", lambda *a: seen.append(given) or passes(*a))
    assert language.isotropy(lm, stream()) == pytest.approx(whole, abs=1e-9)
    assert seen == [2, 4, 6, 8, 10, 12]


def test_isotropy_of_states_that_are_alike_is_zero(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def tokens(data: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        mask = data["attention_mask"].bool()
        return torch.ones(*mask.shape, 3) * mask.cumsum(1).unsqueeze(-1), mask  # one direction, many lengths

    monkeypatch.setattr(lm, "tokens", tokens)
    assert language.isotropy(lm, TEXTS) == pytest.approx(0.0, abs=1e-9)


def test_isotropy_of_single_tokens_does_not_exist(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="none of these texts has two"):
        language.isotropy(lm, [])
    monkeypatch.setattr(lm, "collate", lambda items: {k: v[:, :1] for k, v in CausalLM.collate(lm, items).items()})
    with pytest.raises(DataError, match="none of these texts has two"):
        language.isotropy(lm, TEXTS)


def logp(lm: CausalLM, ids: list[int]) -> list[float]:
    """log p of each token but the first, as transformers gives it."""
    with lm.evaluating():
        found = lm.transformer(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
    return [float(found[i, v]) for i, v in enumerate(ids[1:])]


def test_perplexity(lm: CausalLM) -> None:
    values = [v for text in TEXTS for v in logp(lm, [*lm.prefix([text])[0], *lm.ends])]
    assert language.perplexity(lm, TEXTS) == pytest.approx(math.exp(-np.mean(values)))
    assert language.perplexity(lm, iter(TEXTS), budget=1) == pytest.approx(math.exp(-np.mean(values)))
    with pytest.raises(DataError, match="no token"):
        language.perplexity(lm, [])


def test_coherence_is_of_the_new_tokens_alone(lm: CausalLM) -> None:
    prefixes, new = lm.prefix(TEXTS), [[7, 8, 9], [10], [], [11, 12]]
    expected = [np.mean(logp(lm, [*p, *c])[len(p) - 1 :]) for p, c in zip(prefixes, new) if c]
    assert language.coherence(lm, prefixes, new) == pytest.approx(np.mean(expected))
    assert language.coherence(lm, prefixes, new, batch=1) == pytest.approx(np.mean(expected))
    assert language.coherence(lm, [[]], [[7, 8]]) == pytest.approx(np.mean(logp(lm, [lm.begin, 7, 8])))
    with pytest.raises(DataError, match="are empty"):
        language.coherence(lm, [[1]], [[]])
    with pytest.raises(DataError, match="2 prefixes"):
        language.coherence(lm, [[1], [2]], [[3]])


def test_repetition_by_hand() -> None:
    """a b a b a: bigrams ab ba ab ba, 2 of 4 new; what another text says is no repetition."""
    said = [list("ababa"), list("abc")]
    assert language.repetition(said[:1], 2) == pytest.approx(50)
    assert language.repetition(said, 2) == pytest.approx(100 * (1 - 4 / 6))
    assert language.repetition(said, 3) == pytest.approx(100 * (1 - 3 / 4))
    assert language.repetition(said, 4) == 0
    assert language.repetition(said, 9) == 0  # no n-gram
    assert language.diversity(said) == pytest.approx(100 * 4 / 6 * 3 / 4)
    assert language.diversity([list("abcdefgh")]) == 100
    assert language.diversity([[1] * 62]) == pytest.approx(100 / 61 / 60 / 59)
