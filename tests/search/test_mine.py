from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.search.cache import Cache
from counterpoint.search.mine import Likeness, Mined, Mining, Problem, dense, mine, ranks, words
from tests.toys import Words

ROOT = Path(__file__).parents[2]


class Counted(Words):
    """Texts of numbers; remembers how many were encoded, and the most at once."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__(40, 6)
        self.seen: list[int] = []

    def encode(self, items, **options):  # type: ignore[no-untyped-def, override]
        self.seen.append(len(items))
        return super().encode(items, **options)


def made(n: int = 60, seed: int = 0) -> tuple[list[str], list[str]]:
    """Pairs of number words; anchors repeat, so that some have several positives."""
    g = np.random.default_rng(seed)
    anchors = [" ".join(map(str, g.integers(0, 40, 2))) for _ in range(n // 2)]
    anchors += [anchors[i] for i in g.integers(0, n // 2, n - n // 2)]
    return anchors, [f"{a} {' '.join(map(str, g.integers(0, 40, 2)))}" for a in anchors]


def run(
    problem: Problem, encoder: Words, folder: Path, mining: Mining, *, block: int = 7, chunk: int = 9, **more: Any
) -> Mined:
    cache = Cache(folder)
    blocks = dense(encoder, problem, cache, model="m", block=block)
    return mine(problem, blocks, mining, cache=cache, name="m", chunk=chunk, **more)


def by_hand(
    anchors: Sequence[str], positives: Sequence[str], corpus: Sequence[str], encoder: Words, mining: Mining
) -> list[list[str]]:
    """The definition, a pair at a time."""
    out = []
    texts = list(dict.fromkeys(corpus))
    for anchor, positive in zip(anchors, positives):
        known = {p for a, p in zip(anchors, positives) if a == anchor} | {anchor}
        rest = [t for t in texts if t not in known]
        q, p, c = (encoder.encode(x, normalize=True) for x in ([anchor], [positive], rest))
        scores = c @ q[0]
        order = np.argsort(-scores, kind="stable")[mining.ranks[0] - 1 : mining.ranks[1]]
        limit = mining.limit(np.array([p[0] @ q[0]]))[0]
        out.append([rest[i] for i in order if scores[i] <= limit][: mining.number])
    return out


@pytest.mark.parametrize("ratio", [None, 0.9])
@pytest.mark.parametrize("margin", [None, 0.2])
@pytest.mark.parametrize("separate", [False, True])
def test_it_is_the_definition_whatever_the_blocks(tmp_path, ratio, margin, separate) -> None:
    anchors, positives = made()
    corpus = [*made(seed=1)[1], *positives[:5], anchors[0]] if separate else None
    mining = Mining(ranks=(3, 20), ratio=ratio, margin=margin, number=4)
    problem, encoder = Problem.of(anchors, positives, corpus), Words(40, 6)
    expected = by_hand(anchors, positives, corpus or positives, encoder, mining)
    for block, chunk in ((7, 9), (1000, 1000), (1, 1)):
        found = run(problem, encoder, tmp_path / f"{block}", mining, block=block, chunk=chunk)
        assert found.texts() == expected
    counts = found.counts
    assert counts.mined == sum(map(len, expected))
    assert counts.none == sum(not row for row in expected)
    assert counts.short == sum(0 < len(row) < 4 for row in expected)
    assert sum(counts.kept) + sum(counts.dropped) == counts.looked_at == 60 * 18
    assert sum(counts.dropped) == counts.too_like
    assert (counts.too_like > 0) == (ratio is not None or margin is not None)


def test_neither_positives_nor_copies_are_mined(tmp_path) -> None:
    anchors = ["1 2", "1 2", "5 6"]
    positives = ["1 3", "1 4", "5 7"]
    corpus = [" 1 3", "1 4.", "1  2", "1 2!", "8 9", "8 9", "5 7"]  # copies but for signs and spaces
    problem = Problem.of(anchors, positives, corpus)
    assert (problem.candidates, problem.repeated) == (6, 1)

    class Loose(Words):
        def ids(self, texts):  # type: ignore[no-untyped-def]
            return super().ids([t.rstrip(".!") for t in texts])

    found = run(problem, Loose(40, 6), tmp_path, Mining(ranks=(1, 9), ratio=None, number=9))
    mined = [set(row) for row in found.texts()]
    assert mined[0] == mined[1] == {"8 9", "5 7"}
    assert mined[2] == {"1 3", "1 4.", "1  2", "1 2!", "8 9"}


def test_margins_by_hand_of_any_sign() -> None:
    positive = np.array([0.8, -2.0])
    np.testing.assert_allclose(Mining(ratio=0.9).limit(positive), [0.72, -2.2], rtol=1e-6)
    np.testing.assert_allclose(Mining(ratio=None, margin=0.5).limit(positive), [0.3, -2.5], rtol=1e-6)
    np.testing.assert_allclose(Mining(ratio=0.9, margin=0.05).limit(positive), [0.72, -2.2], rtol=1e-6)
    assert np.isposinf(Mining(ratio=None).limit(positive)).all()


def test_random_is_seeded_within_the_window_and_in_the_order_of_ranks(tmp_path) -> None:
    anchors, positives = made()
    problem, encoder = Problem.of(anchors, positives), Words(40, 6)

    def drawn(seed: int, sample: str = "random", number: int = 3) -> np.ndarray:
        mining = Mining(ranks=(2, 15), ratio=None, number=number, sample=sample, seed=seed)  # type: ignore[arg-type]
        return run(problem, encoder, tmp_path, mining).negatives

    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    window = drawn(0, "top", 14)
    for row, all_ in zip(drawn(1), window):
        places = [all_.tolist().index(i) for i in row]
        assert places == sorted(places)
    assert len(np.unique(drawn(1))) > len(np.unique(drawn(0, "top"))) * 0.8


class Judge:
    """Likes short texts; remembers how many pairs it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        self.seen += pairs
        return np.array([-float(sum(map(int, text.split()))) for _, text in pairs])


def test_a_guide_decides_in_place_of_the_model(tmp_path) -> None:
    anchors, positives = made()
    problem, encoder, judge = Problem.of(anchors, positives), Words(40, 6), Judge()
    mining = Mining(ranks=(1, 30), ratio=1.0, margin=3.0, number=2)
    found = run(problem, encoder, tmp_path, mining, guide=judge, guide_name="judge")
    total = sum(map(len, found.texts()))
    assert total > 50
    for positive, row, scores, own in zip(positives, found.texts(), found.scores, found.positive):
        assert own == judge.score([("", positive)])[0]
        for text, score in zip(row, scores):
            assert score == judge.score([("", text)])[0] <= own - 3
    # In the order of ranks, and not one pair more than needed: rounds of as many as are wanted.
    every = run(problem, encoder, tmp_path, Mining(ranks=(1, 30), ratio=None, number=30))
    for pair, row in enumerate(found.texts()):
        own = judge.score([("", positives[pair])])[0]
        passing = [t for t in every.texts()[pair] if judge.score([("", t)])[0] <= own - 3]
        assert row == passing[:2]
    again = Judge()
    assert run(problem, encoder, tmp_path, mining, guide=again, guide_name="judge").texts() == found.texts()
    assert again.seen == []


def test_an_encoder_as_a_guide(tmp_path) -> None:
    encoder = Words(40, 6)
    pairs = [("1 2", "3"), ("4", "1 2"), ("1 2", "1 2")]
    expected = [encoder.encode([a], normalize=True)[0] @ encoder.encode([b], normalize=True)[0] for a, b in pairs]
    np.testing.assert_allclose(Likeness(encoder).score(pairs), expected, rtol=1e-5)


def test_words_propose_what_shares_words_only(tmp_path) -> None:
    anchors, positives = ["red rose", "blue sea"], ["a rose", "waves"]
    corpus = ["red car", "red red rose", "the sea", "green", "waves"]
    problem = Problem.of(anchors, positives, corpus)
    mining = Mining(ranks=(1, 5), ratio=None, number=5)
    found = mine(problem, words(problem), mining, cache=Cache(tmp_path), name="bm25")
    assert found.texts() == [["red red rose", "red car"], ["the sea"]]
    assert found.positive[1] == 0  # it shares no word with its anchor
    strict = mine(problem, words(problem), Mining(ranks=(1, 5), number=5), cache=Cache(tmp_path), name="bm25")
    assert strict.texts()[1] == []


def test_nothing_is_encoded_twice_and_damage_is_made_good(tmp_path) -> None:
    anchors, positives = made()
    problem, encoder = Problem.of(anchors, positives), Counted()
    first = run(problem, encoder, tmp_path, Mining(ranks=(1, 9)), chunk=1000)
    assert max(encoder.seen) <= 7
    assert sum(encoder.seen) == len(problem.anchors) + len(problem.texts)
    encoder.seen.clear()
    assert run(problem, encoder, tmp_path, Mining(ranks=(1, 9)), chunk=1000).texts() == first.texts()
    run(problem, encoder, tmp_path, Mining(ranks=(5, 30), ratio=0.5), chunk=1000)
    assert encoder.seen == []  # other ranks: the windows are searched again, from what was encoded
    for file in list(tmp_path.glob("*.npz")):
        file.write_bytes(file.read_bytes()[:-20])
    assert run(problem, encoder, tmp_path, Mining(ranks=(1, 9)), chunk=1000).texts() == first.texts()
    assert sum(encoder.seen) == len(problem.anchors) + len(problem.texts)


def test_a_killed_job_goes_on_where_it_was(tmp_path) -> None:
    class Dies(Counted):
        left = 5

        def encode(self, items, **options):  # type: ignore[no-untyped-def, override]
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return super().encode(items, **options)

    anchors, positives = made()
    problem = Problem.of(anchors, positives)
    whole = run(problem, Counted(), tmp_path / "whole", Mining(ranks=(2, 9)))
    dying, after = Dies(), Counted()
    with pytest.raises(KeyboardInterrupt):
        run(problem, dying, tmp_path / "killed", Mining(ranks=(2, 9)))
    found = run(problem, after, tmp_path / "killed", Mining(ranks=(2, 9)))
    for name in ("negatives", "scores", "positive"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert found.counts == whole.counts
    assert sum(dying.seen) + sum(after.seen) == len(problem.anchors) + len(problem.texts)


def test_bad_input_is_named(tmp_path) -> None:
    anchors, positives = made(10)
    problem = Problem.of(anchors, positives)
    with pytest.raises(DataError, match="10 different texts, so none has rank 11"):
        run(problem, Words(40, 6), tmp_path, Mining(ranks=(11, 20)))
    with pytest.raises(DataError, match="no texts to mine from"):
        Problem.of(anchors, positives, ["", " "])
    with pytest.raises(ConfigError, match="the first before the last"):
        Mining(ranks=(5, 2))
    with pytest.raises(ConfigError, match="expected the first and the last rank"):
        ranks("10")
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        Mining(ratio=1.5)
    with pytest.raises(ConfigError, match="0 negatives"):
        Mining(number=0)

    class Wrong:
        def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
            return np.full(len(pairs), np.nan)

    with pytest.raises(DataError, match="not finite"):
        run(problem, Words(40, 6), tmp_path, Mining(ranks=(1, 5)), guide=Wrong(), guide_name="w")
    assert ranks(" 1-20 ") == (1, 20)


MEMORY = """
import sys, numpy as np
from pathlib import Path
from counterpoint.search.cache import Cache
from counterpoint.search.mine import Mining, Problem, dense, mine

class Waves:
    dim, device = 1024, "cpu"
    def encode(self, items, **_):
        x = np.sin(np.outer([1 + int(t.split()[0]) for t in items], np.arange(1, self.dim + 1, dtype=np.float32)))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

n, block = 40_000, int(sys.argv[2])
corpus = [f"{i} text" for i in range(n)]
problem = Problem.of(["3", "5"], corpus[7:9], corpus)
# Of this program alone: ru_maxrss begins with what the one that started it held.
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
cache = Cache(Path(sys.argv[1]))
before = peak()
mine(problem, dense(Waves(), problem, cache, model="m", block=block), Mining(), cache=cache, name="m")
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_one_block_of_embeddings_is_in_memory(tmp_path) -> None:
    """The corpus's embeddings are 156 MiB; a block of 500 is 2 MiB."""

    def grown(block: int) -> float:
        command = [sys.executable, "-c", MEMORY, str(tmp_path / str(block)), str(block)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return float(json.loads(done.stdout.splitlines()[-1]))

    one = grown(500)
    assert one < 60
    # Else the figure above would say nothing. (What imports took for a moment is in both.)
    assert grown(40_000) > one + 50
