"""MultiCSR: sentence pairs that a language model wrote, refined three times.

Wang et al. 2024, "Large Language Models can Contrastively Refine their Generation for Better Sentence Representation
Learning", NAACL 2024, arXiv 2310.10962.

For whoever has sentences without labels and any language model that follows instructions, even a weak one. It writes a
positive and a negative of each sentence, against the opposite instruction where its probabilities can be seen; it
scores its own writing, and what does not hold is dropped or turned round. These two stages are `counterpoint refine`,
whose file of triplets this method learns from; the third is here: negatives that a frozen guide g finds almost the same
as the anchor are none.

    l_ij = scale f(x_i)·f(c_j),  c = all positives, then all negatives;   kept_ij = g(x_i)·g(c_j) <= phi, or j = i
    L_i = -log( exp(l_ii) / Σ_{j kept} exp(l_ij) ),   f, g of unit length, scale = 1 / temperature

The released code multiplies masked logits by 0 instead, which leaves them in the sum with weight 1, takes binary
cross-entropy over all entries, and runs g with dropout and inside the optimiser; what is here is what the paper says.
f carries a one-layer tanh head in training only. `guide` is a model folder, in the paper unsupervised SimCSE of the
same backbone; without one, the encoder as it was at the beginning.

Published settings: BERT-base, [CLS], Flan-T5-XL or ChatGPT as generator, lines at 3 of 5, temperature 0.05, phi 0.95,
batch 128, lr 5e-5, 3 epochs, 32 tokens.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from datasets import Dataset
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.data.curate import Triplet, curate
from counterpoint.data.loader import Loader
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import Shuffled
from counterpoint.data.schema import Kind, Row, Schema
from counterpoint.data.sets.registry import load
from counterpoint.encoders import folder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.evaluate.run import evaluate
from counterpoint.evaluate.similarity import cosines
from counterpoint.memory.teacher import Teacher
from counterpoint.methods import batches
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.text.simcse import Config as SimCSEConfig
from counterpoint.methods.text.simcse import SimCSE
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, FalseNegatives
from counterpoint.objectives.scale import LogitScale
from counterpoint.proofs.base import Proof
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer

MANY = 0.2
"""Share of masked negatives above which the guide is taken to find everything alike."""
LOOKED = 512
"""Most anchors, and most candidates, that this share is measured on."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """phi: cosine by the guide above which a negative is none; 1: no mask, and no guide. guide: a model folder (none:
    the encoder as it was at the beginning). head: the one-layer head of the paper, in training only."""

    temperature: float = 0.05
    phi: float = 0.95
    guide: str = ""
    head: bool = True

    def __post_init__(self) -> None:
        if not -1 <= self.phi <= 1:
            raise ConfigError(f"phi={self.phi}: a cosine, above which a negative is none; 1 masks nothing.")
        if self.guide and self.phi == 1:
            raise ConfigError("phi=1 masks nothing, so the guide would have no effect. Leave guide out, or lower phi.")


@method(
    "multicsr",
    title="MultiCSR: triplets written and refined by a language model",
    paper="arXiv 2310.10962",
    year=2024,
    modalities=("text",),
    needs=("pairs",),
)
class MultiCSR(Method):
    """Anchor finds positive among all positives and negatives that a frozen guide does not find the same."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None, *, guide: Encoder | None = None) -> None:
        """guide: what stands for the folder that the configuration names."""
        super().__init__(encoder, config)
        dim = encoder.dim
        self.scale = LogitScale(self.config.temperature)
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.Tanh()) if self.config.head else nn.Identity()
        self.guide: Teacher | None = None
        if self.config.phi < 1:
            frozen = guide or (folder.load(self.config.guide) if self.config.guide else encoder)
            self.guide = Teacher(frozen, momentum=1.0, dropout=False)
        self._told = False

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        batch = batches.pairs(self.encoder, rows)
        if self.guide is None:
            return batch
        # The guide has a vocabulary of its own.
        others = batches.pairs(self.guide.model, rows)
        guided = (replace(view, role=f"guide {view.role}") for view in others.views)
        return Batch((*batch.views, *guided), batch.rows)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        views = [batch.one("anchor"), batch.one("positive"), *batch.all("negative")]
        found = self.embed_each(self.encoder, views)
        anchor, positive, *negatives = (F.normalize(self.head(z), dim=-1) for z in found)
        pairing = Diagonal() if self.guide is None else Diagonal() & self.mask(batch)
        scale = self.scale()
        self.observe(anchor=anchor, positive=positive, scale=scale)
        extra = torch.cat(negatives) if negatives else None
        return {"contrast": contrast(anchor, positive, pairing, scale=scale, extra=extra)}

    def mask(self, batch: Batch) -> FalseNegatives:
        """The rule that takes out what the guide finds more alike than phi; the own positive always stays."""
        assert self.guide is not None
        with torch.no_grad():
            views = [v for role in ("anchor", "positive", "negative") for v in batch.all(f"guide {role}")]
            anchor, *others = (F.normalize(z, dim=-1) for z in self.embed_each(self.guide.model, views))
        candidates = torch.cat(others)
        self._look(anchor, candidates)
        return FalseNegatives(anchor, candidates, threshold=anchor.new_full((len(anchor),), self.config.phi))

    def _look(self, anchor: Tensor, candidates: Tensor) -> None:
        """Warn, once, where the guide takes out so much that little is left to tell apart."""
        if self._told or len(candidates) < 2:
            return
        above = anchor[:LOOKED] @ candidates[:LOOKED].T > self.config.phi
        above.fill_diagonal_(False)  # own positives
        if (share := above.sum().item() / (above.numel() - min(above.shape))) > MANY:
            self._told = True
            warnings.warn(
                f"The guide finds {share:.0%} of the negatives more alike than phi={self.config.phi:g}, so they are "
                "masked and hardly anything is left to learn. Raise phi, or name a guide that tells texts apart "
                "(--set guide=FOLDER).",
                stacklevel=4,
            )

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(layers=12, width=768, pooling="cls", max_length=32),
                train=TrainConfig(batch=128, epochs=3, lr=5e-5, warmup=0.0, schedule="linear"),
            )
        small = size == "small"
        return Recipe(
            config=Config(head=False),
            encoder=StaticTextConfig(dim=256 if small else 64),
            train=TrainConfig(batch=128 if small else 32, epochs=3 if small else 1, lr=3e-3, weight_decay=0.0),
        )


# --- proof -----------------------------------------------------------------------------------------------------

ARMS = {
    "both": "what curation leaves, false negatives masked",
    "curated": "what curation leaves",
    "mask": "all that was written, false negatives masked",
    "raw": "all that was written",
}
SIDES = ("anchor", "positive", "negative")


def _run(arm: str, seed: int, *, smoke: bool) -> dict[str, float]:
    """Captions of photos, spoilt as a weak generator would, teach which captions belong to one photo; measured by how
    well captions of unseen photos find another one of theirs.

    The scorer sees texts alone. The guide is SimCSE of the same encoder on the anchors alone. The lines are those of
    the smallest proof in this family of data, the threshold of the mask is a round number: neither was
    tuned.
    """
    triplets, right = _spoilt(np.random.default_rng(seed), 200 if smoke else 4_000)
    texts = [text for t in triplets for text in (t.anchor, t.positive, t.negative)]
    kept = curate(triplets, _scores(texts), keep=1.5, drop=1.5).kept if arm in ("both", "curated") else triplets

    torch.manual_seed(seed)
    encoder = StaticText.from_texts(iter(texts), StaticTextConfig(dim=128, vocabulary=8_000))
    train = TrainConfig(
        batch=64, steps=3 if smoke else 1_000, lr=5e-3, weight_decay=0.0, seed=seed, progress=False, device="cpu"
    )
    guide = None
    if arm in ("both", "mask"):
        guide = copy.deepcopy(encoder)
        guide.config = replace(guide.config, token_dropout=0.3)  # the views of SimCSE
        anchors = {"text": [t.anchor for t in triplets]}
        _fit(SimCSE(guide, SimCSEConfig(head=False)), "texts", anchors, replace(train, steps=3 if smoke else 100))
    learner = MultiCSR(encoder, Config(head=False, phi=1.0 if guide is None else 0.8), guide=guide)
    _fit(learner, "pairs", {side: [getattr(t, side) for t in kept] for side in SIDES}, train)

    unseen = load("captions", "test")
    rows = [{"anchor": r["anchor"], "positive": r["positive"], "row": i} for i, r in enumerate(unseen)]
    found = evaluate(encoder, rows, baselines=(), draws=10)
    precision = sum((t.anchor, t.positive) in right for t in kept) / len(kept)
    return {m: found[m].value.value for m in ("recall@10", "mrr@10")} | {"share of right positives": precision}


def _spoilt(rng: np.random.Generator, count: int) -> tuple[list[Triplet], set[tuple[str, str]]]:
    """Triplets of two captions of a photo and one of another, as a weak generator would have written them, and the
    pairs that are right: 30 % of the positives are of some other photo, 20 % of the triplets are turned round, and 15 %
    of those that are right come a second time with a word left out, as each other's false negatives."""
    rows = load("captions", "train")
    photos = [rows[int(i)]["captions"] for i in rng.permutation(len(rows))[:count]]
    right, out = set(), []
    for i, (anchor, positive, *_) in enumerate(photos):
        negative = photos[(i + 1 + int(rng.integers(count - 1))) % count][2]
        wrong, turned, twice = rng.random(3) < (0.3, 0.2, 0.15)
        if wrong:
            positive = photos[(i + 1 + int(rng.integers(count - 1))) % count][3]
        else:
            right.add((anchor, positive))
        sides = (negative, positive) if turned else (positive, negative)
        out.append(Triplet(anchor, *sides))
        if twice and not wrong and not turned:
            again = Triplet(_edited(anchor, rng), _edited(positive, rng), negative)
            right.add((again.anchor, again.positive))
            out.append(again)
    return out, right


def _edited(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    del words[int(rng.integers(len(words)))]
    return " ".join(words)


def _scores(texts: Sequence[str]) -> list[tuple[float, float]]:
    """Of each three texts, how alike the first is to the second and to the third: cosines of TF-IDF reduced to 100
    dimensions, from 0 to 5."""
    counted = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    z = TruncatedSVD(100, random_state=0).fit_transform(counted).reshape(len(texts) // 3, 3, -1)
    high, low = (5 * cosines(z[:, 0], z[:, i]).clip(0, 1) for i in (1, 2))
    return list(zip(high.tolist(), low.tolist()))


def _fit(learner: Method, kind: Kind, columns: Mapping[str, list[str]], train: TrainConfig) -> None:
    parts: dict[str, str | list[str]] = {("negatives" if c == "negative" else c): c for c in columns}
    parts |= {"negatives": ["negative"]} if "negatives" in parts else {}
    schema = Schema(kind=kind, columns=parts, modalities=dict.fromkeys(parts, "text"))
    rows = Rows(Dataset.from_dict(dict(columns)), schema)
    Trainer(learner, Loader(rows, Shuffled(len(rows), train.batch, seed=train.seed)), train).fit()


proof = Proof(
    claim="What a weak generator wrote teaches more, once it is curated by scores and false negatives are masked, than "
    "all of it does, masked or not.",
    arms=ARMS,
    metrics={"recall@10": True, "mrr@10": True, "share of right positives": True},
    data=("captions",),
    run=_run,
    full="Flan-T5-XL or ChatGPT on a million sentences of Wikipedia or the premises of SNLI and MNLI, BERT-base; "
    "published: a weaker model with the three stages beats plain data of ChatGPT on seven similarity sets.",
    minutes=3,
    against=("mask", "raw"),
)
