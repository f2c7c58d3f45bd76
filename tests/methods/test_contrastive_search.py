"""SimCTG: the loss by hand, its limits, and what a batch computed in parts gives."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.encoders.causal import CausalLM
from counterpoint.errors import ConfigError
from counterpoint.methods.base import find
from counterpoint.methods.language.contrastive_search import Config, ContrastiveSearch
from tests.conformance.rows import build, rows, texts

TEXTS = ["the quick brown fox jumps", "birds", "seven bright birds sing near an old stone bridge at dawn"]


def made(**settings: object) -> ContrastiveSearch:
    torch.manual_seed(0)
    recipe = ContrastiveSearch.recipe("smoke")
    encoder = CausalLM.from_texts(texts(), replace(recipe.encoder, width=16)).double()
    return ContrastiveSearch(encoder, Config(**settings))  # type: ignore[arg-type]


def batch(method: ContrastiveSearch) -> Batch:
    return method.views([{"text": t, "row": i} for i, t in enumerate(TEXTS)], np.random.default_rng(0))


@pytest.mark.parametrize("weight", ["sequences", "pairs"])
def test_the_loss_by_hand(weight: str) -> None:
    """Text by text, token by token, without padding."""
    method = made(margin=0.7, weight=weight)
    nll, apart, counts = [], [], []
    for text in TEXTS:
        ids = torch.tensor([[2, *method.encoder.ids([text])[0], 3]])
        out = method.encoder.transformer(input_ids=ids, output_hidden_states=True)
        p = out.logits[0].log_softmax(-1)
        nll += [-p[i, v] for i, v in enumerate(ids[0, 1:])]
        h = out.hidden_states[-1][0]
        hinges = [
            torch.clamp(0.7 - 1 + F.cosine_similarity(a, b, dim=0), min=0) for a, b in itertools.permutations(h, 2)
        ]
        apart.append(torch.stack(hinges).sum())
        counts.append(len(hinges))
    found = method.losses(batch(method))
    assert torch.allclose(found["next token"], torch.stack(nll).mean())
    each = torch.stack([a / n for a, n in zip(apart, counts)]).mean()
    all_ = torch.stack(apart).sum() / sum(counts)
    assert torch.allclose(found["margin"], each if weight == "sequences" else all_)
    assert found["margin"] > 0
    assert not torch.allclose(each, all_)


def test_without_a_margin_it_is_ordinary_training() -> None:
    assert set(made(margin=0.0).losses(batch(made()))) == {"next token"}
    assert torch.equal(
        made(margin=0.0).losses(batch(made()))["next token"], made(margin=0.5).losses(batch(made()))["next token"]
    )


def test_in_parts_the_gradient_is_the_same() -> None:
    grads = []
    for parts in (None, 1, 2):
        method = made(margin=0.9, weight="pairs")
        method.micro_batch = parts
        torch.stack(list(method.losses(batch(method)).values())).sum().backward()
        grads.append({n: p.grad for n, p in method.named_parameters()})
    for other in grads[1:]:
        for name, grad in grads[0].items():
            assert grad is not None
            assert torch.allclose(grad, other[name], atol=1e-12), name


def test_the_margin_pushes_states_apart() -> None:
    """A few steps of each: one model's states become less alike than the other's, which learns to predict as well."""
    from counterpoint.evaluate.language import isotropy

    found = {}
    for margin in (0.0, 1.0):
        method = made(margin=margin).float().train()
        optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
        for step in range(30):
            data = method.views(rows("texts", 8, seed=step), np.random.default_rng(step))
            optimizer.zero_grad()
            torch.stack(list(method.losses(data).values())).sum().backward()
            optimizer.step()
        found[margin] = isotropy(method.encoder, TEXTS)
    assert found[1.0] > found[0.0] + 0.1


def test_long_texts_are_seen_whole_over_time() -> None:
    method = made()
    long = {"text": " ".join(["fox", "birds", "dawn"] * 60), "row": 0}
    seen = set()
    for seed in range(9):
        data = method.views([long], np.random.default_rng(seed)).one("anchor").data
        assert not isinstance(data, torch.Tensor)
        seen.add(tuple(data["input_ids"][0].tolist()))
    assert len(seen) > 1
    assert {len(s) for s in seen} == {64}


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="margin=3"):
        Config(margin=3)
    with pytest.raises(ConfigError, match="weight="):
        Config(weight="tokens")  # type: ignore[arg-type]
    other = build(find("simcse"), "text").encoder
    with pytest.raises(ConfigError, match="causal language model"):
        ContrastiveSearch(other)
