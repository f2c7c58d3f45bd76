"""DebCSE: candidates, gates and weights by their definitions; the loss by hand; what happens where nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.data.loader import Loader
from counterpoint.data.rows import Rows
from counterpoint.data.schema import Schema
from counterpoint.data.stream import Stream
from counterpoint.errors import ConfigError
from counterpoint.methods.text.debcse import Config, DebCSE
from counterpoint.processes import alone
from counterpoint.search.pool import Candidates, Pool, guide_of
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from tests.processes import spread
from tests.toys import Words

pytest.importorskip("bm25s")


def made(**settings: object) -> DebCSE:
    torch.manual_seed(0)
    return DebCSE(Words(100, 6), Config(**{"head": False, "temperature": 0.5, **settings}))  # type: ignore[arg-type]


def sentences(n: int = 60, seed: int = 0) -> list[str]:
    """Numbers of one of three ranges: those of a range mean the like."""
    rng = np.random.default_rng(seed)
    return [" ".join(str(t) for t in 30 * (i % 3) + rng.integers(0, 30, rng.integers(4, 9))) for i in range(n)]


def rows(texts: list[str]) -> list[dict[str, object]]:
    return [{"text": text, "row": i} for i, text in enumerate(texts)]


def pool(a: list[float], b: list[float], upper: float = 0.6, lower: float = 0.4) -> tuple[Pool, Candidates]:
    """A text of which the others are candidates with these similarities."""
    found = Candidates(np.arange(1, len(a) + 1)[None], np.array([a]), np.array([b]))
    texts = [f"{i} {i} {i}" for i in range(len(a) + 1)]
    return Pool(texts, {t: i for i, t in enumerate(texts)}, np.eye(len(texts)), found, found, upper, lower), found


def test_positives_are_weighed_by_meaning_over_looks() -> None:
    p, c = pool([0.9, 0.7, 0.5], [0.8, 0.2, 0.0])
    r = np.array([np.exp(9), np.exp(7), 0])
    e = np.exp(np.array([4.0, 1.0, 0.0]))
    expected = (r / r.sum()) / np.maximum(e / e.sum(), 0.01)
    assert np.allclose(made().weights(p, c, +1), expected / expected.sum())
    assert np.allclose(made(weights="semantic").weights(p, c, +1), r / r.sum())
    assert np.allclose(made(weights="uniform").weights(p, c, +1), [[0.5, 0.5, 0]])
    assert np.allclose(made(weights="surface").weights(p, c, +1), (1 / e) / (1 / e).sum())


def test_negatives_are_weighed_by_looks_over_meaning() -> None:
    p, c = pool([0.3, 0.3, 0.41], [0.6, 0.1, 0.9])
    w = made().weights(p, c, -1)[0]
    assert w[2] == 0  # above d-
    e = np.exp(-np.array([0.6, 0.1, 0.9]) / 0.2)
    e = e / e.sum()
    assert w[0] / w[1] == pytest.approx(e[1] / e[0])  # alike in meaning: by 1 / propensity
    assert w.sum() == pytest.approx(1)


def test_a_positive_that_looks_more_alike_is_drawn_less() -> None:
    weights = []
    for b in (0.1, 0.4, 0.9):
        p, c = pool([0.8, 0.8, 0.7], [b, 0.3, 0.2])
        weights.append(made().weights(p, c, +1)[0, 0])
    assert weights[0] > weights[1] > weights[2]


def test_positives_mean_the_same_and_negatives_something_else() -> None:
    texts = sentences()
    method = made(neighbours=5, lookalikes=8, strangers=8, negatives=2)
    method.pool = method.mine(texts, "lsa")
    batch = method.views(rows(texts), np.random.default_rng(0))
    guide, labels = batch.labels["guide"], batch.labels
    positive = (guide * labels["guide_positive"]).sum(1)
    assert (positive >= method.pool.upper - 1e-5).all()  # a copy has 1
    negative = torch.einsum("ne,nhe->nh", guide, labels["guide_negative"])
    assert (negative[labels["drawn"]] <= method.pool.lower + 1e-5).all()
    assert len(batch.one("negative")) == int(labels["drawn"].sum())
    owner = batch.one("negative").owner
    assert owner is not None
    assert torch.equal(owner, labels["drawn"].nonzero()[:, 0])


def test_each_time_pairs_are_drawn_anew_and_the_same_for_the_same_seed() -> None:
    texts = sentences()
    method = made(upper=0.1)
    method.pool = method.mine(texts, "lsa")
    one, same, other = (method.views(rows(texts), np.random.default_rng(s)).labels["guide_positive"] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_loss_by_hand() -> None:
    texts = sentences(30)
    method = made(neighbours=4, lookalikes=5, strangers=5)
    method.pool = method.mine(texts, "lsa")
    batch = method.views(rows(texts[:8]), np.random.default_rng(3))
    labels = batch.labels
    x, y, n = (F.normalize(method.encoder(batch.one(r).data), dim=-1) for r in ("anchor", "positive", "negative"))
    scores = x @ torch.cat([y, n]).T / 0.5
    known = torch.cat([labels["guide_positive"], labels["guide_negative"][labels["drawn"]]])
    false = labels["guide"] @ known.T > method.pool.lower
    false[torch.arange(8), torch.arange(8)] = False
    assert false.any()
    expected = F.cross_entropy(scores.masked_fill(false, -torch.inf), torch.arange(8))
    assert torch.allclose(method.losses(batch)["contrast"], expected, atol=1e-5)
    method.config = replace(method.config, guard=False)
    assert torch.allclose(method.losses(batch)["contrast"], F.cross_entropy(scores, torch.arange(8)), atol=1e-5)


def test_without_candidates_it_is_simcse() -> None:
    texts = sentences(12)
    method = made(neighbours=0, negatives=0, guard=False)
    method.pool = method.mine(texts, "lsa")
    batch = method.views(rows(texts), np.random.default_rng(0))
    assert torch.equal(batch.one("anchor").data["input_ids"], batch.one("positive").data["input_ids"])  # type: ignore[index]
    assert not batch.all("negative")
    z = F.normalize(method.encoder(batch.one("anchor").data), dim=-1)
    expected = F.cross_entropy(z @ z.T / 0.5, torch.arange(12))
    assert torch.allclose(method.losses(batch)["contrast"], expected, atol=1e-5)


def test_edited_copies_join_the_candidates() -> None:
    texts = sentences(12)
    method = made(neighbours=0, edits=3)
    method.pool = method.mine(texts, "lsa")
    batch = method.views(rows(texts), np.random.default_rng(0))
    assert torch.equal(batch.labels["guide"], batch.labels["guide_positive"])
    assert not torch.equal(batch.one("anchor").data["input_ids"], batch.one("positive").data["input_ids"])  # type: ignore[index]


@pytest.mark.parametrize(("upper", "guide"), [(1.0, "lsa"), (0.75, "start"), (0.75, "spelling")])
def test_the_corpus_is_mined_before_training_and_told_of(upper: float, guide: str) -> None:
    schema = Schema(kind="texts", columns={"text": "text"}, modalities={"text": "text"})
    held = Rows(Dataset.from_dict({"text": sentences()}), schema)
    method = made(upper=upper, guide=guide)
    sampler = method.sampler(held, TrainConfig(batch=10))
    assert method.pool is not None
    assert sorted(np.concatenate(list(sampler.batches(0))).tolist()) == list(range(60))
    [said] = [line for line in held.log.lines() if "no positive but themselves" in line]
    assert "Of 60 different sentences" in said
    alone = (method.weights(method.pool, method.pool.near, +1).sum(1) == 0).sum()
    assert f" {alone} have no positive" in said
    batch = method.views(
        [{"text": "never seen before", "row": 0}][:0] + rows(sentences()[:4]), np.random.default_rng(0)
    )
    assert torch.isfinite(method.losses(batch)["contrast"])


def test_a_text_that_is_not_in_the_corpus_is_its_own_positive() -> None:
    method = made()
    method.pool = method.mine(sentences(), "lsa")
    batch = method.views(rows(["1 2 3 4 5 99", sentences()[0]]), np.random.default_rng(0))
    assert batch.one("positive").data["input_ids"][0].tolist()[:6] == [1, 2, 3, 4, 5, 99]  # type: ignore[index]
    assert batch.labels["drawn"].tolist() == [[False], [True]]
    assert torch.isfinite(method.losses(batch)["contrast"])


def test_streams_and_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="--no-streaming"):
        made().sampler(Stream.__new__(Stream), TrainConfig())
    for bad in ({"weights": "both"}, {"neighbours": -1}, {"upper": 1.5}, {"clip": 0.0}, {"t_surface": 0.0}):
        with pytest.raises(ConfigError):
            made(**bad)


def part(batch: Batch, keep: torch.Tensor) -> Batch:
    """Some rows of a batch, with the negatives that they own."""
    place = torch.full((len(batch),), -1)
    place[keep] = torch.arange(len(keep))
    views = []
    for view in batch.views:
        if view.owner is None:
            views.append(view.take(keep))
        else:
            taken = view.take((place[view.owner] >= 0).nonzero()[:, 0])
            assert taken.owner is not None
            views.append(replace(taken, owner=place[taken.owner]))
    return Batch(tuple(views), batch.rows[keep], {k: v[keep] for k, v in batch.labels.items()})


def share(rank: int, world: int) -> None:
    texts = sentences(30)
    method = made(neighbours=4, lookalikes=5, strangers=5)
    method.pool = method.mine(texts, "lsa")
    batch = method.views(rows([*texts[:8], "1 2"]), np.random.default_rng(3))
    mine = method.losses(part(batch, torch.arange(9)[rank::world]))["contrast"]
    with alone():
        assert torch.allclose(mine, method.losses(batch)["contrast"], atol=1e-5)


@pytest.mark.slow
def test_the_loss_of_many_processes_is_that_of_the_whole_batch() -> None:
    spread(share, 2)


def mined(rank: int, world: int) -> None:
    """Together as alone, whatever the guide, and where there are fewer texts than processes; each its share."""
    from counterpoint.search import candidates

    asked: list[int] = []
    of = candidates.BM25.search
    candidates.BM25.search = lambda self, q, k: asked.append(len(q)) or of(self, q, k)  # type: ignore[method-assign]
    for texts in (sentences(61), sentences(1), []):
        for guide in ("lsa", "spelling", "start"):
            method = made(neighbours=5, lookalikes=4, strangers=3)
            asked.clear()
            chosen = guide_of(guide, method.encoder)
            ours = method.mine([*texts, *texts[:3]], chosen)
            if len(texts) > 1:
                assert asked == [30 + rank]
            with alone():
                same(ours, method.mine(texts, chosen))


def same(ours: Pool, theirs: Pool) -> None:
    assert ours.texts == theirs.texts
    assert (ours.upper, ours.lower) == pytest.approx((theirs.upper, theirs.lower), abs=1e-6)
    assert np.allclose(ours.guide, theirs.guide, atol=1e-6)
    for a, b in ((ours.near, theirs.near), (ours.far, theirs.far)):
        assert a.ids.shape == b.ids.shape
        assert np.allclose(a.a, b.a, atol=1e-6)
        at = a.ids == b.ids  # those that are as near come in any order: blocks of other sizes round otherwise
        assert (~at).sum() <= 0.1 * at.size
        assert np.array_equal(a.b[at], b.b[at])


def begun(rank: int, world: int) -> None:
    """`fit` plans one process after the other, so nobody may wait for another before the training begins."""
    schema = Schema(kind="texts", columns={"text": "text"}, modalities={"text": "text"})
    held = Rows(Dataset.from_dict({"text": sentences()}), schema)
    method = made()
    if rank == 0:
        with alone():
            sampler = method.sampler(held, TrainConfig(batch=10))
    else:
        sampler = method.sampler(held, TrainConfig(batch=10))
    assert method.pool is None
    Trainer(
        method,
        Loader(held, sampler, rank=rank, world=world),
        TrainConfig(batch=10, steps=2, device="cpu", progress=False, tensorboard=False),
    ).fit()
    assert method.pool is not None
    with alone():
        same(method.pool, method.mine(sentences(), "lsa"))
    assert sum("no positive but themselves" in line for line in held.log.lines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("function", [mined, begun])
def test_processes_mine_together_what_one_would_have(function: Callable[[int, int], None]) -> None:
    spread(function, 2)
