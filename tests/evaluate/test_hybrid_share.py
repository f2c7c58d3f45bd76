"""The share of a hybrid: left at the better part unless a mixture beats it by a standard error."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoint.evaluate.hybrid_share import ALPHAS, FEWEST, learn_from_pairs, learn_share, told
from counterpoint.evaluate.retrieval import Judgements, measure
from counterpoint.search.exact import Run, top_k
from counterpoint.search.hybrid import DEFAULT, Share, weighted
from tests.search.encoders import Counts

N, M = 120, 60


def problem(dense: float, lexical: float, *, n: int = N, seed: int = 0) -> tuple[Run, Run, Judgements]:
    """Rankings in which the right answer has so much more than noise, each list with noise of its own."""
    rng = np.random.default_rng(seed)
    answer = rng.integers(0, M, n)
    right = np.arange(M) == answer[:, None]
    lists = [top_k(rng.normal(0, 1, (n, M)) + strength * right + 5, np.eye(M), M) for strength in (dense, lexical)]
    return *lists, Judgements([{int(a): 1.0} for a in answer])


def by_share(dense: Run, lexical: Run, judged: Judgements) -> np.ndarray:
    ids = [weighted(dense, lexical, k=100, alpha=a)[1] for a in ALPHAS]
    return np.stack([measure(i, judged, metrics=("ndcg@10",)).values["ndcg@10"] for i in ids])


def test_lists_that_know_different_things_are_mixed_and_a_useless_one_is_not() -> None:
    both = learn_share(*problem(2.5, 2.5))
    assert 0.2 <= both.alpha <= 0.8
    assert both.figures["hybrid"] > max(both.figures["dense"], both.figures["bm25"])
    assert learn_share(*problem(2.5, 0.0)).alpha >= 0.8
    assert learn_share(*problem(0.0, 2.5)).alpha <= 0.2


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("strength", [(1.0, 2.0), (2.0, 1.2), (0.0, 2.0)])
def test_the_better_part_is_left_only_for_what_beats_it_by_a_standard_error(seed, strength) -> None:
    runs = problem(*strength, n=40, seed=seed)
    values = by_share(*runs)
    chosen = values[ALPHAS.index(learn_share(*runs).alpha)]
    part = max(values[0], values[-1], key=np.mean)
    gain = chosen - part
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    best = values[values.mean(1).argmax()]
    if (best - part).mean() > (best - part).std(ddof=1) / np.sqrt(len(part)):
        assert gain.mean() > error
        assert chosen.mean() == pytest.approx(values.mean(1).max())
    else:
        assert (gain == 0).all()


def test_a_gain_within_the_noise_is_refused() -> None:
    """A mixture gains by one query out of 40: less than its standard error, so the better part stays alone."""
    ids = np.tile(np.arange(5), (40, 1))
    dense, lexical = (np.tile([5.0, 4, 3, 2, 1], (40, 1)), ids), (np.tile([5.0, 4, 3, 2, 1], (40, 1)), ids.copy())
    relevant = [{0: 1.0}] * 40
    relevant[0] = {1: 1.0}
    dense[1][0], lexical[1][0] = [2, 1, 3, 0, 4], [0, 1, 3, 2, 4]  # each has it second, behind different ones
    dense[1][1] = [1, 0, 2, 3, 4]  # here the dense list is wrong, so BM25 is the better part
    values = by_share(dense, lexical, Judgements(relevant))
    assert values.mean(1).max() > values[0].mean() > values[-1].mean()
    assert learn_share(dense, lexical, Judgements(relevant)).alpha == 0.0


def test_few_pairs_and_equal_ones_give_the_default() -> None:
    few = learn_share(*problem(2.0, 2.0, n=FEWEST - 1))
    assert (few.alpha, dict(few.figures)) == (DEFAULT.alpha, {})
    assert few.source == "the default, as 19 pairs are too few to learn it from (20 are needed)"
    assert learn_share(*problem(2.0, 2.0, n=FEWEST)).figures["queries"] == FEWEST
    equal = learn_share(*problem(50.0, 50.0))
    assert (equal.alpha, dict(equal.figures)) == (DEFAULT.alpha, {})
    assert "120 pairs are answered equally well with every share" in equal.source


def test_pairs_are_searched_among_their_positives() -> None:
    words = [f"w{i}" for i in range(40)]
    pairs = [{"anchor": f"{w} z", "positive": f"{w} {words[i - 1]} z"} for i, w in enumerate(words)]
    blind = Counts(["z"])  # the dense list says nothing
    share = learn_from_pairs(blind, pairs, source="learned on {n} pairs of words")
    assert share.alpha <= 0.5
    assert share.figures["bm25"] > 0.9 > share.figures["dense"]
    assert share.source == "learned on 40 pairs of words"


def test_a_share_is_told_with_its_figures() -> None:
    figures = {"metric": "ndcg@10", "queries": 40, "dense": 0.5, "bm25": 0.25, "hybrid": 0.75}
    assert told(Share(0.3, "learned on 40 pairs", figures)) == (
        "In a hybrid search the dense score counts 0.3 of 1: learned on 40 pairs "
        "(ndcg@10: dense 0.500, BM25 0.250, hybrid 0.750)."
    )
    assert told(DEFAULT) == (
        "In a hybrid search the dense score counts 0.5 of 1: the default, as no pairs were there to learn it from."
    )
