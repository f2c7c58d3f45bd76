"""Upcycled encoders: copies that begin alike, routing by domain, token and text, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.encoders import folder
from counterpoint.encoders.experts import Experts, perceptrons
from counterpoint.encoders.moe import Judged, Upcycled, UpcycledConfig
from counterpoint.encoders.residual import ResidualText, ResidualTextConfig
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.train.gradcache import embed
from tests.conformance.rows import texts

TEXTS = list(texts())
BATCH = [text[:cut] for text, cut in zip(TEXTS, (8, 30, 60, 90, 90, 100))]
TINY = TextTransformerConfig(layers=3, width=16, heads=2, vocabulary=100, max_length=40, dropout=0.0)
OTHER = {"model_type": "distilbert", "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "dropout": 0.0}
BASES = {
    "bert": lambda: TextTransformer.from_texts(TEXTS, TINY),
    "distilbert": lambda: TextTransformer.from_texts(
        TEXTS, TextTransformerConfig(width=16, heads=2, vocabulary=100, max_length=40, architecture=OTHER)
    ),
    "residual": lambda: ResidualText.from_texts(TEXTS, ResidualTextConfig(dim=16)),
}


def base(name: str) -> TextTransformer | ResidualText:
    torch.manual_seed(0)
    encoder = BASES[name]()
    with torch.no_grad():  # perceptrons that begin at 0 would hide everything
        for p in encoder.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return encoder  # type: ignore[return-value]


def upcycled(name: str, **settings: object) -> Upcycled:
    return Upcycled(base(name), UpcycledConfig(domains=("law", "news"), **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layers": "middle"},
        {"token": False, "unknown": "average"},
        {"routing": "token", "experts": 4},
        {"routing": "text", "experts": 3, "top": 1},
        {"experts": 1},
    ],
    ids=str,
)
def test_at_first_every_routing_gives_what_the_encoder_gave(name: str, settings: dict[str, object]) -> None:
    before = base(name).encode(BATCH)
    encoder = upcycled(name, **settings)
    for domain in ("law", "news", None):
        assert np.abs(encoder.encode([(text, domain) for text in BATCH]) - before).max() < 1e-6
    assert np.abs(encoder.encode(BATCH, role="news") - before).max() < 1e-6


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("token", [True, False])
def test_after_a_step_only_the_expert_that_was_used_has_changed(name: str, token: bool) -> None:
    encoder = upcycled(name, token=token).eval()
    before = copy.deepcopy(encoder.state_dict())
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.01, weight_decay=0.5)
    for _ in range(2):  # momentum neither
        optimizer.zero_grad()
        z = encoder(encoder.collate([(text, "news") for text in BATCH]))
        (z * torch.linspace(-1, 1, z.shape[1])).sum().backward()
        optimizer.step()
    after = encoder.state_dict()
    changed = {key for key, x in before.items() if not torch.equal(x, after[key])}
    assert not [key for key in changed if ".experts.0." in key]
    assert [key for key in changed if ".experts.1." in key]
    right, wrong = (encoder.encode(BATCH, role=domain) for domain in ("news", "law"))
    assert np.abs(right - wrong).max() > 1e-3


def test_sites_are_all_perceptrons_or_the_middle_one() -> None:
    assert [len(perceptrons(base(name))) for name in BASES] == [3, 2, 2]
    found = [sum(isinstance(m, Experts) for m in upcycled("bert", layers=kind).modules()) for kind in ("all", "middle")]
    assert found == [3, 1]
    encoder = upcycled("bert")
    assert len(encoder.encoder.transformer.encoder.layer[0].output.dense.experts) == 2  # type: ignore[union-attr]


def test_tokens_go_to_their_best_experts_with_weights_that_sum_to_one() -> None:
    encoder = upcycled("residual", routing="token", experts=4, token=False, layers="middle").eval()
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(torch.randn_like(p))
    data = encoder.collate(BATCH)
    blocks = encoder.encoder.blocks
    experts = blocks[1].mlp
    x = blocks[0](encoder.encoder.pooled(data))
    y = blocks[1].norm(x)
    expected = []
    for row in y:
        p = (row @ experts.router.weight.T).softmax(-1)
        best = p.argsort(descending=True)[:2]
        expected.append(sum(p[e] / p[best].sum() * experts.experts[str(int(e))](row) for e in best))
    z, (logits, probability, chosen) = encoder.judged(data)
    torch.testing.assert_close(z, x + torch.stack(expected), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, y @ experts.router.weight.T)
    torch.testing.assert_close(probability.sum(1), torch.ones(6))
    assert chosen.sum(1).tolist() == pytest.approx([1.0] * 6)
    assert set(chosen.flatten().tolist()) == {0.0, 0.5}


def test_a_text_is_routed_by_the_mean_of_its_tokens() -> None:
    encoder = upcycled("bert", routing="text", experts=3, top=1).eval()
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(0.3 * torch.randn_like(p))
    chosen = encoder.judged(encoder.collate(BATCH))[1][-1]
    assert torch.isin(chosen * 3, torch.tensor([0.0, 1.0, 2.0, 3.0])).all()  # one expert per layer, whole texts
    alone = torch.cat([encoder.judged(encoder.collate([text]))[1][-1] for text in BATCH])
    torch.testing.assert_close(alone, chosen)


def test_unknown_domains_get_the_average_or_the_mixture_that_is_guessed() -> None:
    encoder = upcycled("residual", layers="middle", token=False, unknown="average").eval()
    with torch.no_grad():
        encoder.encoder.blocks[1].mlp.experts["1"][0].weight.add_(1.0)
    law, news, unknown = (
        torch.from_numpy(encoder.encode([(t, domain) for t in BATCH], normalize=False))
        for domain in ("law", "news", None)
    )
    assert (law - news).abs().max() > 1e-3
    torch.testing.assert_close(unknown, (law + news) / 2)
    encoder = upcycled("residual").eval()
    with torch.no_grad():
        encoder.encoder.blocks[1].mlp.experts["1"][0].weight.add_(1.0)
        assert encoder.guess is not None
        encoder.guess.bias.copy_(torch.tensor([-200.0, 200.0]))  # it is sure
    assert np.abs(encoder.encode(BATCH) - encoder.encode(BATCH, role="news")).max() < 1e-6


def test_what_guesses_learns_nothing_about_words() -> None:
    for name in BASES:
        encoder = upcycled(name)
        _, (guessed,) = encoder.judged(encoder.collate([(text, "law") for text in BATCH]))
        F.cross_entropy(guessed, torch.zeros(6, dtype=torch.long)).backward()
        moved = {key for key, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        assert moved == {"guess.weight", "guess.bias"}


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_the_domains_token_stands_in_the_first_place_and_nowhere_else(name: str) -> None:
    encoder = upcycled(name).eval()
    words, _ = encoder.hidden_states(encoder.collate([(t, "law") for t in BATCH]))[:2]
    with torch.no_grad():
        assert encoder.tokens_of is not None
        encoder.tokens_of[1].add_(torch.randn(16))  # a constant would be normalised away
    other, _ = encoder.hidden_states(encoder.collate([(t, "news") for t in BATCH]))[:2]
    moved = (other - words).abs().amax(-1) > 1e-6
    assert moved[:, 0].all()
    assert not moved[:, 1:].any()


@pytest.mark.parametrize(
    "settings", [{}, {"routing": "text", "experts": 3}, {"routing": "token", "experts": 3}], ids=str
)
def test_cut_into_passes_it_has_the_same_gradient(settings: dict[str, object]) -> None:
    found = []
    for micro_batch in (None, 2):
        judged = Judged(upcycled("bert", **settings).eval())
        data = judged.encoder.collate([(t, i % 2) for i, t in enumerate(BATCH)])
        out = embed(judged, data, micro_batch)
        assert [part.shape[1] for part in out.split(judged.widths, 1)] == judged.widths
        (out * torch.linspace(-1, 1, out.shape[1])).square().sum().backward()
        found.append({k: p.grad for k, p in judged.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for key, grad in found[0].items():
        torch.testing.assert_close(found[1][key], grad, rtol=1e-4, atol=1e-6)


def test_a_saved_encoder_keeps_its_experts_and_routes(tmp_path: Path) -> None:
    for name in BASES:
        encoder = upcycled(name)
        with torch.no_grad():
            for p in encoder.parameters():
                p.add_(0.1 * torch.randn_like(p))
        folder.save(encoder, tmp_path / name)
        again = folder.load(tmp_path / name)
        for role in ("law", "news", "query", None):
            assert np.abs(again.encode(BATCH, role=role) - encoder.encode(BATCH, role=role)).max() < 1e-6


def test_what_is_refused() -> None:
    encoder = upcycled("residual")
    with pytest.raises(DataError, match="no domain 'lax'; there are law, news"):
        encoder.encode([("a", "lax")])
    with pytest.raises(DataError, match="no domain 2"):
        encoder.encode([("a", 2)])
    with pytest.raises(DataError, match="no domain or prompt 'lax'"):
        encoder.encode(["a"], role="lax")
    data = encoder.collate(BATCH)
    with pytest.raises(DataError, match="numbered 0 to 1"):
        encoder({**data, "domain": torch.full((6, 1), 2)})
    with pytest.raises(ModelError, match="outside their encoder"):
        encoder.encoder(data)
    with pytest.raises(ConfigError, match="StaticText has none"):
        Upcycled(StaticText.from_texts(TEXTS, StaticTextConfig(dim=8)), UpcycledConfig(domains=("a",)))
    with pytest.raises(ConfigError, match="experts=3"):
        UpcycledConfig(domains=("a", "b"), experts=3)
    with pytest.raises(ConfigError, match="each once"):
        UpcycledConfig(domains=("a", "a"))
    with pytest.raises(ConfigError, match="top=3"):
        UpcycledConfig(domains=("a", "b"), routing="text", top=3)
    with pytest.raises(ConfigError, match="type routing=domain or"):
        UpcycledConfig(domains=("a", "b"), routing="sentence")  # type: ignore[arg-type]
    albert = {"model_type": "albert", "embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 1}
    albert |= {"num_attention_heads": 2, "intermediate_size": 16}
    other = TextTransformerConfig(width=16, heads=2, vocabulary=100, max_length=40, architecture=albert)
    with pytest.raises(ConfigError, match="No perceptron"):  # its layers are one
        perceptrons(TextTransformer.from_texts(TEXTS, other))
