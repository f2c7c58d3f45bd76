"""The data of a proof: pairs of summaries and texts, and a teacher that reads both."""

from __future__ import annotations

import numpy as np

from counterpoint.proofs.text.dse import Boosted, paired, task

RNG = np.random.default_rng(0)


def test_the_proof_tests_functions_that_nothing_was_learned_from() -> None:
    given = task(10, smoke=True)
    assert [len(p) for p in (given.known, given.more, given.tested)] == [60, 220, 40]
    for side in (0, 1):
        known, more, tested = ({p[side] for p in part} for part in (given.known, given.more, given.tested))
        assert known.isdisjoint(more | tested)
        assert more.isdisjoint(tested)
    assert not np.isnan(given.kept.score(given.more)).any()


def test_false_pairs_have_a_text_like_the_right_one() -> None:
    topics = ("red green blue", "bach handel corelli")
    functions = [(f"summary {i}", f"{topics[i // 25]} word{i}") for i in range(50)]
    pairs, labels = paired(functions, 100, RNG)
    right = dict(functions)
    for (summary, body), label in zip(pairs, labels):
        assert (body == right[summary]) == bool(label)
        assert body.split()[0] == right[summary].split()[0]
    assert sorted(s for s, _ in pairs) == sorted([s for s, _ in functions] * 2)


def test_what_the_boosted_teacher_reads() -> None:
    body = " ".join(["return the sum"] + [f"w{i}" for i in range(20)] + ["array"])
    pairs = [("Return the array", body), ("nothing", "")]
    found = Boosted([body, "nothing alike"], seed=0).features(pairs)[:, 4:]
    thirds = [3 / 3, 2 / 3, 1 / 3]  # shared words, those among the first 20, pairs of neighbours
    np.testing.assert_allclose(found, [[3, 24, 3, 2, 1, *thirds], [1, 0, 0, 0, 0, 0, 0, 0]], rtol=1e-6)
