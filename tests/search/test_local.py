"""Local alignment against the recurrences written out; the way back has the score that was promised."""

import numpy as np
import pytest

from counterpoint.errors import ConfigError, DataError
from counterpoint.search.local import Scoring, local_alignments, local_scores

CHEAP = Scoring(match=2, mismatch=-1, gap_open=-0.5, gap_extend=-0.1)


def plain(q, t, scoring):
    match, mismatch, opened, extended = scoring.values()
    h = np.zeros((len(q) + 1, len(t) + 1))
    e, f = np.full_like(h, -np.inf), np.full_like(h, -np.inf)
    for i in range(1, len(q) + 1):
        for j in range(1, len(t) + 1):
            e[i, j] = max(h[i, j - 1] + opened, e[i, j - 1] + extended)
            f[i, j] = max(h[i - 1, j] + opened, f[i - 1, j] + extended)
            same = q[i - 1] == t[j - 1] != "N"
            h[i, j] = max(0, h[i - 1, j - 1] + (match if same else mismatch), e[i, j], f[i, j])
    return h.max()


def worth(a, q, t, scoring):
    match, mismatch, opened, extended = scoring.values()
    i, j, total = a.query_start, a.target_start, 0.0
    for n, what in a.operations:
        if what == "M":
            total += sum(match if q[i + k] == t[j + k] != "N" else mismatch for k in range(n))
        else:
            total += opened + (n - 1) * extended
        i, j = i + n * (what != "D"), j + n * (what != "I")
    assert (i, j) == (a.query_end, a.target_end)
    return total


@pytest.mark.parametrize("scoring", [Scoring(), CHEAP], ids=["usual", "cheap gaps"])
def test_scores_and_ways_are_those_of_the_recurrences(scoring):
    rng = np.random.default_rng(0)
    draw = lambda most: "".join(rng.choice(list("ACGTN"), rng.integers(1, most), p=[0.24] * 4 + [0.04]))  # noqa: E731
    queries, targets = [draw(18) for _ in range(60)], [draw(26) for _ in range(60)]
    expected = [plain(q, t, scoring) for q, t in zip(queries, targets)]
    np.testing.assert_allclose(local_scores(queries, targets, scoring=scoring), expected, atol=1e-9)
    found = local_alignments(queries, targets, scoring=scoring)
    np.testing.assert_allclose([a.score for a in found], expected, atol=1e-9)
    ways = [worth(a, q, t, scoring) for a, q, t in zip(found, queries, targets)]
    np.testing.assert_allclose(ways, expected, atol=1e-9)


def test_a_deletion_and_an_insertion_by_hand():
    left, right = "ACGTTGCAACTTGACC", "GGATCCATTGCAGTCA"
    (a,) = local_alignments([left + right], [f"TTT{left}GAG{right}TTT"])
    assert a.operations == ((16, "M"), (3, "D"), (16, "M"))
    assert a.score == 64 - 5 - 2 * 2
    (b,) = local_alignments([f"{left}GAG{right}"], [left + right])
    assert b.cigar(35) == "16M3I16M"
    (c,) = local_alignments([f"NNNN{left}NN"], [left])
    assert c.cigar(22) == "4S16M2S"


def test_more_pairs_than_a_batch_and_no_pairs():
    assert local_scores(["ACGT"] * 300, ["ACGT", "ACCT", "GGGG"] * 100).tolist() == [8.0, 4.0, 2.0] * 100
    assert local_scores([], []).tolist() == []
    (nothing,) = local_alignments(["AAAA"], ["CCCC"])
    assert (nothing.score, nothing.operations, nothing.cigar(4)) == (0.0, (), "4S")


def test_long_sequences_do_not_overflow():
    some = "".join(np.random.default_rng(1).choice(list("ACGT"), 2000))
    assert local_scores([some], [some]).tolist() == [4000.0]


def test_impossible_settings_are_sentences():
    with pytest.raises(ConfigError, match="must not cost more than its first"):
        Scoring(gap_open=-1, gap_extend=-2)
    with pytest.raises(ConfigError, match="whole tenths"):
        Scoring(match=0.25)
    with pytest.raises(DataError, match="no pairs"):
        local_scores(["A"], [])
