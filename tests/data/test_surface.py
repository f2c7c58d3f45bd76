"""Surface similarity: against the textbook's tables, its limits, and what it does with texts of no or many tokens."""

import numpy as np
import pytest

from counterpoint.data.surface import Surface
from counterpoint.errors import ConfigError


def levenshtein(a: list[int], b: list[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


@pytest.mark.parametrize(("words", "longest"), [(3, 12), (60, 12), (4, 64)])
def test_edits_and_shared_tokens_are_those_of_the_definition(words, longest):
    rng = np.random.default_rng(words)
    texts = [rng.integers(0, words, rng.integers(0, longest + 1)).tolist() for _ in range(60)]
    texts += [rng.integers(0, words, longest).tolist() for _ in range(2)]
    i, j = rng.integers(0, len(texts), (2, 400))
    i, j = np.append(i, [60, 60]), np.append(j, [61, 60])
    surface = Surface(texts)
    edits, shared, both = surface.edits(i, j), surface.jaccard(i, j), surface(i, j)
    for p, (a, b) in enumerate((texts[x], texts[y]) for x, y in zip(i, j)):
        assert edits[p] == levenshtein(a, b)
        union = set(a) | set(b)
        assert shared[p] == pytest.approx(len(set(a) & set(b)) / len(union) if union else 1)
        assert both[p] == pytest.approx((shared[p] + 1 - edits[p] / max(len(a), len(b), 1)) / 2)


def test_it_is_symmetric_one_for_the_same_and_zero_for_nothing_in_common():
    surface = Surface([["a", "b", "c"], ["c", "b", "a"], ["x", "y"], []])
    assert surface([0, 2, 3], [0, 2, 3]).tolist() == [1, 1, 1]
    assert surface([0, 0], [2, 3]).tolist() == [0, 0]
    assert surface([0], [1]) == surface([1], [0]) == pytest.approx((1 + 1 / 3) / 2)  # same set, other order


def test_the_length_may_count_as_a_third_part():
    surface = Surface([list("abcd"), list("ab"), []], length=True)
    assert surface([0], [1])[0] == pytest.approx((0.5 + 0.5 + 0.5) / 3)
    assert surface([0, 2], [2, 2]).tolist() == [0, 1]


def test_only_the_first_tokens_of_long_texts_are_read():
    long = [str(i) for i in range(100_000)]
    assert Surface([long, long[:64] + ["other"] * 10])([0], [1])[0] == 1
    with pytest.raises(ConfigError, match="limit=65"):
        Surface([long], limit=65)


def test_more_pairs_than_are_counted_at_once(monkeypatch):
    texts = [[i % 7] * (i % 5) for i in range(40)]
    i, j = np.divmod(np.arange(1600), 40)
    whole = Surface(texts)(i, j)
    monkeypatch.setattr("counterpoint.data.surface.PAIRS", 8)
    assert np.array_equal(Surface(texts)(i, j), whole)
