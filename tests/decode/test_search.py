"""Contrastive search: the rule by hand, against a plain loop without a cache, and its limits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.decode.sample import greedy
from counterpoint.decode.search import choose, contrastive_search, penalty
from counterpoint.encoders.causal import CausalLM, CausalLMConfig
from counterpoint.errors import ConfigError, DataError
from tests.conformance.rows import texts
from tests.decode.table import END, Table

PREFIXES = ["the quick brown fox", "birds", "seven bright birds sing near an old stone bridge", ""]


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    torch.manual_seed(0)
    config = CausalLMConfig(layers=2, width=16, heads=2, vocabulary=200, max_length=48)
    model = CausalLM.from_texts(texts(), config).double()
    with torch.no_grad():  # predictions that differ, so that neither side of the score decides alone
        model.transformer.get_input_embeddings().weight.mul_(8)
    return model


def plain(lm: CausalLM, prefix: list[int], *, max_new: int, k: int, alpha: float) -> list[int]:
    """The paper's rule, with the whole text read again for every candidate."""
    new: list[int] = []
    with lm.evaluating():
        for _ in range(max_new):
            logits, states = read(lm, [*prefix, *new])
            p, before = logits[-1].softmax(-1), F.normalize(states, dim=-1)
            score = {}
            for v in p.argsort(descending=True)[:k].tolist():
                h = F.normalize(read(lm, [*prefix, *new, v])[1][-1], dim=-1)
                score[v] = float((1 - alpha) * p[v] - alpha * (before @ h).max())
            found = max(score, key=score.__getitem__)
            if found in lm.ends:
                break
            new.append(found)
    return new


def read(lm: CausalLM, ids: list[int]) -> tuple[Tensor, Tensor]:
    """Logits and last states of one text, as `transformers` itself gives them."""
    out = lm.transformer(input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True)
    return out.logits[0], out.hidden_states[-1][0]


@pytest.mark.parametrize(("k", "alpha"), [(5, 0.6), (3, 0.4), (8, 1.0)])
def test_it_is_the_plain_loop_without_a_cache(lm: CausalLM, k: int, alpha: float) -> None:
    prefixes = lm.prefix(PREFIXES)
    found = contrastive_search(lm, prefixes, max_new=12, k=k, alpha=alpha)
    assert found == [plain(lm, p, max_new=12, k=k, alpha=alpha) for p in prefixes]
    assert found != greedy(lm, prefixes, max_new=12)


def test_a_batch_is_as_one_by_one(lm: CausalLM) -> None:
    prefixes = [*lm.prefix(PREFIXES), []]
    whole = contrastive_search(lm, prefixes, max_new=12)
    assert whole == [contrastive_search(lm, [p], max_new=12)[0] for p in prefixes]
    assert whole == contrastive_search(lm, prefixes[::-1], max_new=12)[::-1]


def test_one_candidate_or_no_penalty_is_greedy(lm: CausalLM) -> None:
    prefixes = [*lm.prefix(PREFIXES), []]
    expected = greedy(lm, prefixes, max_new=12)
    assert contrastive_search(lm, prefixes, max_new=12, k=1, alpha=0.6) == expected
    assert contrastive_search(lm, prefixes, max_new=12, k=5, alpha=0.0) == expected


def test_a_score_by_hand() -> None:
    """After token 1: 2 with p .5, whose state is that of 1; 3 with p .3, at a right angle to it."""
    states = [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    model = Table({1: [0.1, 0.1, 0.5, 0.3], 2: [0.97, 0.01, 0.01, 0.01], 3: [0.97, 0.01, 0.01, 0.01]}, states)
    # 2: (1 - a) .5 - a 1;  3: (1 - a) .3 - a 0; equal where .2 (1 - a) = a, a = 1/6.
    assert contrastive_search(model, [[1]], max_new=1, k=2, alpha=0.16) == [[2]]
    assert contrastive_search(model, [[1]], max_new=1, k=2, alpha=0.17) == [[3]]
    # p is that among all tokens: among the two candidates alone it would be 5/8 and 3/8, and 2 win up to a = 1/5.
    assert contrastive_search(model, [[1]], max_new=1, k=2, alpha=0.19) == [[3]]


def test_a_text_ends_by_itself_alone() -> None:
    """From 1 the end is next, from 2 it comes after 3; what has ended leaves the others as they were."""
    states = torch.eye(4).tolist()
    model = Table({1: [0.9, 0.0, 0.05, 0.05], 2: [0.0, 0.05, 0.05, 0.9], 3: [0.9, 0.05, 0.05, 0.0]}, states)
    for k in (1, 2, 4):
        assert contrastive_search(model, [[1], [2], [2, 1], [3, 2]], max_new=9, k=k, alpha=0.1) == [[], [3], [], [3]]
    assert END not in contrastive_search(model, [[2]], max_new=9, k=4)[0]


def test_equal_scores_go_by_rank() -> None:
    p, alike = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.7, 0.7, 0.7]])
    assert choose(p, alike, 1.0).tolist() == [0]  # only the penalty counts, and it is the same
    assert choose(p, alike, 0.6).tolist() == [0]
    same = Table({1: [0.1, 0.2, 0.3, 0.4], 3: [0.1, 0.2, 0.3, 0.4]}, [[1.0, 1.0]] * 4)
    assert contrastive_search(same, [[1]], max_new=3, k=3, alpha=0.9) == [[3, 3, 3]]


def test_what_the_penalty_looks_at() -> None:
    state = F.normalize(torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]]]), dim=-1)
    before = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    every, first, none = (torch.tensor([m]) for m in ([True, True], [True, False], [False, False]))
    assert torch.allclose(penalty(state, before, every), torch.tensor([[1.0, 0.8, 0.0]]))
    assert torch.allclose(penalty(state, before, first), torch.tensor([[0.0, 0.8, 0.0]]))  # padding is not looked at
    assert penalty(state, before, none).tolist() == [[0.0, 0.0, 0.0]]


def test_a_text_without_a_token_begins_with_the_most_probable_one() -> None:
    """Though it would be penalised, were the first token that the model is given to read one of the text's own."""
    model = Table({1: [0.1, 0.5, 0.4], 2: [0.1, 0.1, 0.8]}, [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert contrastive_search(model, [[]], max_new=1, k=2, alpha=0.9) == [[1]]
    assert contrastive_search(model, [[1]], max_new=1, k=2, alpha=0.9) == [[2]]


def test_first_tokens_drawn_at_random_give_other_texts(lm: CausalLM) -> None:
    prefix = lm.prefix(["the"])
    drawn = [contrastive_search(lm, prefix, max_new=8, sampled=3, seed=s)[0] for s in range(6)]
    assert len({tuple(d[:3]) for d in drawn}) > 1
    assert drawn[2] == contrastive_search(lm, prefix, max_new=8, sampled=3, seed=2)[0]
    for new in drawn:  # what follows them is the search's
        assert new[3:] == contrastive_search(lm, [prefix[0] + new[:3]], max_new=5)[0]


def test_what_is_refused(lm: CausalLM) -> None:
    ids = lm.prefix(["the"])
    for settings, said in (
        ({"k": 0}, "at least 1 candidate"),
        ({"k": 10_000, "max_new": 8}, "the model knows"),
        ({"alpha": 1.2}, "from 0"),
        ({"alpha": -0.1}, "from 0"),
        ({"max_new": 60}, "positions for"),
        ({"max_new": -1}, "number of tokens"),
        ({"sampled": -1}, "sampled=-1"),
        ({"p": 0.0}, "nucleus"),
    ):
        with pytest.raises(ConfigError, match=said):
            contrastive_search(lm, ids, **settings)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no prefix"):
        contrastive_search(lm, [])
    assert contrastive_search(lm, ids, max_new=0) == [[]]
