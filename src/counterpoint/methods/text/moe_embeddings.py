"""Domain experts: one encoder for several notions of similarity, each domain through its own experts.

Hallee et al. 2024, "Contrastive Learning and Mixture of Experts Enables Precise Vector Embeddings", arXiv 2401.15713.

For whoever serves embeddings for several special fields, or for several things that "alike" can mean: a model for each
is accurate and costly to run, and one for all blurs them. The perceptrons of a trained encoder are copied, one copy per
domain; attention, embeddings and norms stay shared; every text goes through the copies of its domain, after a token of
it. The domain is the column `source` of the pairs; batches are of one domain, whose rows are each other's negatives.

    L = ½ (CE_rows(scale A Bᵀ, i) + CE_columns(scale A Bᵀ, i)),   a and b swapped at random; a_i·b_j counts only where
        domain_i = domain_j
    routing = "domain":         f(x) = f_g(x), g the text's domain;  + guess · CE(guess(words of the text), g)
    routing = "token", "text":  f(x) = Σ_{e in top k} p_e / Σ p · f_e(x),  p = softmax(W x), W (mean of x over the text)
        + information · -I(domain; expert)  + balance · E Σ_e p_e f_e  + supervised · CE(mean logits, g)

After training a text's domain is named (`encode(texts, role="physics")`) or guessed from its words by the classifier
that `guess` trains (its gradient reaches nothing else). `experts=1` is the dense model, with domain tokens or without.

Published: SciBERT, then ModernBERT-base; batch 16 (at first 2), AdamW 1e-4, 1 epoch, length 512; products of raw
vectors, cosine in use; 0.01 for information, 0.05 for balance, 8 experts and top 2 where routers choose. The released
information loss detaches the router and so teaches nothing; its target, the largest entry of a softmax of similarities
within both sides, is the diagonal wherever embeddings are healthy, and so the diagonal here. The released head
(perceptron after pooling) is left out. Mutual information needs several domains: as batches hold one, it is taken over
a running mean of what routers did (`memory`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import Homogeneous, Sampler
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.moe import Judged, Upcycled, UpcycledConfig
from counterpoint.encoders.residual import ResidualTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import sourced
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, OnlySame
from counterpoint.objectives.route import expert_balance, expert_information, expert_known, joint_use
from counterpoint.objectives.scale import LogitScale
from counterpoint.processes import total, world
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """sources: names of the domains (from the rows). experts, layers, routing, top, token, unknown: see
    `UpcycledConfig`. temperature: of the softmax. normalize: compare unit vectors. guess, information, balance,
    supervised: weights of the routers' losses (those that apply). memory: weight of the *old* use of experts."""

    sources: tuple[str, ...] = ()
    experts: int = 0
    layers: str = "all"
    routing: str = "domain"
    top: int = 2
    token: bool = True
    unknown: str = "guess"
    temperature: float = 0.05
    normalize: bool = True
    guess: float = 1.0
    information: float = 0.01
    balance: float = 0.05
    supervised: float = 0.0
    memory: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.memory < 1:
            raise ConfigError(f"memory={self.memory}: give the weight of what was before, at least 0 and below 1.")
        if min(self.guess, self.information, self.balance, self.supervised) < 0:
            raise ConfigError("guess, information, balance and supervised are weights of losses: give 0 or more.")


@method(
    "moe-embeddings",
    title="Domain experts: contrast with an enforced mixture of experts",
    paper="arXiv 2401.15713",
    year=2024,
    modalities=("text",),
    needs=("pairs",),
)
class MoEEmbeddings(Method):
    """Pairs of several domains, each through its own copies of the encoder's perceptrons."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        if not c.sources:
            raise DataError(
                "Domain experts need to know each pair's domain: name the column that says it, --columns source=COLUMN "
                "(Config(sources=...))."
            )
        self.encoder = (
            encoder
            if isinstance(encoder, Upcycled)
            else Upcycled(
                encoder,
                UpcycledConfig(
                    domains=c.sources,
                    experts=c.experts or (0 if c.routing == "domain" else max(8, c.top)),
                    layers=c.layers,
                    routing=c.routing,
                    top=c.top,
                    token=c.token,
                    unknown=c.unknown,
                ),
            )
        )
        settings = self.encoder.settings
        if settings.domains != c.sources:
            raise ConfigError(
                f"This encoder has experts for {', '.join(settings.domains)}; the rows are from {', '.join(c.sources)}."
            )
        if c.supervised and settings.routing != "domain" and settings.count != len(c.sources):
            raise ConfigError(
                f"supervised={c.supervised}: a domain is taught its own expert, and there are {settings.count} experts "
                f"for {len(c.sources)} domains: experts={len(c.sources)}."
            )
        self.scale = LogitScale(c.temperature)
        self._judged = [Judged(self.encoder)]  # in a list: its weights are the encoder's
        if settings.routing != "domain":
            self.register_buffer(
                "joint", torch.full((len(c.sources), settings.count), 1 / len(c.sources) / settings.count)
            )
        self._used: Tensor | None = None

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> Sampler | None:
        """Batches of one domain: others would give themselves away as negatives by their token."""
        return Homogeneous(rows.sources(), config.batch, seed=config.seed) if isinstance(rows, Rows) else None

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        sources = torch.tensor(sourced(rows, "domains"), dtype=torch.long)
        collate, stream = self.encoder.collate, self.encoder.modality
        swap = rng.random(len(rows)) < 0.5
        sides = [
            [(r["positive" if (s != late) else "anchor"], r["source"]) for r, s in zip(rows, swap)]
            for late in (False, True)
        ]
        views = [View(collate(side), stream, role) for side, role in zip(sides, ("anchor", "positive"))]
        owned = [(i, (n, r["source"])) for i, r in enumerate(rows) for n in r.get("negatives") or ()]
        if owned:
            owner = torch.tensor([i for i, _ in owned])
            views.append(View(collate([n for _, n in owned]), stream, "negative", owner=owner))
        return Batch(tuple(views), torch.tensor([r["row"] for r in rows]), {"source": sources})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        c, judged = self.config, self._judged[0]
        views = [batch.one("anchor"), batch.one("positive"), *batch.all("negative")]
        source = batch.labels["source"]
        self.encoder.also = self._everywhere(source)
        found = [z.split(judged.widths, 1) for z in self.embed_each(judged, views)]
        self.encoder.also = None
        a, b, *more = (F.normalize(z, dim=-1) if c.normalize else z for z, *_ in found)
        candidates = [source, *(source[v.owner] for v in views[2:] if v.owner is not None)]
        self.observe(anchor=F.normalize(a, dim=-1), positive=F.normalize(b, dim=-1), scale=self.scale())
        losses = {
            "rank": contrast(
                a,
                b,
                Diagonal() & OnlySame(source, torch.cat(candidates)),
                scale=self.scale(),
                both=True,
                extra=torch.cat(more) if more else None,
            )
        }
        said = [torch.cat(parts) for parts in zip(*(parts for _, *parts in found[:2]))]
        return losses | self._routing(said, source.repeat(2))

    def _everywhere(self, source: Tensor) -> Tensor | None:
        """``(E,)`` the experts that texts of any process may use: in shards, each has to be computed by all of them."""
        if world() == 1:
            return None
        settings = self.encoder.settings
        if settings.routing != "domain" or settings.count == 1:
            return torch.ones(settings.count, dtype=torch.bool)
        return total(F.one_hot(source, settings.count).sum(0)) > 0

    def _routing(self, said: list[Tensor], source: Tensor) -> dict[str, Tensor]:
        """Losses of what guesses domains and of what chooses experts, from what they said of both sides."""
        c, out = self.config, {}
        if self.encoder.guess is not None:
            guessed, *said = said
            out["guess"] = c.guess * expert_known(guessed, source)
        if said:
            logits, probability, chosen = said
            self._used = joint_use(probability.detach(), source, len(c.sources))
            out["information"] = c.information * expert_information(
                probability, source, len(c.sources), before=self.joint.clone(), share=1 - c.memory
            )
            out["balance"] = c.balance * expert_balance(probability, chosen)
            if c.supervised:
                out["supervised"] = c.supervised * expert_known(logits, source)
        return out

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        if self._used is not None:
            self.joint.lerp_(self._used, 1 - self.config.memory)
            self._used = None

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(temperature=1.0, normalize=False),
                encoder=TextTransformerConfig(layers=22, width=768, heads=12, max_length=512),
                train=TrainConfig(batch=16, epochs=1, lr=1e-4, schedule="cosine", warmup=100),
            )
        small = size == "small"
        return Recipe(
            config=Config(),
            encoder=ResidualTextConfig(dim=256 if small else 32),
            train=TrainConfig(batch=128 if small else 8, epochs=10 if small else 1, lr=2e-3, weight_decay=0.01),
        )
