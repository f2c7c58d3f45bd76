"""`mteb` measures our encoders: its figures on tasks of local data are those of our own evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

mteb = pytest.importorskip("mteb")

from datasets import Dataset  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.sts import AbsTaskSTS  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402

from counterpoint.data.sets.beir import Retrieval  # noqa: E402
from counterpoint.encoders.folder import save  # noqa: E402
from counterpoint.encoders.static import StaticText, StaticTextConfig  # noqa: E402
from counterpoint.errors import DataError  # noqa: E402
from counterpoint.evaluate.evaluate import evaluate  # noqa: E402
from counterpoint.evaluate.mteb import ForMteb  # noqa: E402

CORPUS = {
    "d0": "a canon is a melody that follows itself at a distance",
    "d1": "the fugue begins with its subject alone",
    "d2": "gulls cry over the pier at low tide",
    "d3": "the captain drops the anchor near the pier",
    "d4": "a small garden with a spade and roots",
}
QUERIES = {"q0": "melody that follows itself", "q1": "anchor of the captain", "q2": "the garden and the tide"}
QRELS = {"q0": {"d0": 1}, "q1": {"d3": 1}, "q2": {"d4": 1, "d2": 1}}
PAIRS = [
    ("a small garden", "a garden with roots", 4.0),
    ("gulls over the pier", "gulls cry over the pier", 5.0),
    ("the fugue begins", "the captain drops the anchor", 0.0),
    ("a melody follows", "the subject follows alone", 2.0),
]


def metadata(name: str, kind: str, score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name, description="Made here.", reference=None, dataset={"path": "local/made", "revision": "1"}, type=kind,
        category="t2t", modalities=["text"], eval_splits=["test"], eval_langs=["eng-Latn"], main_score=score, date=None,
        domains=None, task_subtypes=None, license=None, annotations_creators=None, dialect=None, sample_creation=None,
        bibtex_citation=None,
    )  # fmt: skip


class Found(AbsTaskRetrieval):
    metadata = metadata("LocalRetrieval", "Retrieval", "ndcg_at_10")

    def load_data(self, **_: Any) -> None:
        self.dataset = {
            "default": {
                "test": {
                    "corpus": Dataset.from_list([{"id": k, "title": "", "text": v} for k, v in CORPUS.items()]),
                    "queries": Dataset.from_list([{"id": k, "text": v} for k, v in QUERIES.items()]),
                    "relevant_docs": QRELS,
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True


class Alike(AbsTaskSTS):
    metadata = metadata("LocalSTS", "STS", "cosine_spearman")

    def load_data(self, **_: Any) -> None:
        rows = [{"sentence1": a, "sentence2": b, "score": s} for a, b, s in PAIRS]
        self.dataset = {"test": Dataset.from_list(rows)}
        self.data_loaded = True


@pytest.fixture(scope="module")
def encoder() -> StaticText:
    texts = [*CORPUS.values(), *QUERIES.values()] * 2
    return StaticText.from_texts(texts, StaticTextConfig(dim=32), prompts={"query": "", "document": ""})


def score(task: Any, model: ForMteb) -> float:
    found = mteb.evaluate(model, [task], cache=None, show_progress_bar=False)
    return float(found.task_results[0].get_score())


def test_retrieval_is_measured_as_we_measure_it(encoder: StaticText, tmp_path: Any) -> None:
    save(encoder, tmp_path / "model")
    mine = evaluate(encoder, Retrieval(corpus=CORPUS, queries=QUERIES, qrels=QRELS), baselines=(), draws=10)
    assert score(Found(), ForMteb(tmp_path / "model")) == pytest.approx(mine["ndcg@10"].value.value, abs=1e-4)


def test_similarity_is_measured_as_we_measure_it(encoder: StaticText) -> None:
    rows = [{"a": a, "b": b, "score": s, "row": i} for i, (a, b, s) in enumerate(PAIRS)]
    mine = evaluate(encoder, rows, baselines=(), draws=10)
    assert score(Alike(), ForMteb(encoder)) == pytest.approx(mine["spearman"].value.value, abs=1e-4)


def test_roles_choose_the_prompt() -> None:
    texts = list(CORPUS.values()) * 2
    encoder = StaticText.from_texts(texts, StaticTextConfig(dim=8), prompts={"query": "the pier "})
    model, batches = ForMteb(encoder), [{"text": texts[:2]}, {"text": texts[2:3]}]
    asked = model.encode(batches, prompt_type=mteb.types.PromptType.query)
    np.testing.assert_allclose(asked, encoder.encode(texts[:3], role="query"), atol=1e-6)
    assert np.abs(asked - model.encode(batches)).max() > 0.01
    with pytest.raises(DataError, match="This task holds image; counterpoint/encoder encodes texts"):
        model.encode([{"image": []}])
    np.testing.assert_allclose(model.similarity_pairwise(asked, asked), 1, atol=1e-6)
    assert model.similarity(asked, asked[:2]).shape == (3, 2)
