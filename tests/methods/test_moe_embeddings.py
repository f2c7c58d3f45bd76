"""Domain experts: which pairs are compared, which weights move, and what routers are taught."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.infer import infer
from counterpoint.data.rows import Rows
from counterpoint.encoders import folder
from counterpoint.encoders.residual import ResidualText, ResidualTextConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.text.moe_embeddings import Config, MoEEmbeddings
from counterpoint.train.config import TrainConfig
from tests.conformance.rows import rows, text, texts

NAMES = ("law", "news")


def learner(**settings: Any) -> MoEEmbeddings:
    torch.manual_seed(0)
    encoder = ResidualText.from_texts(texts(), ResidualTextConfig(dim=12))
    with torch.no_grad():  # perceptrons that begin at 0 would hide everything
        for p in encoder.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return MoEEmbeddings(encoder, Config(sources=NAMES, **settings)).train()


def batch(method: MoEEmbeddings, source: int | None = None, *, negatives: bool = True) -> Any:
    found = rows("pairs", 8)
    if source is not None:
        found = [{**r, "source": source} for r in found]
    if not negatives:
        found = [{**r, "negatives": []} for r in found]
    return method.views(found, np.random.default_rng(0))


def by_hand(method: MoEEmbeddings, seen: Any) -> torch.Tensor:
    """Symmetric cross-entropy over the rows of one domain, domain by domain."""
    with torch.no_grad():
        a, b = (F.normalize(method.encoder(seen.one(role).data), dim=-1) for role in ("anchor", "positive"))
        more = [F.normalize(method.encoder(v.data), dim=-1) for v in seen.all("negative")]
    scores = a @ b.T / 0.05
    source = seen.labels["source"]
    wide = torch.cat([scores, *(a @ z.T / 0.05 for z in more)], 1)
    whose = torch.cat([source, *(source[v.owner] for v in seen.all("negative"))])
    wide = wide.masked_fill(source[:, None] != whose, -torch.inf)
    tall = scores.masked_fill(source[:, None] != source, -torch.inf).T
    target = torch.arange(len(a))
    return (F.cross_entropy(wide, target) + F.cross_entropy(tall, target)) / 2


@pytest.mark.parametrize("negatives", [False, True])
def test_the_loss_is_that_of_each_domain_by_itself(negatives: bool) -> None:
    method = learner()
    mixed = batch(method, negatives=negatives)
    assert set(mixed.labels["source"].tolist()) == {0, 1}
    torch.testing.assert_close(method.losses(mixed)["rank"].detach(), by_hand(method, mixed), rtol=1e-4, atol=1e-5)


def test_one_expert_without_tokens_is_symmetric_in_batch_ranking_whatever_the_domain() -> None:
    method = learner(experts=1, token=False)
    found = [method.losses(batch(method, source))["rank"] for source in (0, 1)]
    assert torch.equal(found[0], found[1])
    assert set(method.losses(batch(method, 0))) == {"rank"}


def test_an_expert_without_texts_keeps_every_bit_through_momentum_and_weight_decay() -> None:
    method = learner()
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=0.01, weight_decay=0.3)

    def step(source: int) -> set[str]:
        before = copy.deepcopy(method.state_dict())
        optimizer.zero_grad()
        torch.stack(list(method.losses(batch(method, source)).values())).sum().backward()
        optimizer.step()
        return {k for k, x in method.state_dict().items() if not torch.equal(x, before[k])}

    step(1)
    moved = step(0)
    assert any(".experts.0." in key for key in moved)
    assert not any(".experts.1." in key for key in moved)
    assert "encoder.encoder.table" in moved


def test_rows_change_sides_at_random_and_keep_their_partner() -> None:
    method, found = learner(), rows("pairs", 8)
    seen = method.views(found, np.random.default_rng(0))
    sides = [method.encoder.collate([(r[k], r["source"]) for r in found])["input_ids"] for k in ("anchor", "positive")]
    swapped = []
    for i in range(8):
        a, b = (seen.one(role).data["input_ids"][i] for role in ("anchor", "positive"))
        first = torch.equal(a[a > 0], sides[0][i][sides[0][i] > 0])
        other = sides[1 if first else 0][i]
        assert torch.equal(b[b > 0], other[other > 0])
        swapped.append(not first)
    assert 0 < sum(swapped) < 8


@pytest.mark.parametrize("routing", ["text", "token"])
def test_every_loss_of_a_router_reaches_it_and_one_domain_needs_the_memory(routing: str) -> None:
    method = learner(routing=routing, experts=2, top=1, supervised=1.0, token=False, memory=0.5)
    method.joint.copy_(torch.tensor([[0.0, 0.0], [0.1, 0.9]]))  # the other domain was here before
    losses = method.losses(batch(method, 0))
    assert set(losses) == {"rank", "information", "balance", "supervised"}
    routers = [p for k, p in method.named_parameters() if "router" in k]
    assert len(routers) == 2
    for name in ("information", "balance", "supervised"):
        grads = torch.autograd.grad(losses[name], routers, retain_graph=True)
        assert all(g.abs().max() > 0 for g in grads), name
    method.after_step(1)
    assert float(method.joint.sum()) == pytest.approx(1)
    assert method.joint.sum(1).tolist() == pytest.approx([0.5, 0.5])


def test_what_guesses_the_domain_is_taught_beside_and_alone() -> None:
    method = learner()
    losses = method.losses(batch(method))
    losses["guess"].backward()
    moved = {k for k, p in method.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved - {"encoder.guess.bias"} == {"encoder.guess.weight"}


def test_batches_are_of_one_domain() -> None:
    rng = np.random.default_rng(0)
    columns = {k: [text(rng) for _ in range(40)] for k in ("anchor", "positive")}
    data = datasets.Dataset.from_dict({**columns, "field": ["law"] * 25 + ["news"] * 15})
    known = Rows(data, infer(data, columns={"anchor": "anchor", "positive": "positive", "source": "field"}))
    sampler = learner().sampler(known, TrainConfig(batch=5))
    assert sampler is not None
    found = [{row["source"] for row in known[b]} for b in sampler.batches(0)]
    assert len(found) == 8
    assert all(len(f) == 1 for f in found)


def test_the_trained_encoder_is_saved_with_its_experts(tmp_path: Path) -> None:
    method = learner()
    folder.save(method.towers()["text"], tmp_path / "m")
    again = folder.load(tmp_path / "m")
    for domain in NAMES:
        assert (
            np.abs(
                again.encode(["the old bridge"], role=domain) - method.encoder.encode([("the old bridge", domain)])
            ).max()
            < 1e-6
        )
    onwards = MoEEmbeddings(again, replace(method.config))
    assert onwards.encoder is again
    with pytest.raises(ConfigError, match="experts for law, news"):
        MoEEmbeddings(again, Config(sources=("law", "sport")))


def test_what_is_refused() -> None:
    encoder = ResidualText.from_texts(texts(), ResidualTextConfig(dim=8))
    with pytest.raises(DataError, match="--columns source=COLUMN"):
        MoEEmbeddings(encoder)
    with pytest.raises(DataError, match="Row 0 has no source"):
        learner().views([{"anchor": "a", "positive": "b", "row": 0}], np.random.default_rng(0))
    with pytest.raises(ConfigError, match="experts=2"):
        learner(routing="text", experts=4, supervised=1.0)
    with pytest.raises(ConfigError, match="memory=1"):
        Config(memory=1)
    with pytest.raises(ConfigError, match="weights of losses"):
        Config(balance=-1)
