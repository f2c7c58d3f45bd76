"""CoDiEmb: one encoder for retrieval and for graded similarity, each task with batches and losses of its own.

CoDiEmb 2025, "A Collaborative yet Distinct Framework for Unified Representation Learning in IR and STS", arXiv
2508.11442.

For whoever needs one embedding that ranks documents well (nDCG) and also orders pairs of sentences by how alike they
are (Spearman), where training on both with one loss hurts one of the two. A batch is of one source. Pairs, which may
have further positives and negatives, are ranked: each positive in its slot, against those of the other queries in the
same slot and all negatives. Scored pairs are ordered by three losses over the batch as one list, and contrasted at the
middle layer where an encoder has one.

    pairs:   L = mean_ij -log( exp(q_i·p_ij / T) / (Σ_k exp(q_i·p_kj / T) + Σ_m exp(q_i·n_m / T)) )
    scored:  L = mid · L_mid + pearson · (1 - corr(cos, y)) + pro · L_pro + rank_kl · KL(ranks || cos) / N

L_mid is in-batch ranking of the pairs with y >= `threshold` (of scores from 0 to 1), at the state after half the
layers. A query's other positives are never its negatives. Slots that a query lacks are left out (the released code
repeats positives instead); slots count by their rows. Pairs of equal scores hold nothing to learn: the losses of such a
batch are 0 with a gradient of 0, and the buffer `silent` counts them.

Published settings: BGE-large and mE5-large, 5e-5, 5 epochs, 64 pairs or 32 scored pairs per batch and device, 2
positives and 4 negatives, T = 0.02, other temperatures 0.05, 512 tokens, linear schedule with 3 % warm-up; a source has
a batch for each B of its rows. `counterpoint merge` makes one model of several runs, by how far each weight went.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View, one_after_another
from counterpoint.data.mixed import Mixed
from counterpoint.data.rows import Rows
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.states import LayerStates
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods import batches
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import places
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, Labels, OnlySame
from counterpoint.objectives.rank import cosent, pearson, pro, rank_kl
from counterpoint.processes import fetched, gathered, rank, sizes, starts, total, world
from counterpoint.train.config import TrainConfig

KINDS = ("pairs", "scored")
TASKS = (("anchor", "positive", "negative"), ("a", "b"))
"""Roles of the views of each."""
SOURCES_OF = (
    "The method codiemb learns from pairs and scored pairs (for other sources beside them name the method multitask)"
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """temperature: of the rankings. positives, negatives: of a query, drawn where it has more. scores: the lowest and
    the highest that a pair can have, which become 0 and 1 (None: what `fit --columns range=0..5` says, else those that
    a source's rows have, else 0, 1).

    mid, pearson, pro, rank_kl: weights of the losses of scored pairs. threshold: of scores from 0 to 1, above which the
    middle layer takes a pair for one that belongs together. list_temperature: of pro and rank_kl.

    ranked_by, scored_by: the losses of pairs and of scored pairs, for comparison: ``contrast`` or ``order`` (CoSENT)
    for both, ``lists`` (the method's) for scored ones. apart: refuse batches of both."""

    temperature: float = 0.02
    positives: int = 2
    negatives: int = 4
    scores: tuple[float, float] | None = None
    mid: float = 1.0
    pearson: float = 2.0
    pro: float = 0.5
    rank_kl: float = 5.0
    threshold: float = 1.0
    list_temperature: float = 0.05
    ranked_by: Literal["contrast", "order"] = "contrast"
    scored_by: Literal["lists", "contrast", "order"] = "lists"
    apart: bool = True

    def __post_init__(self) -> None:
        if self.scores is not None and not self.scores[0] < self.scores[1]:
            raise ConfigError(
                f"scores={self.scores}: give the lowest score and the highest, for example scores='[0, 5]'."
            )
        if self.positives < 1 or self.negatives < 0:
            raise ConfigError(f"positives={self.positives}, negatives={self.negatives}: expected at least 1 and 0.")


@method(
    "codiemb",
    title="CoDiEmb: retrieval and graded similarity in one encoder, each by its own losses",
    paper="arXiv 2508.11442",
    year=2025,
    modalities=("text",),
    needs=("mixed", "pairs", "scored"),
)
class CoDiEmb(Method):
    """Batches of pairs are ranked, batches of scored pairs are ordered."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        deep = isinstance(encoder, TextTransformer) and encoder.depth > 1
        self.middle = (encoder.depth + 1) // 2 if deep and self.config.mid else None  # type: ignore[operator]
        self.ranges: dict[int | None, tuple[float, float]] = {}  # of the scores, by source
        self.silent: Tensor
        self.register_buffer("silent", torch.zeros((), dtype=torch.long))

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> None:
        """The usual batches; the rows show which scores there are."""
        parts: dict[int | None, RowSet | Stream] = {None: rows}
        if isinstance(rows, Mixed):
            parts = dict(enumerate(rows.parts))
        for source, part in parts.items():
            if part.schema.kind not in KINDS:
                raise DataError(f"{SOURCES_OF}, and not from this one: {part.schema.why}")
            if isinstance(part, Rows) and part.schema.kind == "scored":
                if self.config.scores is not None:
                    part.within(*self.config.scores)
                found = part.scores()
                self.ranges[source] = part.schema.range or (float(found.min()), float(found.max()))

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        scored = [r for r in rows if "score" in r]
        pairs = [r for r in rows if "anchor" in r]
        if len(scored) + len(pairs) < len(rows):
            held = next(r for r in rows if "score" not in r and "anchor" not in r)
            raise DataError(
                f"{SOURCES_OF}, and not from rows of {', '.join(k for k in held if k not in ('row', 'source'))}."
            )
        if scored and pairs and self.config.apart:
            raise DataError(
                f"A batch is of one task; this one has {len(pairs)} pairs and {len(scored)} scored pairs. Make batches "
                "with `counterpoint.data.mixture.Mixture`, or set apart=False."
            )
        if scored and pairs:
            return one_after_another(self._ranked(pairs, rng), self._scored(scored))
        return self._scored(scored) if scored else self._ranked(pairs, rng)

    def _ranked(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        c, collate, stream = self.config, self.encoder.collate, self.encoder.modality
        views = [View(collate([r["anchor"] for r in rows], role="query"), stream, "anchor")]
        found: dict[str, list[tuple[int, int, str]]] = {"positive": [], "negative": []}
        for i, r in enumerate(rows):
            others = [p for p in r.get("positives") or () if p not in (r["anchor"], r["positive"])]
            for role, texts, most in (
                ("positive", [r["positive"], *others], c.positives),
                ("negative", list(r.get("negatives") or ()), c.negatives),
            ):
                if len(texts) > most:
                    texts = [texts[j] for j in rng.choice(len(texts), most, replace=False)]
                found[role] += [(i, slot, text) for slot, text in enumerate(texts)]
        # Slot by slot, so that the first n positives are one of each row.
        found["positive"].sort(key=lambda one: one[1])
        for role, items in found.items():
            if items or role == "positive":
                data = collate([text for _, _, text in items], role="document")
                views.append(View(data, stream, role, owner=torch.tensor([i for i, _, _ in items], dtype=torch.long)))
        return Batch(tuple(views), torch.tensor([r["row"] for r in rows]))

    def _scored(self, rows: Sequence[Row]) -> Batch:
        batch, scores = batches.scored(self.encoder, rows), []
        for r in rows:
            low, high = self.config.scores or self.ranges.get(r.get("source"), self.ranges.get(None, (0.0, 1.0)))
            if not low <= r["score"] <= high:
                raise DataError(
                    f"A pair has the score {r['score']:g}, outside {low:g} to {high:g}; the losses weigh by scores "
                    "from 0 to 1. Give the lowest and the highest that there can be, for example: --set scores='[0, 5]'"
                )
            scores.append((r["score"] - low) / (high - low))
        views = tuple(replace(v, role=role) for v, role in zip(batch.views, ("a", "b"), strict=True))
        return Batch(views, batch.rows, {**batch.labels, "score": torch.tensor(scores)})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        found, batch = dict[str, Tensor](), self._of_all_tasks(batch)
        if batch.all("anchor"):
            found["rank"] = self.ranked(batch)
        if batch.all("a"):
            found |= self.ordered(batch)
        return found

    def _of_all_tasks(self, batch: Batch) -> Batch:
        """The batch with the views of every task that some process has rows of: here there may be none of them."""
        if world() == 1:
            return batch
        rows = [sum(map(len, batch.all(first))) for first, *_ in TASKS]
        held = total(torch.tensor(rows, device=batch.rows.device), "max").tolist()
        nothing = replace(batch.views[0].take(slice(0, 0)), owner=batch.rows[:0])
        views: list[View] = []
        for count, roles in zip(held, TASKS):
            own = [v for v in batch.views if v.role in roles] or [replace(nothing, role=role) for role in roles[:2]]
            views += own if count else []
        score = batch.labels.get("score", torch.zeros(len(batch), device=batch.rows.device))
        return Batch(tuple(views), batch.rows, {**batch.labels, "score": score})

    def ranked(self, batch: Batch) -> Tensor:
        """The loss of pairs.

        batch: of pairs."""
        positives, negatives = batch.one("positive"), batch.all("negative")
        # Pairs are the first rows of a batch, so that the row of an item is also the place of its query.
        owner, *owners = (v.owner for v in (positives, *negatives) if v.owner is not None)
        views = (batch.one("anchor"), positives, *negatives)
        queries, p, *n = (F.normalize(z, dim=-1) for z in self.embed_each(self.encoder, views))
        q = queries[owner]
        self.observe(anchor=q, positive=p)
        if self.config.ranked_by == "order":
            a = torch.cat([q, q, *(queries[o] for o in owners)])
            b = torch.cat([p, fetched(p, predecessors(owner)), *n])
            return cosent(a, b, torch.cat([p.new_ones(len(p)), p.new_zeros(len(a) - len(p))]))
        pairing = Diagonal() & OnlySame(places(owner))
        return contrast(q, p, pairing, scale=1 / self.config.temperature, extra=torch.cat(n) if n else None)

    def ordered(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of scored pairs.

        batch: of scored pairs."""
        c, score = self.config, batch.labels["score"]
        exits = LayerStates(self.encoder, None if self.middle is None else (self.middle, self.encoder.depth))  # type: ignore[arg-type]
        a, b = (F.normalize(self.embed(exits, batch.one(role)), dim=-1) for role in ("a", "b"))
        if (owner := batch.one("a").owner) is not None:  # the rows before are pairs
            score = score[owner]
        last = a[:, -1], b[:, -1]
        self.observe(anchor=last[0], positive=last[1])
        if c.scored_by == "contrast":
            return {"contrast": self._together(*last, score)}
        if c.scored_by == "order":
            return {"order": cosent(*last, score)}
        cosine = (last[0] * last[1]).sum(-1)
        self._count(gathered(score))
        found = {
            "pearson": c.pearson * pearson(cosine, score),
            "pro": c.pro * pro(cosine, score, temperature=c.list_temperature),
            "rank_kl": c.rank_kl * rank_kl(cosine, score, temperature=c.list_temperature),
        }
        if self.middle is not None:
            found["mid"] = c.mid * self._together(a[:, 0], b[:, 0], score)
        return found

    def _together(self, a: Tensor, b: Tensor, score: Tensor) -> Tensor:
        """In-batch ranking of the pairs that belong together, among the second sides of all."""
        number = torch.arange(len(a), device=a.device)
        own = Labels(torch.where(score >= self.config.threshold, number, -1), candidates=number, local=True)
        return contrast(a, b, own, scale=1 / self.config.temperature)

    def _count(self, score: Tensor) -> None:
        if len(score) > 1 and bool((score != score[0]).any()):
            return
        if self.training:
            self.silent += 1
        if int(self.silent) == 1:
            warnings.warn(
                "A batch of scored pairs has one score only, from which no order can be learned: such batches count "
                "nothing. Use larger batches, or leave out sources whose scores are all the same.",
                stacklevel=2,
            )

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(layers=24, width=1024, heads=16, max_length=512),
                train=TrainConfig(
                    batch=64,
                    epochs=5,
                    lr=5e-5,
                    warmup=0.03,
                    schedule="linear",
                    mix=1.0,
                    batch_of={"scored": 32},
                    seed=49,
                ),
            )
        small = size == "small"
        return Recipe(
            config=Config(temperature=0.05),
            encoder=StaticTextConfig(dim=256 if small else 64),
            train=TrainConfig(
                batch=64, epochs=5 if small else 1, lr=3e-3, weight_decay=0.0, mix=1.0, batch_of={"scored": 32}
            ),
        )


def predecessors(owner: Tensor) -> Tensor:
    """The positive before each one, ``(P,)``, before the first the last, as numbers among those of all processes; all
    of them stand slot by slot, and in a slot by their rows.

    owner: ``(P,)``, the row of each positive here."""
    counts = sizes(len(owner), owner.device)
    order = gathered(places(owner), counts).argsort(stable=True)
    first = starts(counts)[rank()]
    before = torch.empty_like(order).scatter_(0, order, order.roll(1))
    return before[first : first + len(owner)]
