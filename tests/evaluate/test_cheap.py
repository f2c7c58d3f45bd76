from __future__ import annotations

import numpy as np
import pytest
import torch

from counterpoint.data.sets.beir import Retrieval
from counterpoint.errors import ConfigError
from counterpoint.evaluate.cheap import costs
from counterpoint.evaluate.evaluate import evaluate
from counterpoint.evaluate.retrieval import METRICS
from tests.toys import Vectors

DIM, N = 16, 60


def items(informed: slice, *, spread: float = 0.3) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Queries and documents that agree in some dimensions; the others are noise of their own."""
    g = np.random.default_rng(0)
    a, b = (g.standard_normal((N, DIM)) * spread for _ in range(2))
    same = g.standard_normal((N, DIM))[:, informed]
    a[:, informed] += same
    b[:, informed] += same
    return [tuple(x) for x in a], [tuple(x) for x in b]


def rows(informed: slice) -> list[dict[str, object]]:
    return [{"anchor": a, "positive": b, "row": i} for i, (a, b) in enumerate(zip(*items(informed)))]


@pytest.fixture
def encoder() -> Vectors:
    torch.manual_seed(0)
    return Vectors(DIM)


def test_the_first_line_is_what_evaluate_says(encoder: Vectors) -> None:
    data = rows(slice(0, DIM))
    first = costs(encoder, data, dims=[8], dtypes=["binary"]).lines[0]
    known = evaluate(encoder, data, baselines=())
    for metric in METRICS:
        assert first.metrics[metric] == known[metric].value
        assert first.lost[metric].value == 0


def test_a_model_that_keeps_its_knowledge_behind_is_told_so(encoder: Vectors) -> None:
    behind = costs(encoder, rows(slice(12, 16)), dims=[4, 16])
    ahead = costs(encoder, rows(slice(0, 4)), dims=[4])
    (lost,), (kept,) = ([x.lost["ndcg@10"] for x in c.lines if x.kept.dim == 4] for c in (behind, ahead))
    assert lost.low > 0.3
    assert kept.high <= 0.05
    assert ahead.notes == ()
    (note,) = behind.notes
    assert note.startswith("Cut to 4 of 16 dimensions the model loses ")


def test_ways_bytes_and_savings(encoder: Vectors) -> None:
    found = costs(encoder, rows(slice(0, 16)), dims=[16, 9], dtypes=["float32", "int8", "binary"])
    assert [(x.kept.dim, str(x.kept), *x.kept.bytes(16)) for x in found.lines] == [
        (16, "float32", 64, 0), (16, "int8", 16, 0), (16, "binary", 2, 0), (16, "binary + int8", 2, 16),
        (9, "float32", 36, 0), (9, "int8", 9, 0), (9, "binary", 2, 0), (9, "binary + int8", 2, 16),
    ]  # fmt: skip
    assert [line["saved"] for line in found.to_json()["lines"]][:4] == [0, 0.75, 1 - 2 / 64, 1 - 18 / 64]
    quality = {str(x.kept): x.metrics["ndcg@10"].value for x in found.lines[:4]}
    assert quality["binary"] < quality["binary + int8"]


def test_scored_pairs_and_labels(encoder: Vectors) -> None:
    a, b = items(slice(0, 16))
    pairs = [{"a": x, "b": y, "score": float(np.dot(x, y)), "row": i} for i, (x, y) in enumerate(zip(a, b))]
    found = costs(encoder, pairs, dtypes=["int8", "binary"])
    assert found.task == "similarity"
    int8, binary = (x.lost["spearman"].value for x in found.lines[1:])
    assert abs(int8) < 0.01
    assert binary > int8
    labelled = [{"text": x, "label": int(x[0] > 0), "row": i} for i, x in enumerate(a)]
    known = costs(encoder, labelled, dims=[1])
    assert known.lines[1].metrics["kNN accuracy"].value == 1  # the label is the first dimension's sign


def test_bad_input_is_named(encoder: Vectors) -> None:
    with pytest.raises(ConfigError, match="--dim 17: this model's embeddings have 16 dimensions; give 1 to 16"):
        costs(encoder, rows(slice(0, 4)), dims=[17])
    with pytest.raises(ConfigError, match="rows of one modality"):
        costs({"text": encoder, "image": encoder}, [{"text": 1, "image": 2, "row": 0}])


def test_a_retrieval_set(encoder: Vectors) -> None:
    queries, documents = items(slice(0, 16))
    numbered = {str(i): x for i, x in enumerate(documents)}
    data = Retrieval(
        corpus=numbered, queries={f"q{i}": x for i, x in enumerate(queries)},
        qrels={f"q{i}": {str(i): 1.0} for i in range(N)},
    )  # fmt: skip
    assert costs(encoder, data).lines[0].metrics["ndcg@10"].value > 0.9
