"""DebCSE: pairs drawn by inverse propensity, so that surface form stops deciding.

Miao et al. 2023, "DebCSE: Rethinking Unsupervised Contrastive Sentence Embedding Learning in the Debiasing
Perspective", CIKM 2023, arXiv 2309.07396.

For whoever has single sentences and no labels. Rules such as "a sentence is its own positive, all others are negatives"
teach shortcuts: same length, same words. Here a positive is a sentence that means the same as far as a frozen guide can
tell, and is drawn the likelier the *less* it looks alike; a negative means something else, and is drawn the likelier
the *more* it looks alike.

    a(x,y) = cos of the guide, in [0, 1];   b(x,y) = mean of token Jaccard and 1 - edit distance / length, in [0, 1]
    C+ = nearest by the guide, edited copies;   C- = most words in common, strangers
    relevance  r+ = 1[a >= d+] softmax(a / t_semantic) over C+,   r- = 1[a <= d-] softmax(-a / t_semantic) over C-
    propensity e+ = softmax(b / t_surface) over C+,               e- = softmax(-b / t_surface) over C-
    weights    w ∝ r / max(e, clip);   y+ ~ w+,   y- ~ w-, drawn anew each time;   C+ empty: y+ = x, another dropout
    L_i = -log( exp(scale x_i·y_i+) / (Σ_j exp(scale x_i·y_j+) + Σ_jh exp(scale x_i·y_jh-)) ),   candidates of other
          rows left out where a(x_i, .) > d-

Published is that pairs are drawn by inverse propensity, by surface and semantic similarity, and the outcome: BERT-base,
80.3 on seven STS sets (SimCSE 76.3); of the settings lr 3e-5, batch 64, length 32 are SimCSE's. No code was released:
all functions above, the candidates and their settings are our reading. d+ is a quantile of a over C+, d- over C-, since
guides differ in what they call similar. ``weights="uniform"``, ``"semantic"`` (r alone) and ``"surface"`` (1 / e alone,
ungated) are ablations; ``neighbours=0`` leaves the positives as SimCSE's, ``negatives=0`` the negatives.

The candidates are mined once, before training, in the whole corpus (`sampler`); of several processes each mines those
of its share of the rows. Without a corpus a batch is its own, with spelling as its guide. The guide is never refreshed
by what is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.propensity import Weights, debiased
from counterpoint.data.sampler import Sampler, Shuffled
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.encoders.subwords import TextEncoder
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods import recipes
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, FalseNegatives
from counterpoint.objectives.scale import LogitScale
from counterpoint.processes import alone
from counterpoint.search.pool import Candidates, Guide, Pool, guide_of, pairs, pool_of
from counterpoint.train.config import TrainConfig
from counterpoint.train.team import launched
from counterpoint.views.text import delete_tokens, repeat_tokens, shuffle_tokens

EDITS = (delete_tokens, repeat_tokens, shuffle_tokens)


@dataclass(frozen=True, kw_only=True)
class Config:
    """guide: the frozen encoder that says what means the same: lsa (of the corpus), start (the encoder as training
    begins; for pretrained ones), spelling (n-grams of characters), or a model folder. neighbours, edits: of a sentence
    in C+. lookalikes, strangers: in C-. negatives: drawn per row. upper, lower: the quantiles that d+ and d- are.
    weights: ipw, uniform, semantic or surface. guard: leave out false negatives. length: lengths count in b as well.
    temperature: 1 / scale. t_semantic, t_surface, clip: as above. head: one layer, in training only."""

    temperature: float = 0.05
    guide: str = "lsa"
    neighbours: int = 16
    edits: int = 0
    lookalikes: int = 32
    strangers: int = 16
    negatives: int = 1
    upper: float = 0.75
    lower: float = 0.5
    t_semantic: float = 0.1
    t_surface: float = 0.2
    clip: float = 0.01
    weights: Weights = "ipw"
    guard: bool = True
    length: bool = False
    head: bool = True

    def __post_init__(self) -> None:
        if self.weights not in get_args(Weights):
            raise ConfigError(f"weights={self.weights!r}: type ipw, uniform, semantic or surface.")
        if min(self.neighbours, self.edits, self.lookalikes, self.strangers, self.negatives) < 0:
            raise ConfigError("neighbours, edits, lookalikes, strangers and negatives count: none can be below 0.")
        if not (0 <= self.upper <= 1 and 0 <= self.lower <= 1):
            raise ConfigError(f"upper={self.upper}, lower={self.lower}: quantiles lie between 0 and 1.")
        if min(self.t_semantic, self.t_surface, self.temperature) <= 0 or not 0 < self.clip <= 1:
            raise ConfigError("t_semantic, t_surface and temperature are above 0, and clip above 0 and at most 1.")


@method(
    "debcse",
    title="DebCSE: contrastive pairs by inverse propensity, so that surface form stops deciding",
    paper="arXiv 2309.07396",
    year=2023,
    modalities=("text",),
    needs=("texts",),
)
class DebCSE(Method):
    """Positives that mean the same and look different, negatives that look alike and mean something else."""

    Config = Config
    encoder: TextEncoder

    def __init__(self, encoder: TextEncoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        self.scale = LogitScale(self.config.temperature)
        self.head = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.Tanh()) if self.config.head else nn.Identity()
        self.pool: Pool | None = None
        self._corpus: tuple[RowSet, Guide] | None = None

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> Sampler:
        """Mines the candidates, several processes together as the training begins; the order of the rows is random."""
        if isinstance(rows, Stream):
            raise ConfigError("debcse looks for pairs in all sentences, not in a stream of them. Add --no-streaming.")
        self._corpus = rows, guide_of(self.config.guide, self.encoder)
        if launched()[1] == 1:
            self.before_training(0)
        return Shuffled(len(rows), config.batch, seed=config.seed)

    def before_training(self, steps: int) -> None:
        if self._corpus is None:
            return
        (rows, guide), self._corpus = self._corpus, None
        self.pool = pool = self.mine(list(rows.texts()), guide)
        near, far = self.weights(pool, pool.near, +1), self.weights(pool, pool.far, -1)
        rows.log.note(pool.coverage(near, far))

    def mine(self, texts: Sequence[str], guide: Guide) -> Pool:
        """Candidates of every text among the others; of several processes, all must call it with the same texts. guide:
        says what means the same."""
        c = self.config
        return pool_of(
            texts, guide, self.encoder.ids, neighbours=c.neighbours, lookalikes=c.lookalikes, strangers=c.strangers,
            upper=c.upper, lower=c.lower, length=c.length,
        )  # fmt: skip

    def weights(self, pool: Pool, found: Candidates, sign: int) -> np.ndarray:
        """What each candidate ``(N, K)`` is drawn with; sign +1 for positives, -1 for negatives. pool: of all texts.
        found: some of its candidates."""
        c = self.config
        keep = found.there & (found.a >= pool.upper if sign > 0 else found.a <= pool.lower)
        meaning, looks = sign * found.a / c.t_semantic, sign * found.b / c.t_surface
        return debiased(meaning, looks, kept=keep, there=found.there, by=c.weights, clip=c.clip)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """Labels: ``guide``, ``guide_positive`` ``(N, E)``; ``guide_negative`` ``(N, H, E)``, of which there are those
        that ``drawn`` ``(N, H)`` says, as many as items in the view of negatives; ``limit`` ``(N,)``, which is d-."""
        texts = [r["text"].strip() for r in rows]
        with alone():  # a batch without a corpus, with a guide that means the same in every process
            pool = self.pool or self.mine(texts, "spelling")
        edits = [EDITS[k % len(EDITS)] for k in range(self.config.edits)]
        count, tokenize = self.config.negatives, self.encoder.ids
        drawn = pairs(pool, texts, self.weights, rng, negatives=count, edits=edits, tokenize=tokenize)
        owner, place = np.nonzero(drawn.negative_ids >= 0)
        encoder, stream = self.encoder, self.encoder.modality
        views = [View(encoder.collate(texts), stream), View(encoder.collate(drawn.positives), stream, "positive")]
        if self.config.negatives:
            data = encoder.collate([pool.texts[i] for i in drawn.negative_ids[owner, place]])
            views.append(View(data, stream, "negative", owner=torch.from_numpy(owner)))
        labels = {
            "guide": pool.vectors(drawn.ids),
            "guide_positive": pool.vectors(drawn.positive_ids),
            "guide_negative": pool.vectors(drawn.negative_ids),
            "drawn": torch.from_numpy(drawn.negative_ids >= 0),
            "limit": torch.full((len(texts),), pool.lower),
        }
        return Batch(tuple(views), torch.tensor([r["row"] for r in rows]), labels)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        anchor, positive = (self._unit(batch.one(role)) for role in ("anchor", "positive"))
        negatives = self._unit(batch.one("negative")) if self.config.negatives else None
        scale, labels = self.scale(), batch.labels
        self.observe(anchor=anchor, positive=positive, scale=scale)
        known = torch.cat([labels["guide_positive"], labels["guide_negative"][labels["drawn"]]])
        others = FalseNegatives(labels["guide"], known, threshold=labels["limit"])
        pairing = Diagonal() & others if self.config.guard else Diagonal()
        return {"contrast": contrast(anchor, positive, pairing, scale=scale, extra=negatives)}

    def _unit(self, view: View) -> Tensor:
        return F.normalize(self.head(self.embed(self.encoder, view)), dim=-1)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(layers=12, width=768, pooling="cls", max_length=32),
                train=TrainConfig(batch=64, epochs=1, lr=3e-5, warmup=0.0, schedule="linear"),
            )
        return recipes.static_text(size, Config(head=False), batch=512, token_dropout=0.3)
