"""COCONUT: intents of speech that arrive task after task, learned without forgetting those of before.

Cappellazzo et al. 2023, "Continual Contrastive Spoken Language Understanding", Findings of ACL 2024, arXiv 2310.02699.

For a voice assistant that gets new intents every few weeks: old recordings are gone but for a small memory (1 % of
them), which is rehearsed in every batch. One decoder writes the intent and then the transcript. Two contrasts help it:
rehearsed recordings hold on to their places among old ones as the model before this task saw them (the teacher), and
away from all others as the model sees them now; recordings find their transcripts.

    h = unit(A mean of the encoder's places),   t = unit(T mean of the embeddings of intent and transcript)
    g = h by the teacher, a frozen copy of encoder and A at the end of the task before
    ce   = -log p(intent, transcript, end), a mean over tokens, of recordings of now and rehearsed ones
    nspt = mean over rehearsed k of mean over p in P(k) of
           -log [ exp(h_k·g_p/τ) / (Σ_{q in P(k)} exp(h_k·g_q/τ) + Σ_{i: y_i≠y_k} exp(h_k·h_i/τ)) ]
    mm   = mean over recordings k of now of  -log softmax_i(h_k·t_i/τ)[k] - log softmax_i(t_k·h_i/τ)[k]
    L    = ce + w_mm mm + w_nspt old/(old + new) nspt,   old, new: numbers of intents

P(k): the rehearsed recordings of the batch with the intent of k, itself among them; i goes over the whole batch. In the
first task, and without rehearsed recordings, nspt is 0. ``positives``, ``negatives``: whose embeddings they are, of
the student or of the teacher; teacher, student is NSPT; teacher, teacher NTPT; student, student NSPS. ``printed``: the
denominator as it is printed, over the student's embeddings of the whole batch and nothing else. Ablations: ``nspt=0``,
``mm=0`` (both: experience replay), ``memory=0`` (fine-tuning).

Published settings (size ``published``; some are not certain): 31 intents of Fluent Speech Commands in 6 tasks, memory
1 %, a pretrained wav2vec 2.0, decoder of 6 layers, 768 wide, 8 heads, τ 0.1, mm 0.1, batch 80, 5e-4. Here: transcripts
are written in bytes, not in subwords; the memory fills while a task goes on; of each batch a share ``replay`` is drawn
from the memory, where old and new rows were shuffled; recordings longer than the encoder hears are cut; without
transcript a recording has no part in mm and its target is its intent alone.

Rows are of recordings with a label; a number ``task`` says when they come (each class in one task), else the classes
are cut in their order into ``tasks`` parts. The decoder lives in the method: `Coconut.understand`; towers hold the
encoder. To begin with one that has heard speech: ``--encoder FOLDER`` of a run of w2v-bert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, Data, View, padded, take
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import InTurn, Sampler
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.decode.generate import Decoder
from counterpoint.decode.sample import greedy
from counterpoint.encoders.audio import AudioTransformer, AudioTransformerConfig
from counterpoint.encoders.byte_vocabulary import BEGIN, END, PAD, WORDS, read, spelled
from counterpoint.encoders.decoder import SequenceDecoder, Speaker
from counterpoint.encoders.pooling import pool
from counterpoint.encoders.states import TokenStates
from counterpoint.errors import ConfigError
from counterpoint.memory.rehearsal import Choice, Rehearsal, joined
from counterpoint.memory.teacher import Teacher
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.modalities.audio import recording
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal
from counterpoint.objectives.sides import sided_contrast
from counterpoint.objectives.tokens import token_nll
from counterpoint.processes import sizes, total, world
from counterpoint.train.config import TrainConfig

Side: TypeAlias = Literal["student", "teacher"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """labels: names of the intents; `fit` takes them from the rows. tasks: parts of the classes, where rows have no
    task. memory: examples kept, 0: none. choice: which, ``random`` or ``herding``. replay: rehearsed recordings in a
    batch, as a share of the others. temperature: τ. mm, nspt: weights. positives, negatives, printed: see above.
    projection: width of the space of contrast. width, depth, heads: of the decoder. longest: bytes of a transcript, the
    rest is cut off."""

    labels: tuple[str, ...] = ()
    tasks: int = 6
    memory: int = 232
    choice: Choice = "random"
    replay: float = 0.25
    temperature: float = 0.1
    mm: float = 0.1
    nspt: float = 1.0
    positives: Side = "teacher"
    negatives: Side = "student"
    printed: bool = False
    projection: int = 256
    width: int = 768
    depth: int = 6
    heads: int = 8
    longest: int = 200

    def __post_init__(self) -> None:
        if self.tasks < 1 or self.memory < 0 or self.longest < 0 or not self.replay >= 0:
            raise ConfigError(
                f"tasks={self.tasks}, memory={self.memory}, replay={self.replay}, longest={self.longest}: expected 1 "
                "or more, and 0 or more."
            )
        if not self.temperature > 0 or min(self.mm, self.nspt) < 0:
            raise ConfigError(f"temperature={self.temperature}, mm={self.mm}, nspt={self.nspt}: > 0, and 0 or more.")
        for name in ("positives", "negatives"):
            if getattr(self, name) not in get_args(Side):
                raise ConfigError(f"{name}={getattr(self, name)!r}: type student or teacher.")


@method(
    "coconut",
    title="COCONUT: intents of speech, task after task, by rehearsal and contrast",
    paper="arXiv 2310.02699",
    year=2023,
    modalities=("audio",),
    needs=("labelled",),
)
class Coconut(Method):
    """New intents are learned while rehearsed ones hold on to where the model of before saw them."""

    Config = Config
    encoder: AudioTransformer
    task: Tensor

    def __init__(self, encoder: AudioTransformer, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        if not isinstance(encoder, AudioTransformer):
            raise ConfigError(f"coconut trains an AudioTransformer, not a {type(encoder).__name__}.")
        classes = len(c.labels)
        if classes < 2:
            raise ConfigError("coconut tells intents apart: give the names of at least two, labels=('on', 'off').")
        self.decoder = SequenceDecoder(
            WORDS + classes, encoder.dim, dim=c.width, depth=c.depth, heads=c.heads, places=c.longest + 2
        )
        self.projection = nn.Linear(encoder.dim, c.projection)
        self.text = nn.Linear(c.width, c.projection) if c.mm else None
        fields = {**encoder.collate([]), "said": torch.zeros(0, 1, dtype=torch.long)}
        self.memory = Rehearsal(c.memory, classes, c.projection, fields=fields, choice=c.choice) if c.memory else None
        self.teacher = Teacher(self.student, momentum=0, dropout=False) if c.memory and c.nspt else None
        self.register_buffer("task", torch.tensor(-1))
        parts = np.array_split(np.arange(classes), min(c.tasks, classes))
        self.task_of = np.concatenate([np.full(len(p), i) for i, p in enumerate(parts)])

    @property
    def student(self) -> nn.Sequential:
        """Recordings to the space of contrast, unnormalised: what the teacher is a copy of."""
        return nn.Sequential(self.encoder, self.projection)

    # --- rows to batches ---------------------------------------------------------------------------------------------

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> Sampler | None:
        """Task after task. Raises `DataError` for a class of two tasks."""
        if isinstance(rows, Stream):
            raise ConfigError("coconut learns one task after another, which a stream cannot give. Add --no-streaming.")
        if not isinstance(rows, Rows):
            return None
        labels = rows.labels()
        column = rows.schema.columns.get("task")
        tasks = self.task_of[labels] if column is None else rows.column(str(column)).to_numpy().astype(np.int64)
        steps = None if config.steps is None else config.steps * config.accumulate
        how: dict[str, Any] = {"steps": steps, "epochs": config.epochs, "seed": config.seed}
        return InTurn(labels, tasks, config.batch, classes=rows.schema.labels, **how)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """The recordings. Labels: ``label``, ``task`` ``(N,)``, and ``said`` ``(N, L)``, the tokens to be written."""
        stream = self.encoder.modality
        said = [self.tokens(r["label"], r.get("text")) for r in rows]
        labels = {
            "label": torch.tensor([r["label"] for r in rows], dtype=torch.long),
            "task": torch.tensor([r.get("task", self.task_of[r["label"]]) for r in rows], dtype=torch.long),
            "said": padded(said, value=PAD, least=1),
        }
        data = self.encoder.collate([recording(r[stream]) for r in rows])
        return Batch((View(data, stream),), torch.tensor([r["row"] for r in rows]), labels)

    def tokens(self, label: int, text: str | None) -> list[int]:
        """Intent, transcript, end; the intent alone where nobody wrote down what was said.

        label: number of the intent. text: what was said, if somebody wrote it down."""
        if not text or not text.strip():
            return [WORDS + label]
        return [WORDS + label, *spelled(text.strip(), longest=self.config.longest), END]

    # --- losses ------------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        c, view = self.config, batch.one("anchor")
        self.begin(int(total(batch.labels["task"].amax() if len(batch) else self.task, "max")))
        assert not isinstance(view.data, Tensor)
        data: dict[str, Tensor] = {**view.data, "said": batch.labels["said"]}
        y, rows = batch.labels["label"], batch.rows
        again = torch.zeros_like(y, dtype=torch.bool) if self.memory is None else self.memory.learned[y]
        if self.memory is not None:
            kept = self.memory.draw(round(c.replay * sum(sizes(len(batch), y.device))))
            data = {name: joined(x, kept.data[name]) for name, x in data.items()}
            y, rows = torch.cat((y, kept.labels)), torch.cat((rows, kept.rows))
            again = torch.cat((again, torch.ones_like(kept.labels, dtype=torch.bool)))
        order = again.long().argsort(stable=True)  # those of now come first
        data = {name: x[order] for name, x in data.items()}
        y, rows, now = y[order], rows[order], int((~again).sum())
        said = data.pop("said")

        places, there = self.listen(data)
        h = F.normalize(self.projection(pool(places, there, mode="mean")), dim=-1)
        if self.training and self.memory is not None:
            offered = {name: x[:now] for name, x in {**data, "said": said}.items()}
            self.memory.offer(h[:now], rows[:now], y[:now], offered)
        out = {"ce": self.write(said, places, there)}
        if self.text is not None:
            out["mm"] = c.mm * self.match(h, said, now)
        if self.teacher is not None and self.memory is not None:
            old = self.memory.learned.sum()
            share = old / (self.memory.met | self.memory.learned).sum().clamp_min(1)
            # Where no task is over, the teacher is a copy of nothing that was learned.
            out["nspt"] = c.nspt * share * self.hold_on(h, y, now, data) if old else h.square().sum() * 0.0
        return out

    def begin(self, task: int) -> None:
        """The task of a batch; the first one of a new task ends the task before."""
        if task > int(self.task):
            if int(self.task) >= 0:
                self.end_task()
            self.task.fill_(task)

    def end_task(self) -> None:
        """What was learned becomes the teacher, and its examples can be rehearsed."""
        if self.memory is not None:
            self.memory.close()
        if self.teacher is not None:
            self.teacher.update(self.student)

    def listen(self, data: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The encoder's places ``(N, S, D)`` and which of them are real ``(N, S)``.

        data: of recordings."""
        found = self.embed(TokenStates(self.encoder, self.encoder.places(data["frames"].shape[1])), data)
        return found[..., :-1], found[..., -1] > 0.5

    def write(self, said: Tensor, places: Tensor, there: Tensor) -> Tensor:
        """How well the tokens are foretold, each from those before it.

        said: ``(N, L)`` tokens. places, there: as of `listen`."""
        ids = F.pad(said[:, :-1], (1, 0), value=BEGIN)
        return token_nll(self.decoder(ids, places, there), said, mask=said != PAD)

    def match(self, h: Tensor, said: Tensor, now: int) -> Tensor:
        """Recordings and transcripts, each of the first ``now`` against all; those without transcript have no part.

        h: ``(N, P)`` recordings. said: ``(N, L)`` tokens."""
        assert self.text is not None
        words = pool(self.decoder.embedding(said), (said != PAD) & (said != END), mode="mean")
        t = F.normalize(self.text(words), dim=-1)
        self.observe(anchor=h, positive=t)
        whole = (said == END).any(1)
        h, t, now = h[whole], t[whole], int(whole[:now].sum())
        if not now and world() == 1:
            return (h.square().sum() + t.square().sum()) * 0.0
        scale = 1 / self.config.temperature
        return contrast(h[:now], t, Diagonal(), scale=scale) + contrast(t[:now], h, Diagonal(), scale=scale)

    def hold_on(self, h: Tensor, y: Tensor, now: int, data: Data) -> Tensor:
        """nspt of the rehearsed recordings, those from ``now`` on, with positives and negatives of either side.

        h: ``(N, P)`` embeddings. y: their intents. data: of the recordings."""
        assert self.teacher is not None
        c, old, every = self.config, slice(now, None), self.config.negatives == "teacher"
        g = h
        if "teacher" in (c.positives, c.negatives):
            g = F.normalize(self.embed(self.teacher, data if every else take(data, old)), dim=-1)
        own = (g[old] if every else g) if c.positives == "teacher" else h[old]
        return sided_contrast(
            h[old], own, g if every else h, labels=y[old], negative_labels=y,
            scale=1 / c.temperature, itself=c.positives == "teacher", printed=c.printed,
        )  # fmt: skip

    # --- what is said ------------------------------------------------------------------------------------------------

    def intents(self, items: Sequence[Any]) -> Tensor:
        """The number of the intent of each recording, ``(N,)``.

        items: recordings."""
        return self._intents(*self._heard(items))

    def understand(self, items: Sequence[Any], how: Decoder = greedy, *, max_new: int = 100) -> list[tuple[str, str]]:
        """The intent and the transcript of each recording, as decoded by ``how`` (see `counterpoint.decode`).

        items: recordings. max_new: tokens of a transcript, at most."""
        places, there = self._heard(items)
        found = self._intents(places, there)
        speaker = Speaker(self.decoder, places, there, begin=BEGIN, ends=(END, PAD))
        room = min(max_new, self.config.longest)
        written = how(speaker, [[BEGIN, WORDS + i] for i in found.tolist()], max_new=room)
        return [(self.config.labels[i], read(ids)) for i, ids in zip(found.tolist(), written)]

    @torch.no_grad()
    def _heard(self, items: Sequence[Any]) -> tuple[Tensor, Tensor]:
        data = {name: x.to(self.task.device) for name, x in self.encoder.collate(items).items()}
        return self.encoder.tokens(data)

    @torch.no_grad()
    def _intents(self, places: Tensor, there: Tensor) -> Tensor:
        begin = torch.full((len(places), 1), BEGIN, device=places.device)
        return self.decoder(begin, places, there)[:, -1, WORDS:].argmax(-1)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        """``small`` is for some thousand short recordings."""
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=AudioTransformerConfig(blocks="transformer", dim=768, depth=12, heads=12),
                train=TrainConfig(batch=80, epochs=30, lr=5e-4, schedule="constant", stop_on_collapse=False),
            )
        small = size == "small"
        config = Config(
            tasks=5 if small else 2, memory=200 if small else 100, replay=0.5, projection=64 if small else 8,
            width=64 if small else 16, depth=2 if small else 1, heads=4 if small else 2,
        )  # fmt: skip
        encoder = AudioTransformerConfig(
            rate=8000, bands=40 if small else 20, channels=16 if small else 4, blocks="transformer",
            dim=64 if small else 16, depth=2 if small else 1, heads=4 if small else 2,
        )  # fmt: skip
        train = TrainConfig(batch=16, epochs=20 if small else 1, lr=1e-3, schedule="constant", stop_on_collapse=False)
        return Recipe(config=config, encoder=encoder, train=train)
