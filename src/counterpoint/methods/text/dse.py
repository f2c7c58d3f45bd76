"""DSE: a cross-encoder's logits distilled into embeddings and a small head over pairs of them.

Barkan et al. 2019, "Scalable Attentive Sentence-Pair Modeling via Distilled Sentence Embedding", arXiv 1908.05161
(AAAI 2020).

For whoever has a classifier that reads both texts of a pair together, accurate and N x M passes dear, and must score a
query against millions of candidates: here each text is encoded once, and a head scores pairs of embeddings.

    s = head([u; v; u*v; |u-v|]),   u = f(a), v = f(b),   t = teacher(a, b)
    L = (1 - weight) L_task(s, y) + weight Σ_c (s_c - t_c)²

t are raw logits: of two classes the difference t_1 - t_0, of C classes all, of a regression the score. L_task is binary
cross-entropy, cross-entropy or a squared error, over the rows that have a score; the other term is over the rows that
the teacher has judged. So pairs without a score teach too, where a teacher judges them (`unlabelled`).

Teacher logits are kept in a file by what the two texts say, never by order: rows may be shuffled and filtered. An
embedding is the mean over the tokens, but for [CLS], of the last four layers side by side. Head and teacher tell the
first text of a pair from the second. ``head=dot`` makes the score a product, which a vector index can search.

Published: BERT-large (whole-word masking) for both, each from the pretrained weights; teacher 3 epochs, student 5,
rate 2e-5, warm-up of a tenth, batch 32, weight 0.5, head of 512, dropout 0.1 on embeddings. The schedule counts updates
here; the released code counts micro-batches, and so walks half of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import Sampler
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.cross import CrossEncoder, Pair, Scorer, read_pairs
from counterpoint.encoders.pairs import Head, PairEncoder
from counterpoint.encoders.scores import Scores
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.distill import advice_on_scale, head_logits, logit_mse
from counterpoint.objectives.pointwise import Task, pointwise
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """teacher: folder or hub id of a text classifier that reads pairs ('': none). logits: file that its logits are
    kept in; without a teacher, only pairs in it are distilled. unlabelled: a file of pairs without scores (its first
    two columns of text), for the teacher to judge. extra: of these, for each labelled row of a batch.

    weight: of the distillation, 0 to 1. task: binary (scores 0 and 1), regression, classes (scores 0 to classes - 1);
    auto: one of the first two, as the scores are. class_map: the teacher's class for each of ours, where they are
    numbered otherwise. logit_scale: what the teacher's logits are divided by.

    top: layers side by side (transformers only; no more than there are). head, hidden: see `PairHead`. dropout: of
    embeddings, while training.
    """

    teacher: str = ""
    logits: str = ""
    unlabelled: str = ""
    extra: float = 2.0
    weight: float = 0.5
    task: Literal["auto", "binary", "regression", "classes"] = "auto"
    classes: int = 0
    class_map: tuple[int, ...] = ()
    logit_scale: float = 1.0
    top: int = 4
    head: Head = "features"
    hidden: int = 512
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ConfigError(f"weight={self.weight}: give a share from 0 (labels only) to 1 (teacher only).")
        if self.task not in ("auto", *get_args(Task)):
            raise ConfigError(f"task={self.task!r}: type one of auto, {', '.join(get_args(Task))}.")
        if (self.task == "classes") != (self.classes > 1):
            raise ConfigError(f"task={self.task}, classes={self.classes}: type task=classes and classes=3, or neither.")
        if not self.logit_scale > 0 or self.extra < 0:
            raise ConfigError(f"logit_scale={self.logit_scale}, extra={self.extra}: above 0, and at least 0.")
        if self.class_map and sorted(self.class_map) != list(range(max(2, self.classes))):
            raise ConfigError(f"class_map={self.class_map}: name each of the {max(2, self.classes)} classes once.")


@method(
    "dse",
    title="DSE: a cross-encoder distilled into embeddings and a pair head",
    paper="arXiv 1908.05161",
    year=2019,
    modalities=("text",),
    needs=("scored",),
)
class DSE(Method):
    """A head over the embeddings of two texts learns their score, and what a teacher says that reads both together."""

    Config = Config

    def __init__(
        self,
        encoder: Encoder,
        config: Config | None = None,
        *,
        teacher: Scorer | None = None,
        unlabelled: Sequence[Pair] = (),
    ) -> None:
        """teacher, unlabelled: instead of those that the config names."""
        c: Config = config or Config()
        super().__init__(PairEncoder.on(encoder, top=c.top, head=c.head, hidden=c.hidden, out=max(1, c.classes)), c)
        if teacher is None and c.teacher:
            teacher = CrossEncoder.from_pretrained(c.teacher)
        # No module: nothing of a teacher is trained or saved with the student.
        self.teacher = Scores(teacher, c.logits or None, name=c.teacher) if teacher is not None or c.logits else None
        self.unlabelled = list(unlabelled) or (read_pairs(c.unlabelled) if c.unlabelled else [])
        if self.unlabelled and self.teacher is None:
            raise ConfigError("Pairs without scores teach nothing without a teacher. Name one: --set teacher=FOLDER.")
        self.task: Task = "regression" if c.task == "auto" else c.task
        self._told = False

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> Sampler | None:
        """Batches as usual; the scores say what the task is."""
        if self.config.task == "auto":
            if not isinstance(rows, Rows):
                raise ConfigError("A stream does not show what scores are: type --set task=binary, or regression.")
            self.task = "binary" if np.isin(rows.scores(), (0.0, 1.0)).all() else "regression"
        if self.teacher is None and self.config.weight:
            warnings.warn(
                "No teacher is named, so the head learns from the scores alone. Name a classifier of pairs: "
                "--set teacher=FOLDER (or a hub id), or the file of its logits: --set logits=FILE.",
                stacklevel=2,
            )
        return None

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """Labels: ``score`` ``(N,)`` and ``teacher`` ``(N, C)``, NaN where there is none."""
        pairs = [(r["a"], r["b"]) for r in rows]
        number, score = [r["row"] for r in rows], [float(r["score"]) for r in rows]
        if self.unlabelled:
            more = rng.integers(len(self.unlabelled), size=round(self.config.extra * len(rows)))
            pairs += [self.unlabelled[i] for i in more]
            number += [-1] * len(more)
            score += [float("nan")] * len(more)
        a, b = (self.encoder.collate([p[side] for p in pairs]) for side in (0, 1))
        labels = {"score": torch.tensor(score), "teacher": self.judged(pairs)}
        stream = self.encoder.modality
        return Batch((View(a, stream, "anchor"), View(b, stream, "positive")), torch.tensor(number), labels)

    def judged(self, pairs: Sequence[Pair]) -> Tensor:
        """What the teacher says of pairs as logits of the student's head, ``(N, C)``, NaN where it says nothing."""
        c, out = self.config, max(1, self.config.classes)
        if self.teacher is None:
            return torch.full((len(pairs), out), float("nan"))
        found = head_logits(torch.from_numpy(self.teacher.score(pairs)), out, classes=c.class_map) / c.logit_scale
        self._tell(advice_on_scale(found, divided_by=c.logit_scale))
        return found

    def _tell(self, sentence: str) -> None:
        if sentence and not self._told:
            self._told = True
            warnings.warn(sentence, stacklevel=3)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(self.encoder, PairEncoder)
        u, v = (self.embed(self.encoder, batch.one(role)) for role in ("anchor", "positive"))
        self.observe(anchor=F.normalize(u, dim=-1), positive=F.normalize(v, dim=-1))
        u, v = (F.dropout(z, self.config.dropout, training=self.training) for z in (u, v))
        s, y, t = self.encoder.head(u, v), batch.labels["score"].to(u), batch.labels["teacher"].to(u)
        task = pointwise(s, y, task=self.task, mask=~y.isnan())
        if self.teacher is None:
            return {"task": task}
        share = self.config.weight
        if self.task == "regression" and not self._told:
            self._tell(advice_on_scale(t, y))
        return {"task": (1 - share) * task, "distillation": share * logit_mse(s, t, mask=~t.isnan().any(1))}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(layers=24, width=1024, heads=16, max_length=128),
                train=TrainConfig(batch=32, epochs=5, lr=2e-5, warmup=0.1, schedule="linear"),
            )
        small = size == "small"
        return Recipe(
            config=Config(hidden=512 if small else 32),
            encoder=StaticTextConfig(dim=256 if small else 32),
            train=TrainConfig(batch=64 if small else 32, epochs=10 if small else 1, lr=1e-3, weight_decay=0.01),
        )
