"""Contrastive context prediction: the loss by hand, what is in the queues, the head's roles, what is refused."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.infer import infer
from counterpoint.data.rows import Rows
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.errors import DataError
from counterpoint.methods.text.ccp import CCP, Config
from counterpoint.train.config import TrainConfig
from tests.conformance.rows import rows, texts


def learner(**settings: Any) -> CCP:
    torch.manual_seed(0)
    encoder = StaticText.from_texts(texts(), StaticTextConfig(dim=8))
    config = Config(**{"sources": ("de", "fr"), "queue": 6, "hidden": 8, "out": 4, "warmup": 1, **settings})
    return CCP(encoder, config).train()


def batch(method: CCP, n: int = 5, source: int = 0, seed: int = 0) -> Any:
    found = [{**row, "source": source} for row in rows("texts", n, seed=seed)]
    return method.views(found, np.random.default_rng(seed))


def test_the_loss_by_hand_without_entries_of_the_same_document() -> None:
    method = learner()
    seen = batch(method)
    queue = method.queues.of(0)
    queue.push(F.normalize(torch.randn(3, 4), dim=1), document=torch.tensor([0, 7, 2]))
    losses = method.losses(seen)
    other = learner()
    other.load_state_dict(method.state_dict())
    with torch.no_grad():
        a, b = (learner().encoder(seen.one(role).data) for role in ("anchor", "context"))
        a, b = (F.normalize(z, dim=-1) for z in learner().head(a, b))
    for name, (x, y) in {"context": (a, b), "centre": (b, a)}.items():
        expected = []
        for i in range(5):
            rest = queue.snapshot()[queue.snapshot("document") != i] @ x[i]
            own = x[i] @ y[i]
            expected.append(torch.cat([own[None], rest]).div(0.05).logsumexp(0) - own / 0.05)
        torch.testing.assert_close(losses[name].detach(), torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_after_a_step_the_contexts_are_in_the_queue_of_their_language_and_roles_have_changed() -> None:
    method = learner()
    before = [method.queues.of(g).snapshot() for g in (0, 1)]
    method.losses(seen := batch(method, source=1))
    z = method.observed["positive"]
    assert torch.equal(before[1], method.queues.of(1).snapshot())  # not before the step
    method.after_step(1)
    assert torch.equal(before[0], method.queues.of(0).snapshot())
    assert torch.equal(method.queues.of(1).snapshot()[:5], z)
    assert method.queues.of(1).snapshot("document")[:5].tolist() == seen.rows.tolist()
    assert int(method.head.steps) == 1
    mixed = learner(mixed=True)
    mixed.losses(batch(mixed, source=1))
    mixed.after_step(1)
    assert mixed.queues.of(0).snapshot("document")[:5].tolist() == seen.rows.tolist()


def test_a_batch_that_is_replayed_joins_the_queue_once() -> None:
    method = learner()
    seen = batch(method)
    for _ in range(2):
        method.losses(seen)
    method.after_step(1)
    assert (method.queues.of(0).snapshot("document") >= 0).sum() == 5


def test_views_are_neighbouring_sentences_of_one_document() -> None:
    method = learner()
    found = [{"text": "\n".join(f"{w} fox" for w in ("the", "quick", "lazy", "old")), "source": 0, "row": 3}]
    lines = found[0]["text"].splitlines()
    for seed in range(20):
        seen = method.views(found, np.random.default_rng(seed))
        at = [
            next(i for i, line in enumerate(lines) if torch.equal(method.encoder.collate([line])["input_ids"], ids))
            for ids in (seen.one("anchor").data["input_ids"], seen.one("context").data["input_ids"])
        ]
        assert abs(at[0] - at[1]) == 1


def test_documents_of_one_sentence_are_left_out_and_batches_are_of_one_language() -> None:
    said = [f"fox {i}\ndogs {i}" for i in range(30)] + ["alone"] * 3
    language = ["de"] * 12 + ["fr"] * 18 + ["fr"] * 3
    data = datasets.Dataset.from_dict({"text": said, "language": language})
    known = Rows(data, infer(data, columns={"text": "text", "source": "language"}))
    method = learner()
    with pytest.warns(UserWarning, match="3 of 33 documents have one sentence only"):
        sampler = method.sampler(known, TrainConfig(batch=6))
    assert sampler is not None
    found = list(sampler.batches(0))
    assert len(found) == len(sampler) == 5
    assert sorted(i for b in found for i in b) == list(range(30))
    assert all(len({row["source"] for row in known[b]}) == 1 for b in found)
    seen = method.views(known[[28, 31, 29]], np.random.default_rng(0))  # of a stream, that cannot be looked through
    assert seen.rows.tolist() == [28, 29]
    short = known.subset([30, 31, 32])
    with pytest.raises(DataError, match="No document has two sentences"):
        method.sampler(short, TrainConfig(batch=2))


def test_what_is_refused() -> None:
    method = learner()
    found = rows("texts", 2)
    with pytest.raises(DataError, match="holds documents in de and fr"):
        method.views([found[0], {**found[1], "source": 1}], np.random.default_rng(0))
    with pytest.raises(DataError, match="Row 0 has no source"):
        method.views([{"text": "a\nb", "row": 0}], np.random.default_rng(0))
    with pytest.raises(DataError, match="--columns source=COLUMN"):
        CCP(method.encoder)
    with pytest.raises(DataError, match="at least 2 rows"):
        method.losses(batch(method, 1))
